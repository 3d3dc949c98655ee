"""What can be configured: the sections, their types and limits, and the names by which they are reached.

One law names every setting: the file key `http.port` is the flag `--http-port` is the variable
`OIPSERVER_HTTP_PORT`; `apps`, a list, is `--app`.  A few flags (`MODEL_FLAGS`) describe one model instead.
"""
# ruff: noqa: RUF009 -- `setting` is `dataclasses.field` with a help text

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, TypeAlias

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
# grpcio keeps message sizes in a C int.
GrpcSize = Annotated[int, Meta(ge=1, le=2**31 - 1, title="BYTES", description="bytes from 1 to 2147483647")]
Seconds = Annotated[float, Meta(gt=0, le=10**9, title="SECONDS", description="seconds above 0")]
Pause = Annotated[float, Meta(ge=0, le=10**9, title="SECONDS", description="seconds from 0")]
Share = Annotated[float, Meta(ge=0, lt=1, title="SHARE", description="a number from 0 to below 1")]
Host = Annotated[str, Meta(pattern=r"\A\S+\Z", title="HOST", description="an address or a host name")]
Folder = Annotated[str, Meta(title="DIR", description="a directory")]
Uri = Annotated[str, Meta(min_length=1, title="URI", description="a local path or a URI")]
Digest = Annotated[
    str, Meta(pattern=r"\A[0-9a-fA-F]{64}\Z", title="SHA256", description="64 hexadecimal digits")
]
Tries = Annotated[int, Meta(ge=0, le=1000, title="N", description="a whole number from 0 to 1000")]
Names = Annotated[tuple[str, ...], Meta(title="NAME,...", description="a list of names")]
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


@dataclass(frozen=True, slots=True)
class GrpcConfig:
    """The gRPC front; port None serves no gRPC."""

    port: Port = setting(8081, "gRPC port; 0 takes any free one, 'off' serves no gRPC")
    max_message_bytes: GrpcSize = setting(64 * MIB, "Largest message")
    max_concurrent_rpcs: Few = setting(512, "RPCs in progress; one more is refused at once")


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """What one request and all requests together may use."""

    default_timeout: Seconds = setting(60.0, "Deadline of a request that asks for no shorter one")
    max_queue_size: Count = setting(8192, "Requests that may wait in the whole server")
    max_queue_bytes: Size = setting(1024 * MIB, "Tensor bytes that may wait in the whole server")


@dataclass(frozen=True, slots=True)
class ShutdownConfig:
    """What happens between SIGTERM and the end."""

    lame_duck: Pause = setting(5.0, "Time to go on accepting while already reported as not ready")
    drain: Pause = setting(20.0, "Time then left for accepted requests")


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"] = setting("info", "Least important level to log")


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
    http: HttpConfig = field(default_factory=HttpConfig)
    grpc: GrpcConfig = field(default_factory=GrpcConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    shutdown: ShutdownConfig = field(default_factory=ShutdownConfig)
    sources: SourcesConfig = field(default_factory=SourcesConfig)
    log: LogConfig = field(default_factory=LogConfig)
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
        "instance_group.count": Few,
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
