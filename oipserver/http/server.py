"""Uvicorn's HTTP protocol under a listener of our own, so that the end can be drained in order.

uvicorn.Server would close idle connections at once, wait in ticks of 100 ms and take the signals; only its
protocol class and configuration are used here.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any, cast
from weakref import WeakSet

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from oipserver.core.observer import Ended
from oipserver.http.direct import DirectProtocol, InferConnections, OpenExchange
from oipserver.http.express import Express
from oipserver.http.limits import HttpLimits
from oipserver.http.protocol import LimitedProtocol, limited_protocol
from oipserver.tls import Certificates

# Up to the request id.
_GOOD_HEAD = b"HTTP/1.1 200 OK\r\ndate: %b\r\ncontent-type: application/json\r\nx-request-id: "
# Connections that wait to be accepted; without it uvloop makes it 100 again.
BACKLOG = 2048
# Connections end by themselves; this is how often their number is looked at during the stop.
_LOOK_AGAIN = 0.01
# A connection without a request may have one in its socket already: it has so long to be answered.
_LAST_WORDS = 0.25


class HttpServer:
    """One listening socket and its connections.

    Args:
        app: answers everything that `open_exchange` does not.
        open_exchange: the infer door, from a request's headers.
        express: the infer door for requests with heads that are known.
        report: told of what is refused before there is anybody to ask.
        certificates: for HTTPS; without them it is HTTP.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: HttpLimits,
        open_exchange: OpenExchange,
        express: Express,
        certificates: Certificates | None = None,
        report: Callable[[Ended], None] | None = None,
    ) -> None:
        self._connections = InferConnections(limits, open_exchange=open_exchange, express=express)
        if report is not None:
            self._connections.report = report
        self._state = ServerState()
        self._config = uvicorn.Config(
            app,
            http=limited_protocol(self._connections, DirectProtocol),
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
        )
        self._config.load()
        self._tls = _tls_options(certificates, limits)
        # Handed out, and perhaps still in their handshake.
        self._begun: WeakSet[LimitedProtocol] = WeakSet()
        self._server: asyncio.Server | None = None
        self._listener: socket.socket | None = None
        self._clock: asyncio.TimerHandle | None = None

    async def start(self, listener: socket.socket) -> None:
        """Serve what comes in at a bound and listening socket."""
        loop = asyncio.get_running_loop()
        self._tick(loop)
        self._listener = listener
        self._server = await loop.create_server(self._protocol, sock=listener, backlog=BACKLOG, **self._tls)

    def close_after_answers(self) -> None:
        """From now on every answer closes its connection, so that clients look for another server."""
        self._connections.closing = True

    async def stop(self, seconds: float) -> None:
        """Accept nothing more, let what was sent be answered for `seconds`, then cut off the rest."""
        self.close_after_answers()
        end = time.monotonic() + seconds
        await self._stop_listening()
        last_words = min(end, time.monotonic() + _LAST_WORDS)
        await self._wait_greeted(last_words)
        await self._wait_closed(last_words)
        for connection in self._open():
            connection.shutdown()
        await self._wait_closed(end)
        for connection in self._open():
            connection.transport.abort()
        if self._clock is not None:
            self._clock.cancel()

    async def _stop_listening(self) -> None:
        """Close the listener, and serve those whom the kernel has connected: they would be reset."""
        server, self._server = self._server, None
        if server is None or self._listener is None:
            return
        with self._listener.dup() as waiting:
            server.close()
            accepted = list(_accepted(waiting))
        loop = asyncio.get_running_loop()
        begun = [
            loop.create_task(loop.connect_accepted_socket(self._protocol, connection, **self._tls))
            for connection in accepted
        ]
        if begun:  # with TLS it takes a handshake, in which anybody may stall
            _, stalled = await asyncio.wait(begun, timeout=_LAST_WORDS)
            for task in stalled:
                task.cancel()
            await asyncio.gather(*begun, return_exceptions=True)

    async def _wait_greeted(self, until: float) -> None:
        """With its last message of the handshake a client may have sent a request."""
        while any(each.transport is None for each in self._begun) and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_AGAIN)

    async def _wait_closed(self, until: float) -> None:
        # uvicorn's set of connections tells nobody when it is empty.
        while self._open() and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_AGAIN)

    def _open(self) -> list[LimitedProtocol]:
        return cast(list[LimitedProtocol], list(self._state.connections))

    def _protocol(self) -> asyncio.Protocol:
        make = cast(type[LimitedProtocol], self._config.http_protocol_class)
        protocol = make(config=self._config, server_state=self._state, app_state={})
        if self._tls:
            self._begun.add(protocol)
        return protocol

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write the Date header once a second, not once an answer."""
        date = formatdate(time.time(), usegmt=True).encode()
        self._state.default_headers = [(b"date", date)]
        self._connections.good_head = _GOOD_HEAD % date
        self._clock = loop.call_later(1.0, self._tick, loop)


def _tls_options(certificates: Certificates | None, limits: HttpLimits) -> dict[str, Any]:
    """How a listener speaks TLS; a client that has its answer ends the connection within the linger time."""
    if certificates is None:
        return {}
    return {
        "ssl": certificates.context,
        "ssl_handshake_timeout": certificates.config.handshake_timeout,
        "ssl_shutdown_timeout": limits.linger_timeout,
    }


def _accepted(listener: socket.socket) -> Iterator[socket.socket]:
    """Those who wait in the listener's queue; it must not block."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        yield connection
