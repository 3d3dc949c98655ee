"""Every route and every call, by nobody, by a wrong key, and by keys with and without the right."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from starlette.applications import Starlette
from starlette.routing import Route

from oipserver import Model
from oipserver.config import AccessConfig
from oipserver.grpc._generated import open_inference_pb2 as pb
from tests.access.running import APP, SERVICE, KeyedServer, Sent, entry, key, write
from tests.conformance.wires import Connection, head, message
from tests.grpc.running import failure, raw_request
from tests.http.test_invocations import Scored
from tests.support import PATIENCE, Doubler

BODY = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [1.0, 2.0]}]}
EVERYBODY = {"", "wrong", "asks", "reads", "elsewhere", "boss"}
KNOWN = EVERYBODY - {"", "wrong"}
# Who asks "m" may look at it; who reads may look at all, "elsewhere" at another model alone.
ASKS = {"asks", "boss"}
LOOKS = {"asks", "reads", "boss"}
READS = {"reads", "elsewhere", "boss"}
BOSS = {"boss"}


class Way(NamedTuple):
    """A request and who may make it."""

    method: str
    path: str
    may: set[str]
    body: Any = None
    # For these there is nothing.
    lost: frozenset[str] = frozenset()
    # Of those who may; some extensions are switched off.
    statuses: tuple[int, ...] = (200,)


HTTP = [
    Way("GET", "/v2/health/live", EVERYBODY),
    Way("GET", "/v2/health/ready", EVERYBODY),
    Way("GET", "/ping", EVERYBODY),
    Way("GET", "/health", EVERYBODY),
    Way("GET", "/metrics", EVERYBODY),
    Way("GET", "/v2/docs", EVERYBODY),
    Way("GET", "/console", EVERYBODY, statuses=(307,)),
    Way("GET", "/console/", EVERYBODY),
    Way("GET", "/console/index.html", EVERYBODY),
    Way("GET", "/v2/apps", KNOWN),
    Way("GET", "/v2", KNOWN),
    Way("GET", "/version", KNOWN - {"elsewhere"}, lost=frozenset({"elsewhere"})),
    Way("GET", "/v2/models", READS),
    Way("GET", "/v2/models/m", LOOKS),
    Way("GET", "/v2/models/m/ready", LOOKS),
    Way("GET", "/v2/models/m/versions/1", LOOKS),
    Way("GET", "/v2/models/m/versions/1/ready", LOOKS),
    Way("GET", "/v2/models/m/openapi.json", LOOKS),
    Way("GET", "/v2/models/m/versions/1/openapi.json", LOOKS),
    Way("GET", "/v2/openapi.json", READS),
    Way("GET", "/openapi.json", READS),
    Way("POST", "/v2/models/m/infer", ASKS, BODY),
    Way("POST", "/v2/models/m/versions/1/infer", ASKS, BODY),
    Way("POST", "/v2/models/m/generate", ASKS, BODY),
    Way("POST", "/v2/models/m/versions/1/generate", ASKS, BODY),
    Way("POST", "/v2/models/m/generate_stream", ASKS, BODY),
    Way("POST", "/v2/models/m/versions/1/generate_stream", ASKS, BODY),
    Way("POST", "/v2/models/m/infer_stream", ASKS, BODY),
    Way("POST", "/v2/models/m/versions/1/infer_stream", ASKS, BODY),
    Way("POST", "/v2/models/scored/invocations", ASKS, b"1,2"),
    Way("POST", "/v2/models/scored/versions/1/invocations", ASKS, b"1,2"),
    Way("POST", "/invocations", ASKS, b"1,2", frozenset({"elsewhere"})),
    Way("GET", "/v2/models/m/config", LOOKS),
    Way("GET", "/v2/models/m/versions/1/config", LOOKS),
    Way("GET", "/v2/models/stats", READS),
    Way("GET", "/v2/models/m/stats", LOOKS - ASKS | BOSS),
    Way("GET", "/v2/models/m/versions/1/stats", LOOKS - ASKS | BOSS),
    *(
        Way(
            method,
            f"/v2/{kind}sharedmemory{path}",
            BOSS,
            {"key": "/none", "byte_size": 8},
            statuses=(200, 400, 404),
        )
        for kind in ("system", "cuda")
        for method, path in (
            ("GET", "/status"),
            ("GET", "/region/r/status"),
            ("POST", "/region/r/register"),
            ("POST", "/unregister"),
            ("POST", "/region/r/unregister"),
        )
    ),
    Way("POST", "/v2/repository/index", READS),
    Way("POST", "/v2/repository/models/spare/load", BOSS),
    Way("POST", "/v2/repository/models/spare/unload", BOSS),
    Way("GET", "/whoami", ASKS),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedServer]:
    folder = tmp_path_factory.mktemp("keys")
    write(
        folder / "keys.json",
        entry("asks", models=["m", "scored", "/whoami", "/files/open/*", "/own.Echo/*"]),
        entry("reads", roles=["read"]),
        entry("elsewhere", roles=["infer", "read"], models=["other"]),
        entry("boss", roles=["admin"]),
    )
    (folder / "app.py").write_text(APP)
    models: dict[str, Model] = {"m": Doubler(), "other": Doubler(), "spare": Doubler(), "scored": Scored()}
    access = AccessConfig(keys_file=str(folder / "keys.json"), check_interval=1000.0)
    with KeyedServer(access, models, folder / "app.py") as running:
        yield running


def expected(caller: str, may: set[str]) -> str:
    """The code of what comes back."""
    if caller in may:
        return "OK"
    return "UNAUTHORIZED" if caller in ("", "wrong") else "FORBIDDEN"


@pytest.mark.parametrize("caller", sorted(EVERYBODY))
@pytest.mark.parametrize("way", HTTP, ids=lambda way: f"{way.method} {way.path}")
def test_http(server: KeyedServer, way: Way, caller: str) -> None:
    headers = {"Authorization": f"Bearer {key(caller)}"} if caller else {}
    if way.body == b"1,2":
        headers["Content_Type"] = "text/csv"
    answer = server.ask(way.method, way.path, way.body, **headers)
    code = "NOT_FOUND" if caller in way.lost else expected(caller, way.may)
    if code == "OK":
        assert answer.status in way.statuses, answer.body
    else:
        answer.error(code)
        assert ("www-authenticate" in answer.headers) == (code == "UNAUTHORIZED")
        assert key(caller) not in answer.body.decode()


def test_every_route_is_in_the_table(server: KeyedServer) -> None:
    names = {"{model}": ("m", "scored", "spare"), "{version}": ("1",), "{region}": ("r",)}
    covered = {way.path for way in HTTP}
    missing = []
    for path in routes_of(server):
        spelled = {path}
        for hole, values in names.items():
            spelled = {one.replace(hole, value) for one in spelled for value in values}
        if not spelled & covered:
            missing.append(path)
    # Scripts and styles of pages, and what is there for browsers alone.
    beside = ("/v2/docs/", "/console/")
    assert [path for path in missing if not path.startswith(beside)] == ["/"]


def routes_of(server: KeyedServer) -> Iterator[str]:
    """The paths of the router behind the doors."""
    app: Any = server.server._app
    while not isinstance(app, Starlette):
        app = next(getattr(app, name) for name in ("_own", "_rest", "_app") if hasattr(app, name))
    for route in app.routes:
        assert isinstance(route, Route)
        yield route.path


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/files/open/a", 200),
        ("/files/open/./a", 200),
        ("/files/open/b/../a", 200),
        ("/files/closed/a", 403),
        ("/files/open/../closed/a", 403),
        ("/files/open/%2e%2e/closed/a", 403),
        ("/files/open/%2E./closed/a", 403),
        ("/files/open/b/../../closed/a", 403),
        ("/files/open/..", 403),
        ("/files/closed/../open/a", 403),
    ],
)
def test_dots_in_a_path_lead_nowhere_else(server: KeyedServer, path: str, status: int) -> None:
    """The server does not undo them, but a mounted application may."""
    assert server.ask("GET", path, x_api_key=key("asks")).status == status


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v2/nothing", "NOT_FOUND"),
        ("PUT", "/v2/models/m", "METHOD_NOT_ALLOWED"),
        ("GET", "/v2/models/m/infer", "METHOD_NOT_ALLOWED"),
        ("POST", "/whoami", "METHOD_NOT_ALLOWED"),
    ],
)
def test_route_and_method_are_told_to_nobody_too(
    server: KeyedServer, method: str, path: str, code: str
) -> None:
    server.ask(method, path).error(code)


def test_what_a_key_may_not_see_is_as_if_it_were_not_there(server: KeyedServer) -> None:
    mine = {"x_api_key": key("elsewhere")}
    assert server.ask("GET", "/v2/models", **mine).json() == {"models": ["other"]}
    refusals = [
        server.ask(method, f"/v2/models/{model}{rest}", BODY, **mine)
        .error("FORBIDDEN")
        .replace(f"'{model}'", "M")
        for model in ("m", "nothing")
        for method, rest in (("POST", "/infer"), ("GET", ""), ("GET", "/ready"))
    ]
    assert refusals[:3] == refusals[3:]
    server.ask("GET", "/v2/models/other-one", **mine).error("FORBIDDEN")
    server.ask("GET", "/v2/models/nothing", x_api_key=key("boss")).error("NOT_FOUND")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x_api_key": key("asks")}, "OK"),
        ({"X_API_KEY": key("asks")}, "OK"),
        ({"Authorization": f"bearer {key('asks')}"}, "OK"),
        ({"Authorization": f"BEARER   {key('asks')} "}, "OK"),
        ({"Authorization": "Basic dXNlcjpwYXNz", "x_api_key": key("asks")}, "OK"),
        ({"Authorization": f"Bearer {key('asks')}", "x_api_key": key("asks")}, "OK"),
        ({"Authorization": f"Bearer {key('asks')}", "x_api_key": key("boss")}, "UNAUTHORIZED"),
        ({"Authorization": key("asks")}, "UNAUTHORIZED"),
        ({"Authorization": f"Basic {key('asks')}"}, "UNAUTHORIZED"),
        ({"Authorization": "Bearer"}, "UNAUTHORIZED"),
        ({"x_api_key": ""}, "UNAUTHORIZED"),
        ({"x_api_key": key("asks") + "x"}, "UNAUTHORIZED"),
        ({"x_api_key": key("asks")[:-1]}, "UNAUTHORIZED"),
        ({"x_api_key": "\xff" * 2000}, "UNAUTHORIZED"),
        ({"Cookie": f"x-api-key={key('asks')}"}, "UNAUTHORIZED"),
        ({"_peer_subject": "CN=boss"}, "BAD_REQUEST"),
    ],
)
def test_where_a_key_may_stand(server: KeyedServer, headers: dict[str, str], code: str) -> None:
    for path in ("/v2/models/m/infer", "/v2/models/m/infer?x=1", "/v2/models/m/generate"):
        if "_peer_subject" in headers:
            headers = {":peer_subject": headers["_peer_subject"]}
        answer = server.ask("POST", path, BODY, **headers)
        if code == "OK":
            assert answer.status == 200
        elif code == "BAD_REQUEST":
            assert answer.status == 400
        else:
            answer.error(code)


@pytest.mark.parametrize("query", ["x-api-key", "api_key", "access_token", "key"])
def test_a_key_in_the_query_is_none(server: KeyedServer, query: str) -> None:
    server.ask("POST", f"/v2/models/m/infer?{query}={key('asks')}", BODY).error("UNAUTHORIZED")


def test_a_known_head_is_asked_for_its_key_each_time(server: KeyedServer) -> None:
    body = json.dumps(BODY).encode()
    good = message("POST", "/v2/models/m/infer", body, {"x-api-key": key("asks")})
    bad = message("POST", "/v2/models/m/infer", body, {"x-api-key": key("asks") + "x"})
    with Connection(server.http_port) as connection:
        statuses = [connection.send(data).answer().status for data in (good, good, bad, good, bad, good)]
    assert statuses == [200, 200, 401, 200, 401, 200]


def test_the_parts_of_the_page_are_open_with_it(server: KeyedServer) -> None:
    parts = [path for path in routes_of(server) if path.startswith("/v2/docs")]
    assert len(parts) > 1
    assert {server.ask("GET", path).status for path in parts} == {200}


def test_nobody_s_body_is_waited_for(server: KeyedServer) -> None:
    """Nor is its size told."""
    for path in ("/v2/models/m/infer", "/v2/models/m/infer?x", "/v2/models/m/generate", "/whoami"):
        method = "GET" if path == "/whoami" else "POST"
        with Connection(server.http_port) as connection:
            connection.send(head(method, path, {"Content-Length": str(10**10)})).answer().error(
                "UNAUTHORIZED"
            )


def test_keys_stand_in_no_log_and_no_metric(server: KeyedServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = [key(name) for name in ("asks", "elsewhere", "wrong-key")]
    for secret in secrets:
        server.ask("POST", "/v2/models/m/infer", BODY, x_api_key=secret)
        server.ask("GET", "/whoami", Authorization=f"Bearer {secret}")
        server.ask("GET", f"/v2/nothing?key={secret}", x_api_key=secret)
        for path in ("ModelInfer", "/own.Echo/Echo", "ModelReady"):
            with suppress(grpc.RpcError):
                server.call(path, INFER, x_api_key=secret)
    told = caplog.text + server.ask("GET", "/metrics").body.decode()
    assert [secret for secret in secrets if secret in told] == []


def test_a_custom_route_knows_its_caller(server: KeyedServer) -> None:
    assert server.ask("GET", "/whoami", x_api_key=key("asks")).json() == {"name": "asks"}


# --- gRPC --------------------------------------------------------------------------------------------------

INFER = raw_request(1.0).SerializeToString()
REFLECT = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
HEALTH = health_pb2.HealthCheckRequest().SerializeToString()


class Rpc(NamedTuple):
    """A call and who may make it."""

    path: str
    may: set[str]
    message: bytes = b""


RPCS = [
    Rpc("/grpc.health.v1.Health/Check", EVERYBODY, HEALTH),
    Rpc("ServerLive", EVERYBODY),
    Rpc("ServerReady", EVERYBODY),
    Rpc("ServerMetadata", KNOWN),
    Rpc("ModelReady", LOOKS, pb.ModelReadyRequest(name="m").SerializeToString()),
    Rpc("ModelMetadata", LOOKS, pb.ModelMetadataRequest(name="m").SerializeToString()),
    Rpc("ModelInfer", ASKS, INFER),
    Rpc("ModelConfig", LOOKS, pb.ModelConfigRequest(name="m").SerializeToString()),
    Rpc("ModelStatistics", READS),
    Rpc("ModelStatistics", READS - {"elsewhere"}, pb.ModelStatisticsRequest(name="m").SerializeToString()),
    Rpc("SystemSharedMemoryStatus", BOSS),
    Rpc("SystemSharedMemoryRegister", BOSS),
    Rpc("SystemSharedMemoryUnregister", BOSS),
    Rpc("RepositoryIndex", READS),
    Rpc("RepositoryModelLoad", BOSS, pb.RepositoryModelLoadRequest(model_name="spare").SerializeToString()),
    Rpc(
        "RepositoryModelUnload", BOSS, pb.RepositoryModelUnloadRequest(model_name="spare").SerializeToString()
    ),
    Rpc("/own.Echo/Echo", ASKS, b"hello"),
]
STREAMS = [
    Rpc("ModelStreamInfer", ASKS, INFER),
    Rpc("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", READS, REFLECT),
]


def check_status(call: Callable[[], object], code: str, caller: str) -> None:
    """The call must end like this."""
    if code == "OK":
        assert call() is not None
        return
    status, text, trailers = failure(call)
    assert trailers["error-code"] == code
    assert trailers["x-request-id"]
    assert (
        status
        is {
            "UNAUTHORIZED": grpc.StatusCode.UNAUTHENTICATED,
            "FORBIDDEN": grpc.StatusCode.PERMISSION_DENIED,
        }[code]
    )
    assert key(caller) not in text


def metadata(caller: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key(caller)}"} if caller else {}


@pytest.mark.parametrize("caller", sorted(EVERYBODY))
@pytest.mark.parametrize("rpc", RPCS, ids=lambda rpc: rpc.path)
def test_grpc(server: KeyedServer, rpc: Rpc, caller: str) -> None:
    code = expected(caller, rpc.may)
    call = lambda: server.call(rpc.path, rpc.message, **metadata(caller))  # noqa: E731
    if code == "OK" and "SharedMemory" in rpc.path:
        assert failure(call)[0] is grpc.StatusCode.UNIMPLEMENTED  # it is switched off
    else:
        check_status(call, code, caller)


@pytest.mark.parametrize("caller", sorted(EVERYBODY))
@pytest.mark.parametrize("rpc", STREAMS, ids=lambda rpc: rpc.path)
def test_grpc_streams(server: KeyedServer, rpc: Rpc, caller: str) -> None:
    code = expected(caller, rpc.may)
    if rpc.path == "ModelStreamInfer" and code == "FORBIDDEN":  # said of each request, the stream goes on
        [answer] = server.stream(rpc.path, rpc.message, **metadata(caller))
        assert "may not ask 'm'" in pb.ModelStreamInferResponse.FromString(answer).error_message
        return
    check_status(lambda: server.stream(rpc.path, rpc.message, **metadata(caller)), code, caller)


def test_every_call_is_in_the_table() -> None:
    service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    unserved = {name for name in service.methods_by_name if name.startswith("Cuda")}
    covered = {rpc.path for rpc in (*RPCS, *STREAMS)}
    assert set(service.methods_by_name) - covered - unserved == set()


def test_a_key_may_stand_in_the_configured_metadata(server: KeyedServer) -> None:
    assert server.call("ModelInfer", INFER, x_api_key=key("asks"))
    two = {"x_api_key": key("asks"), "authorization": f"Bearer {key('boss')}"}
    check_status(lambda: server.call("ModelInfer", INFER, **two), "UNAUTHORIZED", "asks")


def test_refused_calls_leave_nothing_behind(server: KeyedServer, caplog: pytest.LogCaptureFixture) -> None:
    """More than there are places for calls, some with a large message; a neighbour still has a place."""
    large = raw_request(*[1.0] * 50_000).SerializeToString()
    call = server.channel.unary_unary(SERVICE + "ModelInfer", None, None)
    pending = [
        call.future(large if at % 10 == 0 else INFER, timeout=PATIENCE, metadata=(("x-api-key", "no"),))
        for at in range(1200)
    ]
    statuses = {one.exception(PATIENCE).code() for one in pending}
    assert statuses <= {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE}
    assert grpc.StatusCode.UNAUTHENTICATED in statuses
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    own = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", own) as neighbour:
        infer: Any = neighbour.unary_unary(SERVICE + "ModelInfer", None, None)
        good = (("x-api-key", key("asks")),)
        assert all(infer(INFER, timeout=PATIENCE, metadata=good) for _ in range(20))


def test_a_refused_call_is_not_asked_for_its_message(server: KeyedServer) -> None:
    """Its message never comes, and yet it is answered."""
    call = server.channel.stream_unary(SERVICE + "ModelInfer", None, None)

    def ask() -> grpc.StatusCode:
        return failure(lambda: call(iter(Sent()), timeout=PATIENCE, metadata=(("x-api-key", "no"),)))[0]

    status, end = ask(), time.monotonic() + PATIENCE
    while status is grpc.StatusCode.UNAVAILABLE and time.monotonic() < end:
        status = ask()  # those of the test before may have all the places of calls for a moment
    assert status is grpc.StatusCode.UNAUTHENTICATED
