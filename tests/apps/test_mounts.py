"""ASGI applications below a path, and as what answers everything else."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from oipserver import App
from oipserver.apps.app import is_asgi
from tests.apps.running import MAX_BODY, AppServer, row
from tests.support import PATIENCE

LIFE: list[str] = []


@asynccontextmanager
async def lifespan(inner: Starlette) -> AsyncIterator[dict[str, Any]]:
    LIFE.append("started")
    yield {"threshold": 0.5}
    LIFE.append("stopped")


async def predict(request: Request) -> Response:
    document = await request.json()
    answer = await request.state.models.infer("m", {"x": document["rows"]})
    return JSONResponse({"y": answer["y"].tolist(), "threshold": request.state.threshold})


def predict_in_thread(request: Request) -> Response:
    answer = request.state.models.infer_sync("m", {"x": row(2)})
    return JSONResponse(answer["y"].tolist())


async def scope(request: Request) -> Response:
    of = request.scope
    return JSONResponse({"path": of["path"], "root": of["root_path"], "id": request.state.request_id})


async def boom(request: Request) -> Response:
    raise RuntimeError("my secret")


async def on_purpose(request: Request) -> Response:
    return JSONResponse({"mine": True}, 503)


async def half(request: Request) -> Response:
    def pieces() -> Iterator[bytes]:
        yield b"x"
        raise RuntimeError("too late")

    return StreamingResponse(pieces())


async def size(request: Request) -> Response:
    try:
        return PlainTextResponse(str(len(await request.body())))
    except Exception:  # as frameworks do that call every failure a bad body
        return PlainTextResponse("could not read the body", 400)


INNER = Starlette(
    routes=[
        Route("/predict", predict, methods=["POST"]),
        Route("/thread", predict_in_thread),
        Route("/scope/", scope),
        Route("/boom", boom),
        Route("/purpose", on_purpose),
        Route("/half", half),
        Route("/size", size, methods=["POST"]),
    ],
    lifespan=lifespan,
)


async def raw(scope: Any, receive: Any, send: Any) -> None:
    """The smallest ASGI application; it knows no lifespan."""
    assert scope["type"] == "http"
    if scope["path"] == "/silent":
        return
    if scope["path"] == "/exit":
        raise SystemExit(3)
    if scope["path"] == "/wait":
        Waiting.begun.release()
        message = await receive()
        while message["type"] != "http.disconnect":
            message = await receive()
        Waiting.left.release()
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-request-id", b"not-mine")]})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


class Waiting:
    begun = threading.Semaphore(0)
    left = threading.Semaphore(0)


def an_app() -> App:
    app = App()

    @app.get("/api/special")
    def special() -> Any:
        return "a route before the mount"

    app.mount("/api", INNER)
    app.mount("/", raw)
    return app


@pytest.fixture(scope="module")
def server() -> Iterator[AppServer]:
    LIFE.clear()
    with AppServer(an_app()) as server:
        assert LIFE == ["started"]
        yield server
    assert LIFE == ["started", "stopped"]


def test_a_mounted_application_reaches_the_models(server: AppServer) -> None:
    assert server.ask("POST", "/api/predict", {"rows": row(2)}).json == {"y": [[4.0, 4.0]], "threshold": 0.5}
    assert server.ask("GET", "/api/thread").json == [[4.0, 4.0]]


def test_it_is_told_where_it_is(server: AppServer) -> None:
    answer = server.ask("GET", "/api/scope/", headers={"X-Request-Id": "me"})
    assert answer.json == {"path": "/api/scope/", "root": "/api", "id": "me"}
    assert answer.headers["x-request-id"] == "me"


def test_its_exception_is_our_error(server: AppServer) -> None:
    assert server.ask("GET", "/api/boom").fault == (500, "INTERNAL", "internal error")
    assert server.ask("GET", "/exit").fault == (500, "INTERNAL", "internal error")
    assert server.ask("GET", "/silent").fault == (500, "INTERNAL", "internal error")


def test_its_own_answers_are_its_own(server: AppServer) -> None:
    answer = server.ask("GET", "/api/purpose")
    assert (answer.status, answer.json) == (503, {"mine": True})
    missing = server.ask("GET", "/api/nothing")
    assert (missing.status, missing.body) == (404, b"Not Found")


def test_an_answer_that_breaks_off_ends_the_connection(server: AppServer) -> None:
    with pytest.raises(Exception, match="IncompleteRead"):
        server.ask("GET", "/api/half")
    assert server.ask("GET", "/api/thread").status == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_its_bodies_have_our_limit(server: AppServer, chunked: bool) -> None:
    body = bytes(MAX_BODY + 1)
    answer = server.ask("POST", "/api/size", iter([body]) if chunked else body)
    assert answer.fault == (413, "PAYLOAD_TOO_LARGE", f"the body has more than {MAX_BODY} bytes")
    assert server.ask("POST", "/api/size", bytes(MAX_BODY)).body == str(MAX_BODY).encode()


def test_routes_come_before_mounts_and_the_fallback_last(server: AppServer) -> None:
    assert server.ask("GET", "/api/special").body == b"a route before the mount"
    assert server.ask("GET", "/apiary").body == b"/apiary"
    answer = server.ask("GET", "/")
    assert (answer.body, answer.headers["x-request-id"] != "not-mine") == (b"/", True)
    assert server.ask("GET", "/v2/nothing").fault == (404, "NOT_FOUND", "no route /v2/nothing")
    assert server.ask("GET", "/console/x").fault == (404, "NOT_FOUND", "no route /console/x")
    assert b"oip_requests" in server.ask("GET", "/metrics").body


def test_a_caller_who_leaves_is_told_to_the_application(server: AppServer) -> None:
    caller = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    caller.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    assert Waiting.begun.acquire(timeout=PATIENCE)
    caller.close()
    assert Waiting.left.acquire(timeout=PATIENCE)
    server.until(lambda: server.plane.gate.in_flight == 0)


def failing(kind: str) -> App:
    @asynccontextmanager
    async def fails(inner: Starlette) -> AsyncIterator[None]:
        raise OSError("no database")
        yield

    app = App()
    if kind == "lifespan":
        app.mount("/api", Starlette(lifespan=fails))
    elif kind == "async":

        @app.on_start
        async def start() -> None:
            raise OSError("no database")
    else:

        @app.on_start
        def start_in_thread() -> None:
            raise OSError("no database")

    return app


@pytest.mark.parametrize("kind", ["lifespan", "async", "thread"])
def test_an_app_that_does_not_start_does_not_serve(kind: str) -> None:
    app = failing(kind)
    app.get("/x")(lambda: "x")
    with AppServer(app) as server:
        status, code, text = server.ask("GET", "/x").fault
        assert (status, code) == (503, "NOT_READY")
        assert text.startswith("app app0.py failed to start: ")
        assert text.endswith("no database")
        assert server.ask("GET", "/v2/models/m/ready").status == 200


def test_hooks_run_in_order() -> None:
    app, order = App(), []
    started = threading.get_ident()

    @app.on_start
    def first(models: Any) -> None:
        assert threading.get_ident() != started
        order.append(f"first {models.infer_sync('m', {'x': row(2)})['y'][0, 0]}")

    @app.on_start
    async def second(models: Any) -> None:
        order.append(f"second {(await models.infer('m', {'x': row(3)}))['y'][0, 0]}")

    @app.on_stop
    async def last() -> None:
        order.append("last")

    @app.on_stop
    def fails() -> None:
        order.append("fails")
        raise RuntimeError("on purpose")

    with AppServer(app):
        assert order == ["first 4.0", "second 6.0"]
    assert order == ["first 4.0", "second 6.0", "fails", "last"]


def test_one_application_mounted_twice_lives_once() -> None:
    life: list[str] = []

    @asynccontextmanager
    async def once(inner: Starlette) -> AsyncIterator[None]:
        life.append("started")
        yield
        life.append("stopped")

    app, twice = App(), Starlette(routes=[Route("/scope", scope)], lifespan=once)
    app.mount("/a", twice)
    app.mount("/b", twice)
    with AppServer(app) as server:
        assert server.ask("GET", "/b/scope").json["root"] == "/b"
        assert life == ["started"]
    assert life == ["started", "stopped"]


def test_what_is_an_asgi_application() -> None:
    assert is_asgi(INNER)
    assert is_asgi(raw)
    assert not is_asgi(lambda environ, start_response: [])  # WSGI
    assert not is_asgi(Starlette)
    assert not is_asgi(asyncio)


def test_fastapi() -> None:
    inner: Any = pytest.importorskip("fastapi").FastAPI()

    @inner.post("/predict/{name}")  # type: ignore[untyped-decorator]
    async def infer(name: str, rows: list[list[float]], request: Request) -> Any:
        return {"y": (await request.state.models.infer(name, {"x": rows}))["y"].tolist()}

    @inner.get("/boom")  # type: ignore[untyped-decorator]
    def fails() -> None:
        raise RuntimeError("my secret")

    app = App()
    app.mount("/api", inner)
    with AppServer(app) as server:
        kind = {"Content-Type": "application/json"}
        assert server.ask("POST", "/api/predict/m", row(2), kind).json == {"y": [[4.0, 4.0]]}
        assert server.ask("POST", "/api/predict/m", {"no": "list"}, kind).status == 422
        assert server.ask("GET", "/api/boom").fault == (500, "INTERNAL", "internal error")
        # A fault of the model's contract is ours as well, in its own words.
        assert server.ask("POST", "/api/predict/m", [[1.0]], kind).fault[:2] == (400, "BAD_REQUEST")
        assert server.ask("GET", "/api/openapi.json").json["openapi"]
        too_large = server.ask("POST", "/api/predict/m", iter([b" " * (MAX_BODY + 1)]), kind)
        assert too_large.fault[:2] == (413, "PAYLOAD_TOO_LARGE")
