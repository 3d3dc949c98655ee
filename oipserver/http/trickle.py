"""Large answers through TLS, piece by piece.

uvloop's TLS passes on at once whatever it is given, and knows then of nothing that waits: a peer that reads
slowly, or never, could not be told from one that has it all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from oipserver.http.flow import Flow

_PIECE = 64 * 1024
# Bytes that TLS may hold, beside what the transport below it holds.
_HELD = 4 * _PIECE


class Trickle:
    """Writes while the peer reads; what is left waits here.  As long as something waits, the flow is paused.

    Attributes:
        waiting: bytes that have not been passed on.
        when_empty: called once when nothing waits any more.
    """

    __slots__ = ("_flow", "_pieces", "_write", "waiting", "when_empty")

    def __init__(self, transport: asyncio.Transport, flow: Flow) -> None:
        transport.set_write_buffer_limits(high=_HELD)
        self._write = transport.write
        self._flow = flow
        self._pieces: deque[memoryview[Any]] = deque()
        self.waiting = 0
        self.when_empty: Callable[[], None] | None = None

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Write, now or later."""
        if not self.waiting and len(data) <= _PIECE:
            self._write(data)
            return
        whole = memoryview(data)
        self._pieces.extend(whole[start : start + _PIECE] for start in range(0, len(data), _PIECE))
        self.waiting += len(data)
        self.go_on()

    def go_on(self) -> None:
        """The peer reads: write what it takes."""
        while self._pieces and not self._flow.write_paused:
            piece = self._pieces.popleft()
            self.waiting -= len(piece)
            self._write(piece)
        if not self._pieces and self.when_empty is not None:
            then, self.when_empty = self.when_empty, None
            then()
