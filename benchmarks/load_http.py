"""HTTP/1.1 load: one connection per caller, the same request bytes over and over, every answer compared.

A load generator only, not a client: it reads answers that have a Content-Length and nothing else.
"""

from __future__ import annotations

import asyncio
import re
from time import perf_counter

from benchmarks.load import PATIENCE_SECONDS, Span, Tally

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Caller(asyncio.Protocol):
    """One connection.

    Args:
        request: head and body.
        body: of the right answer, whose status is 200.
    """

    def __init__(self, request: bytes, body: bytes, tally: Tally) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._body = body
        self._tally = tally
        self._received = b""
        self._asked = 0.0
        self._over = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ask for the first time."""
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Compare a whole answer, and ask again."""
        self._received += data
        head, blank_line, body = self._received.partition(b"\r\n\r\n")
        if not blank_line:
            return
        length = _LENGTH.search(head)
        if length and len(body) < int(length[1]):
            return
        self._received = b""
        if self._tally.count(self._asked, body == self._body and head.startswith(b"HTTP/1.1 200 ")):
            self._ask()
        else:
            self._over = True
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end; too early, it is an error."""
        if not self._over:
            self._tally.errors += 1
        if not self.done.done():
            self.done.set_result(None)

    def _ask(self) -> None:
        self._asked = perf_counter()
        self._transport.write(self._request)


async def load_http(port: int, request: bytes, body: bytes, callers: int, span: Span) -> Tally:
    """Load 127.0.0.1:`port` with `callers` connections."""
    loop = asyncio.get_running_loop()
    tally = Tally(span)
    connections = [
        await loop.create_connection(lambda: Caller(request, body, tally), "127.0.0.1", port)
        for _ in range(callers)
    ]
    ends = [caller.done for _, caller in connections]
    _, late = await asyncio.wait(ends, timeout=span.warm_up + span.measured + PATIENCE_SECONDS)
    tally.errors += len(late)
    return tally
