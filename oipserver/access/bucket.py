"""A token bucket that may go into debt."""

from __future__ import annotations

import math


class Bucket:
    """Fills with `rate` tokens a second, up to `burst`; on the event loop, in its monotonic time.

    Whoever finds a token may take more than there are: what a request costs is known only when its body was
    read, too late to refuse it.  The debt delays the next ones, so that the rate holds in the long run.

    Args:
        rate: tokens a second, above 0.
        burst: tokens at most, from 1.
    """

    __slots__ = ("_burst_seconds", "_full_at", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        # The first token of a full bucket is there however long its others take.
        self._burst_seconds = (burst - 1) / rate
        self._full_at = float("-inf")

    def wait(self, now: float) -> float:
        """Seconds until there is a token; 0 when there is one now."""
        return max(0.0, self._full_at - now - self._burst_seconds)

    def affords(self, tokens: float, now: float) -> int:
        """How often in a row somebody would find a token who takes so many each time."""
        spare = self._burst_seconds - max(0.0, self._full_at - now)
        return 0 if spare < 0 else math.floor(spare * self._rate / tokens) + 1

    def spend(self, tokens: float, now: float) -> None:
        """Take tokens out, there or not."""
        self._full_at = max(self._full_at, now) + tokens / self._rate
