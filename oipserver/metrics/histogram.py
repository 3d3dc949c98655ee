"""Histograms as plain numbers."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from typing import TypeAlias

Bounds: TypeAlias = Sequence[float]

# Of an exemplar: OpenMetrics 1.0 allows 128 characters for the label's name and value.
MAX_SHOWN = 64


class Series:
    """One labelled histogram.

    Attributes:
        bounds: inclusive upper bounds of the buckets but the last, which has none.
        counts: by bucket, not cumulative.
        exemplars: by bucket: label, its value, what was observed, wall time.
    """

    __slots__ = ("bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.exemplars: dict[int, tuple[str, str, float, float]] = {}

    def copy(self) -> Series:
        """The same numbers, which do not change any more."""
        other = Series(self.bounds)
        other.counts, other.sum, other.exemplars = self.counts[:], self.sum, self.exemplars.copy()
        return other

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.counts)

    def observe(self, value: float) -> None:
        """Count `value` in the first bucket whose upper bound is not below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def observe_all(self, values: Sequence[float]) -> None:
        """As `observe`, for each of them.  What came together is mostly alike, and counted at once then."""
        count = len(values)
        if count == 1:
            self.observe(values[0])
        elif count:
            counts, bounds = self.counts, self.bounds
            highest = bisect_left(bounds, max(values))
            if highest == bisect_left(bounds, min(values)):
                counts[highest] += count
            else:
                for value in values:
                    counts[bisect_left(bounds, value)] += 1
            self.sum += sum(values)

    def observe_equal(self, value: float, times: int) -> None:
        """As `observe`, so many times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def remember(self, value: float, label: str, text: str) -> None:
        """Show one that was observed beside its bucket, in place of the last one, unless its text is long."""
        if len(text) <= MAX_SHOWN:
            self.exemplars[bisect_left(self.bounds, value)] = (label, text, value, time.time())
