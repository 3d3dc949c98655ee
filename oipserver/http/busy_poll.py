"""Keeps the event loop awake for a moment after an answer: who asks again at once finds it so.

To put a process to sleep and to wake it up takes the kernel tens of microseconds, and leaves cold caches
behind: a caller that asks again as soon as it is answered waits for that as long as for its answer.  So the
loop looks for the next request before it sleeps, as Linux' `busy_poll` does at devices.

Callers who take longer gain nothing by it.  Each look in vain doubles the number of answers until the next
one, and each that is rewarded halves it: where fewer than half of them are, there are next to none.
"""

from __future__ import annotations

import asyncio
import time

# Answers after a look in vain that are not looked behind, at most.
MAX_PAUSE = 1024


class BusyPoll:
    """The looks of one server.  It lives on the event loop.

    Args:
        seconds: of one look; 0 for none at all.

    Attributes:
        looking: the loop does not sleep now.
        until: when it ends that in vain, by `time.perf_counter`.
        pause: answers that are not looked behind after the next look in vain.
    """

    def __init__(self, seconds: float) -> None:
        self.looking = False
        self.pause = 1
        self.until = 0.0
        self._seconds = seconds
        self._passed_over = 0
        # The loop has looked since the last answer, so that another one is to another request.
        self._looked = False

    def answered(self) -> None:
        """Nobody waits for an answer any more."""
        if self.looking:
            if self._looked:  # and the request came
                self.pause = max(1, self.pause // 2)
            self._looked = False
            self.until = time.perf_counter() + self._seconds
        elif self._passed_over:
            self._passed_over -= 1
        elif self._seconds:
            self.looking, self._looked = True, False
            self.until = time.perf_counter() + self._seconds
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        """While a callback waits, the loop asks what there is to read, and does not wait for it."""
        self._looked = True
        if time.perf_counter() < self.until:
            asyncio.get_running_loop().call_soon(self._look)
        else:
            self.looking = False
            self._passed_over = self.pause
            self.pause = min(2 * self.pause, MAX_PAUSE)
