"""Every fault that this server knows, produced for real: its status, its body or trailers, its headers.

`Answer.error` and `Status.error` in `wires.py` check the form: the four members of the body, the exact
Content-Type, X-Request-Id, Retry-After, that nothing is compressed; the trailers of a gRPC status.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import orjson
import pytest

from oipserver import ModelConfig
from oipserver.grpc._generated.open_inference_pb2 import (
    ModelConfigRequest,
    ModelMetadataRequest,
    ModelReadyRequest,
    ModelReadyResponse,
    ModelStatisticsRequest,
)
from oipserver.http.limits import HttpLimits
from tests.conformance.callers import Caller, document, infer, protobuf
from tests.conformance.models import SECRET
from tests.conformance.system import MAX_BODY, MAX_JSON, Ended, Served, System
from tests.conformance.wires import CONTRACT, Channel, Connection, ask, failed, head, message
from tests.support import PATIENCE, Doubler, GatedModel, faults

INFER = "/v2/models/doubler/infer"
HOSTS = ("ours", "h11", "httptools")


@dataclass(frozen=True)
class Wrong:
    """An HTTP request and the error that it must get."""

    name: str
    code: str
    method: str
    target: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()


def _post(name: str, code: str, members: Mapping[str, Any], *words: str, model: str = "doubler") -> Wrong:
    body = orjson.dumps({**document(), **members})
    return Wrong(name, code, "POST", f"/v2/models/{model}/infer", body, words=words)


def _extension(name: str, **parameters: Any) -> dict[str, Any]:
    tensor = {**document()["inputs"][0], "parameters": parameters}
    if name == "output":
        return {"outputs": [{"name": "y", "parameters": parameters}]}
    del tensor["data"]
    return {"inputs": [tensor]}


REGION = {"shared_memory_region": "r", "shared_memory_byte_size": 16}
WRONG = [
    _post("a malformed request", "BAD_REQUEST", {"inputs": []}, "inputs"),
    _post("data that the model refuses", "UNPROCESSABLE", document(15.0), "counts"),
    _post("no such model", "NOT_FOUND", {}, "nobody", model="nobody"),
    _post("no such version", "NOT_FOUND", {}, "'9'", model="doubler/versions/9"),
    Wrong("metadata of no model", "NOT_FOUND", "GET", "/v2/models/nobody", words=("nobody",)),
    Wrong("metadata of no version", "NOT_FOUND", "GET", "/v2/models/doubler/versions/9", words=("'9'",)),
    Wrong("readiness of no model", "NOT_FOUND", "GET", "/v2/models/nobody/ready", words=("nobody",)),
    Wrong("no route", "NOT_FOUND", "GET", "/v3", words=("/v3",)),
    Wrong("no route to post to", "NOT_FOUND", "POST", "/v2/models/doubler/explain", words=("explain",)),
    Wrong("the root", "NOT_FOUND", "GET", "/", words=("/",)),
    Wrong("a method of another route", "METHOD_NOT_ALLOWED", "GET", INFER, words=("POST", "GET")),
    Wrong("a method that no route takes", "METHOD_NOT_ALLOWED", "DELETE", "/v2", words=("GET", "DELETE")),
    Wrong("a body over the limit", "PAYLOAD_TOO_LARGE", "POST", INFER, b" " * (MAX_JSON + 1),
          words=(str(MAX_JSON),)),
    Wrong("a multipart body", "UNSUPPORTED_MEDIA_TYPE", "POST", INFER, b"--x--",
          {"Content-Type": "Multipart/Form-Data; boundary=x"}, ("multipart",)),
    Wrong("an unknown encoding", "UNSUPPORTED_MEDIA_TYPE", "POST", INFER, b"x",
          {"Content-Encoding": "br"}, ("gzip", "deflate", "zstd", "br")),
    _post("shared memory", "UNSUPPORTED", _extension("input", **REGION), "shared_memory_region"),
    _post("shared memory for an output", "UNSUPPORTED", _extension("output", **REGION), "shared_memory_"),
    Wrong("shared memory's state", "UNSUPPORTED", "GET", "/v2/systemsharedmemory/status", words=("is off",)),
    Wrong("shared memory to register", "UNSUPPORTED", "POST", "/v2/systemsharedmemory/region/r/register",
          words=("is off",)),
    Wrong("shared memory to forget", "UNSUPPORTED", "POST", "/v2/systemsharedmemory/unregister",
          words=("is off",)),
    Wrong("CUDA memory to register", "UNSUPPORTED", "POST", "/v2/cudasharedmemory/region/r/register",
          words=("CUDA",)),
    _post("no classes", "BAD_REQUEST", _extension("output", classification=0), "classification"),
    _post("a model that raises", "INFERENCE_FAILED", document(13.0), "failed"),
    _post("a model that loads", "NOT_READY", {}, "LOADING", model="loading"),
    _post("a model that failed to load", "NOT_READY", {}, "FAILED", model="broken"),
    Wrong("metadata of a model that loads", "NOT_READY", "GET", "/v2/models/loading", words=("LOADING",)),
    Wrong("readiness of a model that loads", "NOT_READY", "GET", "/v2/models/loading/ready",
          words=("LOADING",)),
    Wrong("readiness of a model that failed", "NOT_READY", "GET", "/v2/models/broken/ready",
          words=("FAILED", "the file is empty")),
    Wrong("readiness of the server", "NOT_READY", "GET", "/v2/health/ready", words=("loading", "broken")),
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_an_http_error_has_the_form_of_the_contract(system: System, host: str, wrong: Wrong) -> None:
    headers = {**wrong.headers, "Accept-Encoding": "gzip, deflate, br, zstd", "X-Request-Id": "Mine-1"}
    with Connection(system.ports[host]) as connection:
        answer = connection.ask(message(wrong.method, wrong.target, wrong.body, headers))
        text = answer.error(wrong.code)
        for word in wrong.words:
            assert word in text
        assert answer.headers["x-request-id"] == "Mine-1"
        assert answer.headers.get("retry-after") == ("1" if answer.status == 503 else None)
        assert ("allow" in answer.headers) == (answer.status == 405)
        if "br" in wrong.headers.values():
            assert answer.headers["accept-encoding"] == "gzip, deflate, zstd"
        if answer.headers.get("connection") != "close":
            assert connection.ask(message("GET", "/v2/health/live")).status == 200
        else:
            assert connection.at_end()


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("GET", INFER, {"POST"}),
        ("PUT", "/v2/models/doubler", {"GET", "HEAD"}),
        ("POST", "/v2", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    system: System, host: str, method: str, target: str, allowed: set[str]
) -> None:
    answer = ask(system.ports[host], method, target)
    answer.error("METHOD_NOT_ALLOWED")
    assert set(answer.headers["allow"].split(", ")) == allowed


def test_a_head_request_for_an_infer_route_is_refused_without_a_body(system: System) -> None:
    with Connection(system.ports["ours"]) as connection:
        answer = connection.send(message("HEAD", INFER)).answer(has_body=False)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        assert connection.ask(message("GET", "/v2/health/live")).status == 200


# --- gRPC --------------------------------------------------------------------------------------------------


def _with(**members: Any) -> bytes:
    request = protobuf()
    for name, value in members.items():
        setattr(request, name, value)
    return request.SerializeToString()


def _with_parameters(place: str, **parameters: Any) -> bytes:
    request = protobuf()
    owner = request.inputs[0] if place == "input" else request.outputs.add(name="y")
    if place == "input":  # whose data is elsewhere
        del request.raw_input_contents[:]
    for name, value in parameters.items():
        if isinstance(value, str):
            owner.parameters[name].string_param = value
        else:
            owner.parameters[name].int64_param = value
    return request.SerializeToString()


GRPC_WRONG: list[tuple[str, str, str, bytes, str]] = [
    ("malformed", "BAD_REQUEST", "ModelInfer", b"\xff\xff", "protobuf"),
    ("no model name", "BAD_REQUEST", "ModelInfer", b"", "model_name"),
    ("refused data", "UNPROCESSABLE", "ModelInfer", protobuf(15.0).SerializeToString(), "counts"),
    ("no model", "NOT_FOUND", "ModelInfer", _with(model_name="nobody"), "nobody"),
    ("no version", "NOT_FOUND", "ModelInfer", _with(model_version="9"), "'9'"),
    ("metadata of no model", "NOT_FOUND", "ModelMetadata",
     ModelMetadataRequest(name="nobody").SerializeToString(), "nobody"),
    ("metadata of no version", "NOT_FOUND", "ModelMetadata",
     ModelMetadataRequest(name="doubler", version="9").SerializeToString(), "'9'"),
    ("shared memory", "UNSUPPORTED", "ModelInfer", _with_parameters("input", **REGION), "shared_memory_"),
    ("shared memory's state", "UNSUPPORTED", "SystemSharedMemoryStatus", b"", "is off"),
    ("shared memory to register", "UNSUPPORTED", "SystemSharedMemoryRegister", b"", "is off"),
    ("shared memory to forget", "UNSUPPORTED", "SystemSharedMemoryUnregister", b"", "is off"),
    ("CUDA memory to register", "UNSUPPORTED", "CudaSharedMemoryRegister", b"", "CUDA"),
    ("statistics of no model", "NOT_FOUND", "ModelStatistics",
     ModelStatisticsRequest(name="nobody").SerializeToString(), "nobody"),
    ("configuration of no model", "NOT_FOUND", "ModelConfig",
     ModelConfigRequest(name="nobody").SerializeToString(), "nobody"),
    ("no classes", "BAD_REQUEST", "ModelInfer", _with_parameters("output", classification=0),
     "classification"),
    ("a model that raises", "INFERENCE_FAILED", "ModelInfer", protobuf(13.0).SerializeToString(), "failed"),
    ("a model that loads", "NOT_READY", "ModelInfer", _with(model_name="loading"), "LOADING"),
    ("a model that failed", "NOT_READY", "ModelInfer", _with(model_name="broken"), "FAILED"),
    ("metadata of a model that loads", "NOT_READY", "ModelMetadata",
     ModelMetadataRequest(name="loading").SerializeToString(), "LOADING"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "rpc", "request_bytes", "word"),
    [pytest.param(*row[1:], id=row[0]) for row in GRPC_WRONG],
)
def test_a_grpc_error_has_the_form_of_the_contract(
    channel: Channel, code: str, rpc: str, request_bytes: bytes, word: str
) -> None:
    status = failed(channel.call(rpc, request_bytes, [("x-request-id", "Mine-1")]))
    assert word in status.error(code)
    assert status.trailers["x-request-id"] == "Mine-1"


@pytest.mark.parametrize(
    "rpc", ["TraceSetting", "RepositoryIndex", "/inference.Nothing/Nothing", "/no/slash/no/sense"]
)
def test_an_unknown_rpc_is_unimplemented(channel: Channel, rpc: str) -> None:
    assert failed(channel.call(rpc, b"")).code is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_over_the_limit_is_resource_exhausted(channel: Channel) -> None:
    status = failed(channel.call("ModelInfer", bytes(MAX_BODY + 1)))
    assert status.code is CONTRACT["PAYLOAD_TOO_LARGE"][1]


@pytest.mark.parametrize("name", ["nobody", "loading", "broken", "../x", ""])
def test_model_ready_says_no_instead_of_failing(channel: Channel, name: str) -> None:
    answer = channel.call("ModelReady", ModelReadyRequest(name=name).SerializeToString())
    assert isinstance(answer, bytes)
    assert not ModelReadyResponse.FromString(answer).ready


# --- faults of a moment ------------------------------------------------------------------------------------


def test_while_the_server_ends_new_requests_are_refused(caller: Caller, draining: None) -> None:
    assert caller.start("doubler").ended() == "NOT_READY"


def test_while_the_server_ends_it_is_live_and_not_ready(calm: System) -> None:
    gate, port = calm.plane.gate, calm.ports["ours"]
    assert ask(port, "GET", "/v2/health/ready").status == 200
    gate.stopping = True
    try:
        assert "shutting down" in ask(port, "GET", "/v2/health/ready").error("NOT_READY")
        assert ask(port, "GET", "/v2/models/m/ready").error("NOT_READY")
        assert ask(port, "GET", "/v2/health/live").status == 200
        assert infer(port, model="m").status == 200, "the lame duck still answers"
    finally:
        gate.stopping = False


def test_a_full_queue_refuses_at_once_and_answers_those_inside(
    system: System, caller: Caller, gated: GatedModel
) -> None:
    computing = caller.start("gated", 1.0)
    assert gated.entered.acquire(timeout=PATIENCE)
    waiting = [caller.start("gated", value) for value in (2.0, 3.0)]
    system.wait_queued("gated", 2)
    assert caller.start("gated", 4.0).ended() == "OVERLOADED"
    assert caller.start("doubler").ended() == "OK", "another model is not held up"
    gated.gate.set()
    assert [one.ended() for one in (computing, *waiting)] == ["OK"] * 3
    system.journal.wait_for(Ended(caller.front, "gated", "OVERLOADED"))


def test_a_request_in_the_queue_is_answered_at_its_timeout_and_never_computed(
    system: System, caller: Caller, gated: GatedModel
) -> None:
    computing = caller.start("gated", 1.0)
    assert gated.entered.acquire(timeout=PATIENCE)
    assert caller.start("gated", 7.0, timeout=20_000).ended() == "TIMEOUT"
    gated.gate.set()
    assert computing.ended() == "OK"
    assert gated.calls == [1]


def test_a_request_in_the_model_is_answered_at_its_timeout(
    system: System, caller: Caller, gated: GatedModel
) -> None:
    assert caller.start("gated", 1.0, timeout=20_000).ended() == "TIMEOUT"
    system.journal.wait_for(Ended(caller.front, "gated", "TIMEOUT"))
    system.wait_inside(0)
    gated.gate.set()
    assert caller.start("gated", 2.0).ended() == "OK"


def test_the_deadline_of_a_grpc_call_counts(system: System, channel: Channel, gated: GatedModel) -> None:
    computing = channel.start("ModelInfer", protobuf(1.0, "gated").SerializeToString())
    assert gated.entered.acquire(timeout=PATIENCE)
    status = failed(channel.infer(protobuf(2.0, "gated"), timeout=0.05))
    assert status.code is grpc.StatusCode.DEADLINE_EXCEEDED
    system.wait_inside(1)
    gated.gate.set()
    assert computing.result()
    assert gated.calls == [1]


def test_a_caller_who_leaves_is_counted_as_cancelled(
    system: System, caller: Caller, gated: GatedModel, caplog: pytest.LogCaptureFixture
) -> None:
    before = _cancelled(system, caller.front)
    pending = caller.start("gated")
    assert gated.entered.acquire(timeout=PATIENCE)
    assert _metric(system, "oip_requests_in_flight") == 1
    pending.leave()
    system.journal.wait_for(Ended(caller.front, "gated", "CANCELLED"))
    assert _metric(system, "oip_requests_in_flight") == 0
    assert _cancelled(system, caller.front) == before + 1
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


def _cancelled(system: System, front: str) -> float:
    return _metric(
        system, f'oip_requests_total{{code="CANCELLED",front="{front}",model="gated",version="1"}}'
    )


def _metric(system: System, name: str) -> float:
    lines = ask(system.ports["ours"], "GET", "/metrics").body.decode().splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.rsplit(" ", 1)[0] == name), 0.0)


@pytest.mark.parametrize("value", [13.0, 14.0])
def test_what_a_model_raises_is_logged_and_not_sent(
    system: System, channel: Channel, caplog: pytest.LogCaptureFixture, value: float
) -> None:
    answer = infer(system.ports["ours"], orjson.dumps(document(value)))
    status = channel.refused(protobuf(value))
    assert SECRET in caplog.text
    for told in (answer.error("INFERENCE_FAILED"), status.error("INFERENCE_FAILED")):
        assert "swordfish" not in told
        assert "Error" not in told


# --- faults of slow and oversized senders ------------------------------------------------------------------


@pytest.fixture(scope="module")
def hasty() -> Iterator[System]:
    """A server with little patience."""
    config = ModelConfig(name="doubler", runtime="test")
    limits = HttpLimits(header_timeout=0.05, body_timeout=0.05)
    with System({"doubler": Served(config, Doubler)}, limits) as running:
        yield running


@pytest.fixture(scope="module")
def strict() -> Iterator[System]:
    """A server with little room."""
    config = ModelConfig(name="doubler", runtime="test")
    limits = HttpLimits(max_header_bytes=4096, max_url_bytes=1024)
    with System({"doubler": Served(config, Doubler)}, limits) as running:
        yield running


@pytest.mark.parametrize("start", [b"GET /v2 HTTP/1.1\r\nHost:", b"GE"], ids=["half a head", "half a method"])
def test_a_slow_head_is_refused_and_the_connection_closed(hasty: System, start: bytes) -> None:
    refused_and_closed(hasty, "REQUEST_TIMEOUT", start)


def refused_and_closed(system: System, code: str, start: bytes) -> None:
    with Connection(system.ports["ours"]) as connection:
        answer = connection.ask(start)
        answer.error(code)
        assert answer.headers["connection"] == "close"
        assert connection.at_end()


@pytest.mark.parametrize(
    ("code", "start"),
    [
        pytest.param("URI_TOO_LONG", message("GET", "/v2/models/" + "x" * 1024), id="a long target"),
        pytest.param(
            "HEADERS_TOO_LARGE", message("GET", "/v2", headers={"A": "x" * 4096}), id="a long header"
        ),
        pytest.param(
            "HEADERS_TOO_LARGE",
            head("GET", "/v2", [(f"A{number}", "x") for number in range(101)]),
            id="many headers",
        ),
    ],
)
def test_an_oversized_head_is_refused_and_the_connection_closed(
    strict: System, code: str, start: bytes
) -> None:
    refused_and_closed(strict, code, start)


@pytest.mark.parametrize("framing", [{"Content-Length": "100"}, {"Transfer-Encoding": "chunked"}])
def test_a_slow_body_is_refused_and_its_slot_freed(hasty: System, framing: Mapping[str, str]) -> None:
    with Connection(hasty.ports["ours"]) as connection:
        answer = connection.ask(head("POST", INFER, framing) + b'5\r\n{"inp')
        answer.error("REQUEST_TIMEOUT")
        assert answer.headers["connection"] == "close"
        assert connection.at_end()
    hasty.wait_inside(0)


# --- the table is whole ------------------------------------------------------------------------------------


def test_every_fault_of_the_core_is_produced_here() -> None:
    produced = {wrong.code for wrong in WRONG} | {row[1] for row in GRPC_WRONG}
    elsewhere = {
        "OVERLOADED", "TIMEOUT", "CANCELLED", "REQUEST_TIMEOUT", "URI_TOO_LONG", "HEADERS_TOO_LARGE",
        "ALREADY_EXISTS",  # tests/protocol
        "UNAUTHORIZED", "FORBIDDEN", "RATE_LIMIT", "CONFLICT",  # tests/access
    }  # fmt: skip
    # A bug of ours cannot be produced without making one.
    assert {kind.code for kind in faults()} == produced | elsewhere | {"INTERNAL"}
