"""One timer per connection, moved without touching the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# After the time is up, one more turn of the loop: what arrived while the loop was busy is read first, so
# that a peer is never blamed for our own delay.
_LAST_LOOK = 0.001


class Alarm:
    """Calls `ring` at the time last given to `set`, or a little later.

    A deadline that moves with every request would cost a cancelled timer per request.  Here a later time
    is only noted; the timer that is already running finds it when it fires and starts again.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._when = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = 0.0
        self._looked = False

    def set(self, when: float) -> None:
        """Ring at `when`, in the loop's time, instead of whenever it was."""
        self._when = when
        self._looked = False
        if self._timer is None or when < self._fires_at:
            self._start(when)

    def stop(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, when: float) -> None:
        self.stop()
        self._fires_at = when
        self._timer = self._loop.call_at(when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        if now < self._when:
            self._start(self._when)
        elif not self._looked:
            self._looked = True
            self._start(now + _LAST_LOOK)
        else:
            self._ring()
