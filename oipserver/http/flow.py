"""uvicorn's flow control, with a clock that stands still while we do not read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl


class Flow(FlowControl):
    """Pauses and resumes a transport, and knows for how long it listened.

    A slow body is the client's fault only while somebody reads it; `listened` measures that time.
    `hold` is a pause that an application's `receive` cannot lift: it lasts while requests wait in line.
    """

    def __init__(self, transport: asyncio.Transport, clock: Callable[[], float]) -> None:
        super().__init__(transport)
        self._clock = clock
        self._paused_at = 0.0
        self._paused_for = 0.0
        self._held = False

    def listened(self) -> float:
        """The clock's time less all the time in which reading was paused; seconds."""
        now = self._paused_at if self.read_paused else self._clock()
        return now - self._paused_for

    def pause_reading(self) -> None:
        """Stop reading until somebody wants more."""
        if not self.read_paused:
            self._paused_at = self._clock()
            super().pause_reading()

    def resume_reading(self) -> None:
        """Read again, unless held."""
        if self.read_paused and not self._held:
            self._paused_for += self._clock() - self._paused_at
            super().resume_reading()

    def hold(self) -> None:
        """Stop reading until `release`."""
        self._held = True
        self.pause_reading()

    def release(self) -> None:
        """End a hold or a pause."""
        self._held = False
        self.resume_reading()
