"""Plain handlers over real sockets: what they are given, what they return, how they fail."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from oipserver import App, BadRequest, Fault, InvalidInput, Models, NotFound
from oipserver.apps import threads
from tests.apps.running import MAX_BODY, MAX_JSON, AppServer, row
from tests.conformance.system import Ended
from tests.support import PATIENCE

app = App()


class StrangeFault(Fault):
    code = "OF_MY_OWN"


class Unwritable:
    pass


RETURNED: dict[str, tuple[Any, tuple[int, str, bytes]]] = {
    "dict": ({"a": [1, None, "x"]}, (200, "application/json", b'{"a":[1,null,"x"]}')),
    "list": ([1, 2], (200, "application/json", b"[1,2]")),
    "number": (1.5, (200, "application/json", b"1.5")),
    "true": (True, (200, "application/json", b"true")),
    "text": ("héllo", (200, "text/plain; charset=utf-8", "héllo".encode())),
    "bytes": (b"\x00\xff", (200, "application/octet-stream", b"\x00\xff")),
    "array": (np.array([[1.5, np.nan]]), (200, "application/json", b"[[1.5,null]]")),
    "turned": (np.arange(4).reshape(2, 2).T, (200, "application/json", b"[[0,2],[1,3]]")),
    "scalar": ({"n": np.int64(3), "f": np.float32(0.5)}, (200, "application/json", b'{"n":3,"f":0.5}')),
    "bool": (np.bool_(True), (200, "application/json", b"true")),
    "labels": (np.array([b"cat", b"dog"], dtype=object), (200, "application/json", b'["cat","dog"]')),
    "words": (np.array(["a", "b"]), (200, "application/json", b'["a","b"]')),
    "numbered": ({1: "one"}, (200, "application/json", b'{"1":"one"}')),
    "status": ((201, {"id": 1}), (201, "application/json", b'{"id":1}')),
    "pair": ((1, 2), (500, "application/json", b"")),
    "none": (None, (204, "", b"")),
    "no content": ((202, None), (202, "", b"")),
    "text with status": ((404, "not here"), (404, "text/plain; charset=utf-8", b"not here")),
    "response": (JSONResponse({"x": 1}, 202), (202, "application/json", b'{"x":1}')),
}


@app.get("/returned/{name}")
def returned(name: str) -> Any:
    return RETURNED[name.replace("_", " ")][0]


@app.get("/returned-on-the-loop/{name}")
async def returned_on_the_loop(name: str) -> Any:
    return RETURNED[name.replace("_", " ")][0]


RAISED: dict[str, tuple[BaseException, tuple[int, str, str]]] = {
    "value": (ValueError("my secret"), (500, "INTERNAL", "internal error")),
    "stop": (StopIteration(), (500, "INTERNAL", "internal error")),
    "exit": (SystemExit(3), (500, "INTERNAL", "internal error")),
    "interrupt": (KeyboardInterrupt(), (500, "INTERNAL", "internal error")),
    "group": (ExceptionGroup("two", [ValueError("a"), KeyError("b")]), (500, "INTERNAL", "internal error")),
    "invalid": (InvalidInput("age must be from 0"), (422, "UNPROCESSABLE", "age must be from 0")),
    "bad": (BadRequest("no 'rows'"), (400, "BAD_REQUEST", "no 'rows'")),
    "missing": (NotFound("no item 7"), (404, "NOT_FOUND", "no item 7")),
    "fault": (Fault("sorry"), (500, "INTERNAL", "sorry")),
    "strange": (StrangeFault("my secret"), (500, "INTERNAL", "internal error")),
    "http": (HTTPException(404, "gone"), (404, "NOT_FOUND", "gone")),
    "teapot": (HTTPException(418, "short and stout"), (418, "BAD_REQUEST", "short and stout")),
}


@app.get("/raised/{name}")
def raised(name: str) -> None:
    raise RAISED[name][0]


@app.get("/raised-on-the-loop/{name}")
async def raised_on_the_loop(name: str) -> None:
    raise RAISED[name][0]


@app.get("/unwritable")
def unwritable() -> Any:
    return {"x": Unwritable()}


@app.get("/no-status")
def no_status() -> Any:
    return 9000, "x"


@app.get("/ints/{n}")
def an_int(n: int) -> Any:
    return {"n": n, "type": type(n).__name__}


@app.get("/floats/{n}")
def a_float(n: float) -> Any:
    return {"n": n}


@app.get("/files/{rest:path}")
def rest(rest: str, request: Request) -> Any:
    return {"rest": rest, "query": dict(request.query_params)}


@app.get("/files/latest")
def never_reached() -> Any:
    return "an earlier route has that"


@app.post("/body")
def body(body: Any) -> Any:
    return {"body": body}


@app.post("/raw")
def raw(body: bytes) -> Any:
    return {"size": len(body)}


@app.post("/streamed")
async def streamed(request: Request) -> Any:
    return {"size": sum([len(piece) async for piece in request.stream()])}


@app.post("/twice")
async def twice(request: Request, body: Any) -> Any:
    return {"body": body, "again": len(await request.body()), "id": request.state.request_id}


@app.get("/pieces")
def pieces() -> Response:
    return StreamingResponse(iter([b"one ", b"two"]), media_type="text/plain")


@app.post("/predict")
async def predict(body: Any, models: Models) -> Any:
    return await models.infer("m", {"x": body["rows"]})


@app.post("/predict-in-thread")
def predict_in_thread(body: Any, models: Models) -> Any:
    return models.infer_sync("m", {"x": body["rows"]})


@app.post("/gated")
async def gated(body: Any, models: Models) -> Any:
    return await models.infer("gated", {"x": body["rows"]})


@app.post("/gated-in-thread")
def gated_in_thread(body: Any, models: Models) -> Any:
    return models.infer_sync("gated", {"x": body["rows"]})


@app.route("/several", ["PUT", "patch"])
def several(request: Request) -> Any:
    return request.method


@app.get("/several")
def several_too() -> Any:
    return "GET"


@app.delete("/several")
def several_deleted() -> None:
    return None


class Slow:
    """Handlers that wait until told, and say that they have begun."""

    gate = threading.Event()
    begun = threading.Semaphore(0)


@app.get("/slow")
def slow() -> Any:
    Slow.begun.release()
    assert Slow.gate.wait(PATIENCE)
    return "done"


@pytest.fixture(scope="module")
def server() -> Iterator[AppServer]:
    with AppServer(app) as server:
        yield server


@pytest.mark.parametrize("path", ["returned", "returned-on-the-loop"])
@pytest.mark.parametrize("name", RETURNED)
def test_what_is_returned_is_answered(server: AppServer, path: str, name: str) -> None:
    answer = server.ask("GET", f"/{path}/{name.replace(' ', '_')}")
    status, kind, content = RETURNED[name][1]
    if name == "pair":  # a tuple that begins with an int begins with a status
        assert answer.fault == (500, "INTERNAL", "internal error")
    else:
        assert (answer.status, answer.headers.get("content-type", ""), answer.body) == (status, kind, content)
        assert answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["raised", "raised-on-the-loop"])
@pytest.mark.parametrize("name", RAISED)
def test_what_is_raised_keeps_the_error_contract(server: AppServer, path: str, name: str) -> None:
    if (path, name) == ("raised-on-the-loop", "stop"):
        pytest.skip("Python makes a RuntimeError of it")
    answer = server.ask("GET", f"/{path}/{name}", headers={"X-Request-Id": "mine-1"})
    assert answer.fault == RAISED[name][1]
    assert answer.json["request_id"] == "mine-1"
    assert server.ask("GET", "/several").status == 200  # the server lives


def test_what_json_cannot_hold_is_a_bug(server: AppServer) -> None:
    assert server.ask("GET", "/unwritable").fault == (500, "INTERNAL", "internal error")
    assert server.ask("GET", "/no-status").fault == (500, "INTERNAL", "internal error")


def test_a_request_id_of_ours_when_the_callers_is_unfit(server: AppServer) -> None:
    answer = server.ask("GET", "/several", headers={"X-Request-Id": "not fit"})
    assert answer.headers["x-request-id"] not in ("", "not fit")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/ints/-7", {"n": -7, "type": "int"}),
        ("/ints/7/", {"n": 7, "type": "int"}),
        ("/floats/1e-3", {"n": 0.001}),
        ("/files/a/b%20c?q=1", {"rest": "a/b c", "query": {"q": "1"}}),
        ("/files/latest", {"rest": "latest", "query": {}}),
    ],
)
def test_parameters_of_the_path(server: AppServer, path: str, expected: Any) -> None:
    assert server.ask("GET", path).json == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/ints/x", "path parameter 'n': expected an integer, got 'x'"),
        ("/ints/1_000", "path parameter 'n': expected an integer, got '1_000'"),
        (f"/ints/{'9' * 5000}", f"path parameter 'n': expected an integer, got '{'9' * 128}…'"),
        ("/floats/inf", "path parameter 'n': expected a number, got 'inf'"),
        ("/floats/1,5", "path parameter 'n': expected a number, got '1,5'"),
    ],
)
def test_parameters_of_another_type_are_the_callers_mistake(
    server: AppServer, path: str, expected: str
) -> None:
    assert server.ask("GET", path).fault == (400, "BAD_REQUEST", expected)


@pytest.mark.parametrize(
    ("body", "headers", "fault"),
    [
        (None, {}, (400, "BAD_REQUEST", "expected a JSON body, got none")),
        (b"{", {}, (400, "BAD_REQUEST", "the body is not valid JSON: unexpected end")),
        (b"[NaN]", {}, (400, "BAD_REQUEST", "the body is not valid JSON")),
        (b"[" * 50_000, {}, (400, "BAD_REQUEST", "the body is not valid JSON")),
        (b"\xff\xfe", {}, (400, "BAD_REQUEST", "the body is not valid JSON")),
        (b"{}", {"Content-Type": "multipart/form-data"}, (415, "UNSUPPORTED_MEDIA_TYPE", "expected a JSON")),
        (b"{}", {"Content-Encoding": "br"}, (415, "UNSUPPORTED_MEDIA_TYPE", "Content-Encoding must be one")),
        (b"{}", {"Content-Encoding": "gzip"}, (400, "BAD_REQUEST", "the body is not valid gzip")),
        (b" " * (MAX_JSON + 1), {}, (413, "PAYLOAD_TOO_LARGE", f"the body has more than {MAX_JSON} bytes")),
        (
            gzip.compress(b" " * (MAX_JSON + 1), mtime=0),
            {"Content-Encoding": "gzip"},
            (413, "PAYLOAD_TOO_LARGE", f"the body has more than {MAX_JSON} bytes when it is inflated"),
        ),
    ],
)
def test_a_body_that_is_no_json(
    server: AppServer, body: bytes | None, headers: dict[str, str], fault: tuple[int, str, str]
) -> None:
    status, code, text = server.ask("POST", "/body", body, headers).fault
    assert (status, code) == fault[:2]
    assert text.startswith(fault[2])


def test_a_body_arrives(server: AppServer) -> None:
    assert server.ask("POST", "/body", {"a": [1]}).json == {"body": {"a": [1]}}
    packed = gzip.compress(b'{"a": 1}')
    assert server.ask("POST", "/body", packed, {"Content-Encoding": "gzip"}).json == {"body": {"a": 1}}
    form = {"Content-Type": "application/x-www-form-urlencoded"}  # as curl -d says
    assert server.ask("POST", "/body", b"[1]", form).json == {"body": [1]}
    assert server.ask("POST", "/raw", b"\xff" * 200_000).json == {"size": 200_000}
    assert server.ask("POST", "/streamed", b"x" * 200_000).json == {"size": 200_000}
    again = server.ask("POST", "/twice", b'{"a": 1}', {"X-Request-Id": "me"}).json
    assert again == {"body": {"a": 1}, "again": 8, "id": "me"}


@pytest.mark.parametrize("path", ["/raw", "/streamed"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused(server: AppServer, path: str, chunked: bool) -> None:
    pieces = [b"x" * 10_000] * (MAX_BODY // 10_000 + 1)
    body = iter(pieces) if chunked else b"".join(pieces)
    answer = server.ask("POST", path, body)
    assert answer.fault == (413, "PAYLOAD_TOO_LARGE", f"the body has more than {MAX_BODY} bytes")


def test_a_streaming_response(server: AppServer) -> None:
    assert server.ask("GET", "/pieces").body == b"one two"


def test_methods(server: AppServer) -> None:
    assert server.ask("PUT", "/several").body == b"PUT"
    assert server.ask("PATCH", "/several").body == b"PATCH"
    assert server.ask("DELETE", "/several").status == 204
    head = server.ask("HEAD", "/several")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "3")
    options = server.ask("OPTIONS", "/several")
    assert (options.status, options.headers["allow"]) == (204, "DELETE, GET, HEAD, PATCH, PUT, OPTIONS")
    post = server.ask("POST", "/several")
    allowed = "DELETE, GET, HEAD, PATCH, PUT"
    assert post.fault == (405, "METHOD_NOT_ALLOWED", f"/several takes {allowed}, not POST")
    assert post.headers["allow"] == allowed


def test_our_own_routes_are_where_they_were(server: AppServer) -> None:
    assert server.ask("GET", "/v2/health/ready").json == {"live": True, "ready": True}
    assert server.ask("GET", "/v2/").json["name"] == "oipserver"
    assert server.ask("GET", "/v2/nothing").fault == (404, "NOT_FOUND", "no route /v2/nothing")
    assert server.ask("GET", "/nothing").fault == (404, "NOT_FOUND", "no route /nothing")
    assert b"oip_requests_total" in server.ask("GET", "/metrics").body


@pytest.mark.parametrize("path", ["/predict", "/predict-in-thread"])
def test_handlers_reach_the_models(server: AppServer, path: str) -> None:
    assert server.ask("POST", path, {"rows": row(3)}).json == {"y": [[6.0, 6.0]]}
    fault = server.ask("POST", path, {"rows": [[1.0, 2.0, 3.0]]}).fault
    assert fault[:2] == (400, "BAD_REQUEST")
    assert "[-1, 2]" in fault[2]


def test_requests_are_counted(server: AppServer) -> None:
    server.journal.clear()
    assert server.ask("POST", "/predict", {"rows": row(1)}).status == 200
    server.journal.wait_for(Ended("app", "m", "OK"), Ended("app-http", "", "OK"))
    assert server.ask("GET", "/raised/value").status == 500
    server.journal.wait_for(Ended("app-http", "", "INTERNAL"))


def leave(server: AppServer, path: str) -> socket.socket:
    """A caller who has asked, and can be closed."""
    body = b'{"rows": [[1, 1]]}'
    caller = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    caller.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)))
    caller.sendall(body)
    return caller


@pytest.mark.parametrize("path", ["/gated", "/gated-in-thread"])
def test_a_caller_who_leaves_frees_its_place(server: AppServer, path: str) -> None:
    server.gated.gate.clear()
    server.gated.forget_warm_up()
    server.journal.clear()
    try:
        first = server.begin("POST", "/gated", {"rows": row(1)})
        assert server.gated.entered.acquire(timeout=PATIENCE)
        caller = leave(server, path)
        server.until(lambda: server.waiting("gated") == 1)
        caller.close()
        server.journal.wait_for(Ended("app", "gated", "CANCELLED"), Ended("app-http", "", "CANCELLED"))
        server.until(lambda: server.waiting("gated") == 0)
    finally:
        server.gated.gate.set()
    assert first.result(PATIENCE).json == {"y": [[2.0, 2.0]]}


def test_slow_handlers_hold_up_nobody_else(server: AppServer, monkeypatch: pytest.MonkeyPatch) -> None:
    Slow.gate.clear()
    try:
        waiting = [server.begin("GET", "/slow") for _ in range(threads.THREADS + 1)]
        for _ in range(threads.THREADS):
            assert Slow.begun.acquire(timeout=PATIENCE)
        server.until(lambda: server.apps.threads._waiting == 1)
        assert server.ask("GET", "/v2/health/live").status == 200
        assert server.ask("POST", "/predict", {"rows": row(1)}).status == 200
        monkeypatch.setattr(server.apps.threads, "_most_waiting", 1)
        answer = server.ask("GET", "/slow")
        assert answer.fault == (503, "OVERLOADED", "1 requests wait for a thread already")
        assert answer.headers["retry-after"] == "1"
    finally:
        Slow.gate.set()
    assert {each.result(PATIENCE).body for each in waiting} == {b"done"}
