"""What can be configured: the sections, their types and limits, and the names by which they are reached.

One law names every setting: the file key `http.port` is the flag `--http-port` is the variable
`OIPSERVER_HTTP_PORT`; `apps`, a list, is `--app`.  A few flags (`MODEL_FLAGS`) describe one model instead.
"""
# ruff: noqa: RUF009 -- `setting` is `dataclasses.field` with a help text

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta

from oipserver.config.fields import Leaf, leaves, setting
from oipserver.config.uris import SCHEMES
from oipserver.core.model_config import ModelConfig

MIB = 2**20
PREFIX = "OIPSERVER_"

Port: TypeAlias = (
    Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            title="PORT",
            description="a port from 0 (any free one) to 65535, or 'off'",
            extra={"off": True},
        ),
    ]
    | None
)
Count = Annotated[int, Meta(ge=1, le=10**12, title="N", description="a whole number from 1")]
# Each may be a thread.
Few = Annotated[int, Meta(ge=1, le=4096, title="N", description="a whole number from 1 to 4096")]
Size = Annotated[int, Meta(ge=1, le=2**40, title="BYTES", description="a whole number of bytes from 1")]
# grpcio keeps sizes and counts in a C int.
GrpcCount = Annotated[int, Meta(ge=1, le=2**31 - 1, title="N", description="a whole number from 1")]
GrpcSize = Annotated[int, Meta(ge=1, le=2**31 - 1, title="BYTES", description="bytes from 1 to 2147483647")]
# As milliseconds in a C int.
GrpcSeconds = Annotated[
    float,
    Meta(ge=0.001, le=2e6, title="SECONDS", description="seconds from 0.001 to 2000000"),
]
GrpcAge: TypeAlias = (
    Annotated[
        float,
        Meta(
            ge=0.001,
            le=2e6,
            title="SECONDS",
            description="seconds from 0.001 to 2000000, or 'off'",
            extra={"off": True},
        ),
    ]
    | None
)
Seconds = Annotated[float, Meta(gt=0, le=10**9, title="SECONDS", description="seconds above 0")]
# More would keep a core busy for nothing.
Moment = Annotated[float, Meta(ge=0, le=0.01, title="SECONDS", description="seconds from 0 to 0.01")]
Pause = Annotated[float, Meta(ge=0, le=10**9, title="SECONDS", description="seconds from 0")]
Share = Annotated[float, Meta(ge=0, lt=1, title="SHARE", description="a number from 0 to below 1")]
Target = Annotated[float, Meta(gt=0, lt=1, title="SHARE", description="a number between 0 and 1")]
Part = Annotated[float, Meta(ge=0, le=1, title="SHARE", description="a number from 0 to 1")]
Host = Annotated[str, Meta(pattern=r"\A\S+\Z", title="HOST", description="an address or a host name")]
HeaderName = Annotated[
    str,
    Meta(
        pattern=r"\A(?!(?i:authorization)\Z)[A-Za-z0-9-]{1,64}(?<!-bin)\Z",
        title="NAME",
        description="a header's name of letters, digits and dashes, other than authorization",
    ),
]
Folder = Annotated[str, Meta(title="DIR", description="a directory")]
File = Annotated[str, Meta(title="FILE", description="a file", extra={"path": True})]
Uri = Annotated[str, Meta(min_length=1, title="URI", description="a local path or a URI")]
Digest = Annotated[
    str, Meta(pattern=r"\A[0-9a-fA-F]{64}\Z", title="SHA256", description="64 hexadecimal digits")
]
Level = Annotated[int, Meta(ge=0, le=1000, title="N", description="a whole number from 0 to 1000")]
Tries = Annotated[int, Meta(ge=0, le=1000, title="N", description="a whole number from 0 to 1000")]
Names = Annotated[tuple[str, ...], Meta(title="NAME,...", description="a list of names")]
KeyList = Annotated[
    str | list[Any], Meta(title="LIST", description="a list of keys, or the text of one in JSON or YAML")
]
Parts = Annotated[
    tuple[Literal["health", "metrics", "docs", "none"], ...],
    Meta(title="PART,...", description="a list of health, metrics, docs, or none"),
]
Codes = Annotated[
    tuple[str, ...], Meta(title="FILE.py,...", description="a list of file.py[:name] or module[:name]")
]
Name = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z",
        title="NAME",
        description="1 to 128 of the characters A-Z a-z 0-9 . _ - with a letter or digit first",
    ),
]


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """The HTTP front; port None serves no HTTP."""

    port: Port = setting(8080, "HTTP port; 0 takes any free one, 'off' serves no HTTP")
    max_json_bytes: Size = setting(32 * MIB, "Largest JSON body")
    max_body_bytes: Size = setting(64 * MIB, "Largest body with binary tensors")
    max_header_bytes: Size = setting(65536, "Largest header block")
    max_headers: Count = setting(100, "Headers per request")
    max_url_bytes: Size = setting(8192, "Longest request target")
    header_timeout: Seconds = setting(10.0, "Time to send a request's headers")
    body_timeout: Seconds = setting(
        30.0, "Time for a small body; window of --http-min-body-rate for a large one"
    )
    min_body_rate: Size = setting(1000, "Bytes per second that a large body or answer must keep up")
    keep_alive_timeout: Seconds = setting(75.0, "Time that an idle connection stays open")
    write_timeout: Seconds = setting(60.0, "Time for a client to take its answer, likewise")
    max_connections: Count = setting(10_000, "Open connections")
    busy_poll: Moment = setting(
        0.0001, "Time to look for the next request before going to sleep, as long as that pays"
    )
    server_timing: bool = setting(True, "Good answers say in a Server-Timing header where their time went")


@dataclass(frozen=True, slots=True)
class GrpcConfig:
    """The gRPC front; port None serves no gRPC."""

    port: Port = setting(8081, "gRPC port; 0 takes any free one, 'off' serves no gRPC")
    max_message_bytes: GrpcSize = setting(64 * MIB, "Largest message")
    max_concurrent_rpcs: Few = setting(512, "RPCs in progress; one more is refused at once")
    max_connections: GrpcCount = setting(5_000, "Open connections; one more is closed at once")
    max_metadata_bytes: GrpcSize = setting(16384, "Largest metadata of a call")
    max_connection_idle: GrpcSeconds = setting(600.0, "Time that a connection without calls stays open")
    max_connection_age: GrpcAge = setting(
        None, "Time after which a client is sent to connect anew, and so to spread; 'off' is never"
    )


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Encryption of both fronts; without files both speak plainly."""

    cert_file: File = setting("", "Certificate of the server and its chain, PEM; both fronts speak TLS then")
    key_file: File = setting("", "Its private key, PEM, without a passphrase")
    client_ca_file: File = setting("", "Certificates of those who sign for clients, PEM")
    client_auth: Literal["none", "optional", "required"] = setting(
        "none", "Whether clients show a certificate; over gRPC 'optional' asks for none"
    )
    check_interval: Seconds = setting(10.0, "How often the files are looked at for a change")
    handshake_timeout: GrpcSeconds = setting(10.0, "Time for a client to finish its handshake")
    terminated: bool = setting(False, "A proxy in front speaks TLS, so keys may come in plain to this server")


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """What one request and all requests together may use."""

    default_timeout: Seconds = setting(60.0, "Deadline of a request that asks for no shorter one")
    max_queue_size: Count = setting(8192, "Requests that may wait in the whole server")
    max_queue_bytes: Size = setting(1024 * MIB, "Tensor bytes that may wait in the whole server")
    hang_timeout: Seconds = setting(
        300.0, "A model's call that takes longer has its thread replaced; after 4 such the model is FAILED"
    )
    exit_on_hang: bool = setting(False, "Leave the process, exit code 1, when a model is FAILED so")


@dataclass(frozen=True, slots=True)
class ShutdownConfig:
    """What happens between SIGTERM and the end."""

    lame_duck: Pause = setting(5.0, "Time to go on accepting while already reported as not ready")
    drain: Pause = setting(20.0, "Time then left for accepted requests")


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """Who may use the server; without keys everybody may do everything."""

    keys_file: File = setting("", "Keys and what each may do: a list in a YAML, TOML or JSON file")
    keys: KeyList = setting("", "Such a list itself, as JSON or YAML")
    header: HeaderName = setting("x-api-key", "Header or metadata with a key, besides Authorization: Bearer")
    open: Parts = setting(("health", "metrics", "docs"), "What needs no key; 'none' is nothing")
    check_interval: Seconds = setting(5.0, "How often the file of the keys is looked at for a change")


@dataclass(frozen=True, slots=True)
class IdempotencyConfig:
    """Answers to requests with an Idempotency-Key, kept to be given again."""

    ttl: Seconds = setting(300.0, "Time that an answer is kept")
    max_keys: Count = setting(10_000, "Answers that are kept; the oldest go first")
    max_bytes: Size = setting(64 * MIB, "Tensor bytes of the answers that are kept")


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"] = setting("info", "Least important level to log")
    format: Literal["auto", "json", "text"] = setting(
        "auto", "How a line is written; auto is text on a terminal, else JSON"
    )
    requests: Part = setting(
        1.0, "Share of the inferences that are logged; the server's own failures always are"
    )


@dataclass(frozen=True, slots=True)
class TracingConfig:
    """Where spans go; needs the extra `tracing`.  The variables OTEL_* of OpenTelemetry hold as well."""

    endpoint: str = setting("", "OTLP/HTTP collector to send spans to, as http://collector:4318; else none")


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """What GET /metrics shows besides the server's own."""

    triton_names: bool = setting(False, "Show Triton's nv_inference_* metrics, too")


@dataclass(frozen=True, slots=True)
class SourcesConfig:
    """How models that are not on this machine get here."""

    cache_dir: str = setting("", "Where fetched models are kept; else oipserver/ in the user's cache")
    schemes: Names = setting(SCHEMES, "Schemes that model URIs may have, besides file")
    allow_hosts: Names = setting(
        (), "Hosts, addresses or networks (10.0.0.0/8) that http URIs may reach although they are not public"
    )
    max_bytes: Size = setting(16 * 1024 * MIB, "Largest model, fetched and unpacked")
    max_files: Count = setting(10_000, "Most files in an archive or under a prefix")
    timeout: Seconds = setting(1800.0, "Time to fetch one model, with all tries")
    attempt_timeout: Seconds = setting(600.0, "Time for one try")
    retries: Tries = setting(6, "Tries after a failed one")


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Everything that the server is told before it starts."""

    host: Host = setting("127.0.0.1", "Address to listen on, for both fronts; 0.0.0.0 is every interface")
    model_repository: Folder = setting("", "An MLServer repository: model-settings.json in it or below")
    apps: Codes = setting((), "Routes of your own: file.py[:name] or module[:name]")
    model_control: Literal["none", "poll", "explicit"] = setting(
        "none", "Who has models loaded again: nobody but SIGHUP, a change of their files, or callers"
    )
    poll_interval: Seconds = setting(5.0, "How often --model-control poll looks at the files of models")
    shared_memory: bool = setting(False, "Let clients of this machine put tensors into shared memory")
    console: bool = setting(True, "Serve pages for people at /console, where / leads a browser")
    http: HttpConfig = field(default_factory=HttpConfig)
    grpc: GrpcConfig = field(default_factory=GrpcConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)
    access: AccessConfig = field(default_factory=AccessConfig)
    idempotency: IdempotencyConfig = field(default_factory=IdempotencyConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    shutdown: ShutdownConfig = field(default_factory=ShutdownConfig)
    sources: SourcesConfig = field(default_factory=SourcesConfig)
    log: LogConfig = field(default_factory=LogConfig)
    tracing: TracingConfig = field(default_factory=TracingConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    models: tuple[ModelConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """A leaf that flags and the environment reach: one name, three spellings."""

    name: str
    leaf: Leaf

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def env(self) -> str:
        return PREFIX + self.name.upper()


# The core's dataclass says `int`; here stands which ints.
MODEL_LEAVES = leaves(
    ModelConfig,
    {
        "name": Name,
        "version": Name | Annotated[int, Meta(ge=0)],  # `version: 2` in YAML is meant as "2"
        "runtime": Annotated[str, Meta(min_length=1, title="NAME", description="an installed runtime")],
        "model_uri": Uri,
        "sha256": Digest,
        "execution_tolerance": Share,
        "max_batch_size": Annotated[
            int,
            Meta(
                ge=0, le=10**9, title="ROWS", description="rows from 1, or 0 for a model without batch axis"
            ),
        ],
        "dynamic_batching.max_queue_delay_microseconds": Annotated[
            int, Meta(ge=0, le=10**9, title="MICROSECONDS", description="microseconds from 0")
        ]
        | None,
        "dynamic_batching.max_queue_size": Count,
        "dynamic_batching.max_queue_bytes": Size,
        "dynamic_batching.priority_levels": Level,
        "dynamic_batching.default_priority_level": Level,
        "instance_group.count": Few,
        "slo.latency": Seconds | None,
        "slo.target": Target,
        "slo.availability": Target | None,
    },
)
MODEL_FLAGS = {
    "model_name": ("name", "Name in URLs; else the last part of the path"),
    "model_uri": ("model_uri", "The model: a file or directory, or the URI of one"),
    "model_sha256": ("sha256", "SHA-256 that the fetched file must have; 'oipserver inspect' prints it"),
    "trust_pickle": ("trust_pickle", "Load fetched files that run code, as pickles do, without a pin"),
    "runtime": ("runtime", "What loads it; see 'oipserver runtimes'"),
    "model_version": ("version", "Version in URLs"),
    "execution": ("execution", "What computes a scikit-learn model: itself, or ONNX Runtime"),
    "execution_tolerance": ("execution_tolerance", "By how much of itself a compiled answer may differ"),
    "max_batch_size": ("max_batch_size", "Rows per call of the model; 0 when its tensors have no batch axis"),
    "max_queue_delay_microseconds": (
        "dynamic_batching.max_queue_delay_microseconds",
        "Longest wait for company in a batch; else it follows the measured batch time",
    ),
    "instances": ("instance_group.count", "Threads that may call the model at the same time"),
    "placement": (
        "instance_group.placement",
        "Where it runs: by measured cost, on the event loop, on a thread",
    ),
    "slo_latency": ("slo.latency", "Time within which a good answer is there; the metrics count those"),
    "slo_target": ("slo.target", "Share of the answers that shall be good so"),
    "slo_availability": ("slo.availability", "Share of the requests that the server shall not fail"),
}

CONFIG_FILE = Setting("config", Leaf("config", str, None, "YAML, TOML or JSON file", "FILE", "a file", False))
SERVER_LEAVES = {path: leaf for path, leaf in leaves(ServerConfig).items() if path != "models"}
_SINGULAR = {"apps": "app"}  # a flag mostly names one, a file lists them
SERVER_SETTINGS = tuple(
    Setting(_SINGULAR.get(path, path.replace(".", "_")), leaf) for path, leaf in SERVER_LEAVES.items()
)
MODEL_SETTINGS = tuple(
    Setting(name, replace(MODEL_LEAVES[path], help=text)) for name, (path, text) in MODEL_FLAGS.items()
)
SETTINGS = {one.name: one for one in (CONFIG_FILE, *MODEL_SETTINGS, *SERVER_SETTINGS)}
