"""A tiny ASGI application that tells what the server made of a request, and a real server around it."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import uvicorn
import uvloop

from oipserver.http.limits import HttpLimits
from oipserver.http.protocol import Connections, LimitedProtocol, limited_protocol

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

PATIENCE = 30.0  # seconds after which a test gives up; never waited for when the server is right


@dataclass
class Echo:
    """Answers with what it saw; paths ask for special behaviour.

    Attributes:
        seen: method and path of every request that reached the application.
        started: set by /hold when it runs; `go` lets it answer.
        lost: set when /hold is told that its client has left.
    """

    seen: list[str] = field(default_factory=list)
    started: threading.Event = field(default_factory=threading.Event)
    lost: threading.Event = field(default_factory=threading.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        self.seen.append(f"{scope['method']} {path}")
        if path == "/raise":
            raise RuntimeError("the secret reason")
        if path == "/refuse":
            await answer(send, b"refused", 413)
            return
        if path.startswith("/big/"):
            await answer(send, bytes(int(path[5:])))
            return
        if path == "/hold":
            await self._hold(scope)
        body = await read(receive)
        if body is None:
            self.lost.set()
            return
        told = {
            "method": scope["method"],
            "path": path,
            "query": scope["query_string"].decode(),
            "version": scope["http_version"],
            "headers": [
                [name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]
            ],
            "size": len(body),
            "body": body[:64].decode("latin-1"),
        }
        await answer(send, orjson.dumps(told))

    async def _hold(self, scope: Any) -> None:
        scope["extensions"]["oipserver.connection"].on_lost = self._on_lost
        self.started.set()
        await self.go.wait()

    def _on_lost(self) -> None:
        self.lost.set()
        self.go.set()


async def read(receive: Receive) -> bytes | None:
    """The whole body; None when the client left."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message["body"]
        if not message["more_body"]:
            return bytes(body)


async def answer(send: Send, body: bytes, status: int = 200) -> None:
    """One complete answer."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Running:
    """A server in a thread."""

    port: int
    app: Echo
    loop: asyncio.AbstractEventLoop
    shared: Connections
    server: uvicorn.Server

    def connect(self, receive_buffer: int | None = None) -> Client:
        """A client with an open connection."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE)
        sock.connect(("127.0.0.1", self.port))
        return Client(sock)

    def call(self, function: Callable[[], Any]) -> Any:
        """The result of `function`, called on the server's loop."""

        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(PATIENCE)

    def call_after(self, seconds: float, function: Callable[[], Any]) -> None:
        """Have `function` called on the server's loop, later."""
        self.call(lambda: self.loop.call_later(seconds, function))

    def call_until(self, condition: Callable[[], bool]) -> bool:
        """Whether `condition` comes true; looked at with every turn of the server's loop."""

        async def turn() -> bool:
            async with asyncio.timeout(PATIENCE):
                while not condition():  # noqa: ASYNC110  uvicorn tells nobody
                    await asyncio.sleep(0)
            return True

        return asyncio.run_coroutine_threadsafe(turn(), self.loop).result(PATIENCE + 1)


@dataclass
class Answer:
    """A response as it came over the wire; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, which must be JSON."""
        return orjson.loads(self.body)


class Client:
    """Raw bytes in, answers out."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._file = sock.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.sock.close()

    def send(self, data: bytes) -> Client:
        """Send everything."""
        self.sock.sendall(data)
        return self

    def answer(self) -> Answer:
        """The next answer."""
        start = self._file.readline()
        assert start.startswith(b"HTTP/1.1 "), start
        headers: dict[str, str] = {}
        while line := self._file.readline().rstrip(b"\r\n"):
            name, value = line.decode("latin-1").split(": ", 1)
            assert name.lower() not in headers, f"two {name}"
            headers[name.lower()] = value
        status = int(start.split()[1])
        size = int(headers.get("content-length", "0"))
        return Answer(status, headers, self._file.read(size))

    def at_end(self) -> bool:
        """Whether the server has closed and nothing more came; waits for it."""
        return self._file.read(1) == b""

    def ask(self, data: bytes) -> Answer:
        """Send, and the next answer."""
        return self.send(data).answer()


@contextmanager
def serving(limits: HttpLimits, base: type[LimitedProtocol] = LimitedProtocol) -> Iterator[Running]:
    """A real server on a free port until the block ends."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    shared = Connections(limits)
    app = Echo()
    config = uvicorn.Config(
        app,
        http=limited_protocol(shared, base),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    up = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        await server.startup(sockets=[listener])
        await server.on_tick(0)
        up.set()
        await server.main_loop()
        await server.shutdown(sockets=[listener])

    def run() -> None:
        config.load()
        server.lifespan = config.lifespan_class(config)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    logging.getLogger("uvicorn.error").propagate = True
    thread = threading.Thread(target=run)
    thread.start()
    assert up.wait(PATIENCE)
    running = Running(listener.getsockname()[1], app, loops[0], shared, server)
    try:
        yield running
    finally:
        running.call(app.go.set)
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()
