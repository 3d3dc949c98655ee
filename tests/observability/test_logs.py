"""The log of a real process: what stands in a line, and what never stands there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from oipserver.grpc._generated.open_inference_pb2 import (
    ModelMetadataRequest,
    ModelReadyRequest,
    RepositoryModelLoadRequest,
)
from tests.observability.served import (
    KEY,
    MARKER,
    Http,
    call,
    document,
    keys,
    lines_of,
    logged,
    message,
    serving,
    text_document,
)
from tests.server_process import PATIENCE, ServerProcess

SERVICE = "/inference.GRPCInferenceService"
INFER = f"{SERVICE}/ModelInfer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(tmp_path_factory.mktemp("logs")) as server:
        yield server


@pytest.fixture(scope="module")
def channel(server: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_target) as channel:
        yield channel


def test_a_request_over_http_has_one_line_with_its_phases(server: ServerProcess) -> None:
    body = document(1.0, 2.0, 3.0)
    with Http(server) as http:
        status, headers, _ = http.ask("POST", "/v2/models/double/infer", body, x_request_id="one-line")
    line = logged(server, "one-line")
    assert (status, headers["x-request-id"]) == (200, "one-line")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    phases = {name: line.pop(name) for name in ("decode", "queue", "compute", "encode")}
    assert all(0 <= seconds < 10 for seconds in phases.values())
    assert phases["compute"] > 0
    assert line.pop("seconds") >= sum(phases.values()) * 0.99
    assert line == {
        "level": "INFO",
        "event": "request",
        "front": "http",
        "route": "/v2/models/{model}/infer",
        "model": "double",
        "version": "1",
        "code": "OK",
        "status": 200,
        "rows": 3,
        "batch_rows": 3,
        "request_id": "one-line",
        "bytes": len(body),
    }


def test_requests_that_http_takes_together_have_a_line_each(server: ServerProcess) -> None:
    ids = [f"together-{number}" for number in range(40)]
    with Http(server) as http:
        http.ask("POST", "/v2/models/double/infer", document(1.0, id="first"))
    connections = [Http(server) for _ in ids]
    for connection, one in zip(connections, ids, strict=True):
        body = document(1.0, id=one)
        head = f"POST /v2/models/double/infer HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.send(head.encode() + body)
    for connection, one in zip(connections, ids, strict=True):
        with connection:
            status, headers, _ = connection.answer()
        assert (status, headers["x-request-id"]) == (200, one)
        line = logged(server, one)
        assert (line["status"], line["rows"]) == (200, 1)
        assert line["batch_rows"] >= 1


def test_a_call_over_grpc_has_one_line_and_its_id_in_the_trailers(
    server: ServerProcess, channel: grpc.Channel
) -> None:
    body = message("echo", "a", "b").SerializeToString()
    status, trailers = call(channel, INFER, body, ("x-request-id", "by-grpc"))
    line = logged(server, "by-grpc")
    assert (status, trailers["x-request-id"]) == ("OK", "by-grpc")
    assert (line["front"], line["route"], line["model"]) == ("grpc", "ModelInfer", "echo")
    assert (line["code"], line["status"], line["rows"], line["bytes"]) == ("OK", "OK", 2, len(body))
    assert {"decode", "queue", "compute", "encode"} <= line.keys()


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "status", "route"),
    [
        ("POST", "/v2/models/double/infer", b"{", "BAD_REQUEST", 400, "/v2/models/{model}/infer"),
        ("POST", "/v2/models/none/infer", document(1.0), "NOT_FOUND", 404, "/v2/models/{model}/infer"),
        ("GET", "/v2/models/double/infer", b"", "METHOD_NOT_ALLOWED", 405, "/v2/models/{model}/infer"),
        ("POST", "/v2/models/echo/generate", text_document("a"), "OK", 200, "/v2/models/{model}/generate"),
        ("GET", "/v2/models/double", b"", "OK", 200, "/v2/models/{model}"),
        ("GET", "/no/such/path", b"", "NOT_FOUND", 404, None),
        ("BREW", "/v2", b"", "BAD_REQUEST", 400, None),
    ],
)
def test_every_route_has_its_line(
    server: ServerProcess, method: str, path: str, body: bytes, code: str, status: int, route: str | None
) -> None:
    with Http(server) as http:
        got, headers, _ = http.ask(method, path, body)
    line = logged(server, headers["x-request-id"])
    assert (got, line["status"], line["code"], line.get("route")) == (status, status, code, route)


def test_a_failure_is_an_error_and_its_traceback_has_one_line(server: ServerProcess) -> None:
    with Http(server) as http:
        status, _, _ = http.ask(
            "POST", "/v2/models/echo/infer", text_document("a", "b", "c"), x_request_id="it-fails"
        )
    line = logged(server, "it-fails")
    assert (status, line["level"], line["code"]) == (500, "ERROR", "INFERENCE_FAILED")
    server.wait_for("KeyError: 'three'")
    (told,) = [one for one in lines_of(server) if "KeyError: 'three'" in one.get("exception", "")]
    assert (told["event"], told["level"]) == ("log", "ERROR")


def test_probes_are_not_logged_at_info(server: ServerProcess) -> None:
    with Http(server) as http:
        for path in ("/v2/health/live", "/v2/health/ready", "/metrics"):
            assert http.ask("GET", path, x_request_id="a-probe")[0] == 200
        http.ask("GET", "/v2", x_request_id="behind-the-probes")
    logged(server, "behind-the-probes")
    assert not [one for one in lines_of(server) if one.get("request_id") == "a-probe"]


def test_a_share_of_the_good_is_logged_and_all_that_fails(tmp_path: Path) -> None:
    with serving(tmp_path, "--log-requests=0.1") as server, Http(server) as http:
        for _ in range(100):
            assert http.ask("POST", "/v2/models/double/infer", document(1.0))[0] == 200
        for _ in range(3):
            assert http.ask("POST", "/v2/models/echo/infer", text_document("a", "b", "c"))[0] == 500
    lines = [one for one in lines_of(server) if one["event"] == "request"]
    assert [one["code"] for one in lines].count("INFERENCE_FAILED") == 3
    assert [one["code"] for one in lines].count("OK") == 10


def test_the_level_is_a_limit_and_text_is_read_by_people(tmp_path: Path) -> None:
    with serving(tmp_path, "--log-format=text", "--log-level=info") as server, Http(server) as http:
        http.ask("POST", "/v2/models/double/infer", document(1.0), x_request_id="as-text")
        line = server.wait_for("request_id=as-text").string
    assert re.match(
        r"\S+Z INFO request: front=http route=/v2/models/\{model\}/infer model=double version=1 code=OK "
        r"status=200 rows=1 batch_rows=1 decode=\S+ queue=\S+ compute=\S+ encode=\S+ seconds=\S+ "
        r"request_id=as-text bytes=\d+\n$",
        line,
    )


# --- what never stands there ---

BAD_ID = f"{MARKER} id"


def secrets_over_http(server: ServerProcess) -> int:
    """Ask everything, with the marker everywhere; how many requests that were."""
    private = {
        "authorization": f"Bearer {KEY}",
        "cookie": f"session={MARKER}",
        "user_agent": MARKER,
        f"x_{MARKER}": MARKER,
        "x_request_id": BAD_ID,
        "traceparent": f"00-{MARKER}-01",
    }
    bad = {"x_api_key": f"oip_{MARKER}"}
    own = {"id": BAD_ID, "parameters": {"note": MARKER, MARKER: MARKER}, MARKER: MARKER}
    requests = [
        ("POST", "/v2/models/echo/infer", text_document(MARKER, **own), private),
        ("POST", "/v2/models/echo/infer", text_document(MARKER, "b", "c", **own), private),
        ("POST", f"/v2/models/echo/infer?key={MARKER}", text_document(MARKER), private),
        ("POST", "/v2/models/double/infer", text_document(MARKER), private),
        ("POST", "/v2/models/double/infer", document(1.0).replace(b"FP64", MARKER.encode()), private),
        ("POST", "/v2/models/double/infer", document(1.0).replace(b"1.0", MARKER.encode()), private),
        ("POST", "/v2/models/double/infer", MARKER.encode(), private),
        ("POST", "/v2/models/double/infer", b"", private | {"content_encoding": MARKER}),
        ("POST", "/v2/models/double/infer", b"", private | {"content_type": f"multipart/{MARKER}"}),
        ("POST", "/v2/models/double/infer", b"", private | {"inference_header_content_length": MARKER}),
        ("POST", "/v2/models/echo/infer", text_document(MARKER), bad),
        ("POST", f"/v2/models/{MARKER}/infer", document(1.0), private),
        ("POST", f"/v2/models/echo/versions/{MARKER}/infer", document(1.0), private),
        ("POST", "/v2/models/echo/generate", text_document(MARKER, **own), private),
        ("POST", "/v2/models/echo/generate", json.dumps({MARKER: MARKER}).encode(), private),
        ("POST", "/v2/models/echo/generate_stream", text_document(MARKER, **own), private),
        ("POST", "/v2/models/echo/generate_stream", text_document(MARKER, "b", "c"), private),
        ("POST", "/invocations", MARKER.encode(), private),
        ("GET", f"/v2/models/{MARKER}", b"", private),
        ("GET", f"/v2/models/{MARKER}/ready", b"", private),
        ("GET", f"/v2/models/echo/versions/{MARKER}", b"", private),
        ("GET", f"/v2/models/{MARKER}/stats", b"", private),
        ("GET", f"/v2/models/{MARKER}/config", b"", private),
        ("GET", f"/v2/models/echo?{MARKER}={MARKER}", b"", private),
        ("GET", "/v2/models/echo", b"", bad),
        ("POST", "/v2/repository/index", json.dumps({MARKER: MARKER}).encode(), private),
        ("POST", f"/v2/repository/models/{MARKER}/load", json.dumps({MARKER: MARKER}).encode(), private),
        ("POST", f"/v2/repository/models/{MARKER}/unload", b"", private),
        (
            "POST",
            f"/v2/systemsharedmemory/region/{MARKER}/register",
            json.dumps({"key": MARKER}).encode(),
            private,
        ),
        ("GET", f"/{MARKER}", b"", private),
        (MARKER.upper(), "/v2", b"", private),
        ("GET", f"/v2/{'x' * 9000}{MARKER}", b"", private),
    ]
    for method, path, body, headers in requests:
        with Http(server) as http:
            http.ask(method, path, body, **headers)
    for raw in (
        f"{MARKER}\r\n\r\n",
        f"GET /{MARKER} HTTP/9.9\r\n\r\n",
        f"GET / HTTP/1.1\r\n{MARKER}\r\n\r\n",
    ):
        with Http(server) as http:
            http.send(raw.encode())
            http.answer()
    return len(requests) + 3


def secrets_over_grpc(server: ServerProcess) -> int:
    """The same over gRPC."""
    private = (
        ("authorization", f"Bearer {KEY}"),
        ("x-request-id", BAD_ID),
        (f"x-{MARKER}", MARKER),
        ("traceparent", MARKER),
    )
    good = message("echo", MARKER, id=BAD_ID)
    good.parameters[MARKER].string_param = MARKER
    odd = message("double", MARKER)
    odd.inputs[0].name = odd.inputs[0].datatype = MARKER
    calls = [
        (INFER, good.SerializeToString(), private),
        (INFER, message("echo", MARKER, "b", "c").SerializeToString(), private),
        (INFER, odd.SerializeToString(), private),
        (INFER, message(MARKER, "a").SerializeToString(), private),
        (INFER, message("echo", "a", model_version=MARKER).SerializeToString(), private),
        (INFER, b"\xff" + MARKER.encode(), private),
        (INFER, good.SerializeToString(), (("authorization", f"Bearer {MARKER}"),)),
        (f"{SERVICE}/ModelReady", ModelReadyRequest(name=MARKER).SerializeToString(), private),
        (f"{SERVICE}/ModelMetadata", ModelMetadataRequest(name=MARKER).SerializeToString(), private),
        (f"{SERVICE}/ModelMetadata", b"\xff" + MARKER.encode(), private),
        (
            f"{SERVICE}/RepositoryModelLoad",
            RepositoryModelLoadRequest(model_name=MARKER).SerializeToString(),
            private,
        ),
        (f"{SERVICE}/{MARKER}", MARKER.encode(), private),
    ]
    with grpc.insecure_channel(server.grpc_target) as channel:
        for method, body, metadata in calls:
            call(channel, method, body, *metadata)
        call(channel, f"/{MARKER}.Service/{MARKER}", b"", *private)
        stream = channel.stream_stream(f"{SERVICE}/ModelStreamInfer", None, None)
        bodies = [good.SerializeToString(), odd.SerializeToString(), b"\xff" + MARKER.encode()]
        answers = list(stream(iter(bodies), metadata=private, timeout=PATIENCE))
    assert len(answers) == len(bodies)
    return len(calls) + len(bodies)


def test_a_caller_is_named_also_when_refused(tmp_path: Path) -> None:
    load = RepositoryModelLoadRequest(model_name="double").SerializeToString()
    over_http = [("infer", "/v2/models/double/infer"), ("load", "/v2/repository/models/double/load")]
    over_grpc = [("infer", message("echo", "a").SerializeToString()), ("load", load), ("index", b"")]
    calls = {"infer": "ModelInfer", "load": "RepositoryModelLoad", "index": "RepositoryIndex"}
    with serving(tmp_path, **keys("read")) as server:
        for name, path in over_http:
            with Http(server) as http:
                http.ask("POST", path, document(1.0), authorization=f"Bearer {KEY}", x_request_id=f"h-{name}")
        with grpc.insecure_channel(server.grpc_target) as channel:
            for name, body in over_grpc:
                given = (("x-api-key", KEY), ("x-request-id", f"g-{name}"))
                call(channel, f"{SERVICE}/{calls[name]}", body, *given)
            call(channel, INFER, over_grpc[0][1], ("x-api-key", "wrong"), ("x-request-id", "nobody"))
        nobody = logged(server, "nobody")
        lines = [logged(server, one) for one in ("h-infer", "h-load", "g-infer", "g-load", "g-index")]
    assert [line["code"] for line in lines] == [*["FORBIDDEN"] * 4, "OK"]
    assert [line.get("caller") for line in lines] == ["tester"] * 5
    assert (nobody["code"], nobody["route"], "caller" in nobody) == ("UNAUTHORIZED", "ModelInfer", False)


@pytest.mark.parametrize("style", ["json", "text"])
def test_what_clients_send_is_found_nowhere(tmp_path: Path, style: str) -> None:
    flags = (f"--log-format={style}", "--log-level=debug", "--model-control=explicit")
    with serving(tmp_path, *flags, **keys()) as server:
        sent = secrets_over_http(server) + secrets_over_grpc(server)
    output = server.output
    assert MARKER not in output.lower()
    requests = output.count('"event":"request"' if style == "json" else " request: ")
    assert requests >= sent
    assert output.isascii()
    assert output.isprintable() or not set(output) - {"\n", "\t"} - set(map(chr, range(32, 127)))
    if style == "json":
        lines = lines_of(server)
        assert {one["caller"] for one in lines if "caller" in one} == {"tester"}
