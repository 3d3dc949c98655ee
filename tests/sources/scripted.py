"""An HTTP server that does what it is told, one answer per request."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self, TypeAlias

from oipserver.config import SourcesConfig
from oipserver.core.model_config import ModelConfig
from oipserver.sources import Fetched, fetch
from oipserver.sources.meter import Progress

Answer: TypeAlias = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One request; an Answer writes to it."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.close_connection = True
        self.server.requests.append((self.path, self.headers))
        at = min(len(self.server.requests), len(self.server.script)) - 1
        self.server.script[at](self)

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """The status line and the headers."""
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def reset(self) -> None:
        """End the connection with a reset instead of a FIN."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, *args: Any) -> None:
        """Nothing; pytest shows what matters."""


class Server(ThreadingHTTPServer):
    """Serves a script; the last answer is given again and again.

    Attributes:
        requests: path and headers of each request, as they came.
        released: for answers that wait; set at the end.
    """

    daemon_threads = True

    def __init__(self, *script: Answer, tls: SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: Sequence[Answer] = script
        self.requests: list[tuple[str, Message]] = []
        self.released = threading.Event()
        self._scheme = "https" if tls else "http"
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)

    def uri(self, path: str = "/model.bin", host: str = "127.0.0.1") -> str:
        return f"{self._scheme}://{host}:{self.server_address[1]}{path}"

    def sent(self, name: str) -> list[str | None]:
        """A header of each request."""
        return [headers.get(name) for _, headers in self.requests]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the script."""

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()


def whole(data: bytes, etag: str = '"1"') -> Answer:
    """The file, whatever was asked for."""

    def answer(handler: Handler) -> None:
        handler.head(200, {"Content-Length": str(len(data)), "ETag": etag})
        handler.wfile.write(data)

    return answer


def ranged(data: bytes, etag: str = '"1"') -> Answer:
    """The file or the rest of it, as RFC 9110 has it; 304 when the caller has it."""

    def answer(handler: Handler) -> None:
        asked, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
        if handler.headers.get("If-None-Match") == etag:
            handler.head(304, {"ETag": etag})
        elif asked is None or condition != etag:
            whole(data, etag)(handler)
        elif (start := int(asked.removeprefix("bytes=").removesuffix("-"))) >= len(data):
            handler.head(416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
        else:
            there = f"bytes {start}-{len(data) - 1}/{len(data)}"
            handler.head(
                206, {"Content-Range": there, "Content-Length": str(len(data) - start), "ETag": etag}
            )
            handler.wfile.write(data[start:])

    return answer


def broken(
    data: bytes, at: int, etag: str = '"1"', *, reset: bool = True, length: int | None = None
) -> Answer:
    """The file until a byte, then no more."""

    def answer(handler: Handler) -> None:
        handler.head(200, {"Content-Length": str(length or len(data)), "ETag": etag})
        handler.wfile.write(data[:at])
        if reset:
            handler.reset()

    return answer


def status(code: int, **headers: str) -> Answer:
    """A status and an empty body; underscores of the headers' names are dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(handler: Handler) -> None:
        handler.head(code, {"Content-Length": "0", **named})

    return answer


def endless(handler: Handler) -> None:
    """Chunks until the caller has had enough."""
    handler.head(200, {"Transfer-Encoding": "chunked"})
    piece = b"%x\r\n%s\r\n" % (1000, b"a" * 1000)
    while not handler.server.released.is_set():
        handler.wfile.write(piece)


def trickling_body(handler: Handler) -> None:
    """A byte now and then, for ever."""
    handler.head(200, {"Content-Length": "1000000", "ETag": '"slow"'})
    while not handler.server.released.wait(0.01):
        handler.wfile.write(b"a")


def trickling_head(handler: Handler) -> None:
    """A head that does not end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not handler.server.released.wait(0.01):
        handler.wfile.write(b"a")


def get(
    uri: str,
    tmp_path: Path,
    *,
    pin: str = "",
    waits: list[float] | None = None,
    progress: Progress | None = None,
    allow: Sequence[str] = ("127.0.0.1",),
    **settings: Any,
) -> Fetched:
    """Fetch with a cache of the test's own, loopback allowed, and nobody waiting between tries."""
    sources = SourcesConfig(cache_dir=str(tmp_path / "cache"), allow_hosts=tuple(allow), **settings)
    sleep = (waits if waits is not None else []).append
    return fetch(ModelConfig("m", "sklearn", uri, sha256=pin), sources, progress, sleep)


def left_in(tmp_path: Path) -> list[str]:
    """The names of the files that a fetch left in the cache, besides its lock."""
    cache = tmp_path / "cache"
    return sorted(path.name for path in cache.rglob("*") if path.is_file() and path.name != "lock")
