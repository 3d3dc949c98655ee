"""An answer without an end, whose caller leaves."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from oipserver import App
from tests.apps.running import AppServer
from tests.conformance.system import Ended
from tests.support import PATIENCE


def test_an_endless_answer_lets_go_of_the_loop_when_its_caller_leaves() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10**9):  # waits for nothing but the connection
            yield bytes(65536)

    async def endless(request: Request) -> Response:
        return StreamingResponse(pieces())

    app = App()
    app.mount("/api", Starlette(routes=[Route("/endless", endless)]))
    with AppServer(app) as server:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as caller:
            caller.sendall(b"GET /api/endless HTTP/1.1\r\nHost: a\r\n\r\n")
            assert caller.recv(15) == b"HTTP/1.1 200 OK"
        server.journal.wait_for(Ended("app-http", "", "CANCELLED"))
        assert server.ask("GET", "/v2/health/live").status == 200
