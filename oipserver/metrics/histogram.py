"""Histograms as plain numbers, and what the client library makes of them when somebody looks."""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from prometheus_client.core import Exemplar, HistogramMetricFamily, Metric

Bounds: TypeAlias = Sequence[float]
Bucket: TypeAlias = tuple[str, float] | tuple[str, float, Exemplar]

# What may stand in an exemplar: OpenMetrics 1.0 allows 128 characters for the label's name and value, and not
# every reader of it knows what to do with quotes.
MAX_SHOWN = 64
_SHOWN = re.compile(r"[A-Za-z0-9._-]+")
_NONE = ("", "", 0.0, 0.0)


class Series:
    """One labelled histogram.

    Attributes:
        bounds: inclusive upper bounds of the buckets but the last, which has none.
        counts: by bucket, not cumulative.
    """

    __slots__ = ("_exemplars", "bounds", "counts", "sum")

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        # By bucket: label, its value, what was observed, wall time.
        self._exemplars: dict[int, tuple[str, str, float, float]] = {}

    def copy(self) -> Series:
        """The same numbers, which do not change any more."""
        other = Series(self.bounds)
        other.counts, other.sum, other._exemplars = self.counts[:], self.sum, self._exemplars.copy()
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
        if not values:
            return
        counts, bounds = self.counts, self.bounds
        highest = bisect_left(bounds, max(values))
        if len(values) == 1 or highest == bisect_left(bounds, min(values)):
            counts[highest] += len(values)
        else:
            for value in values:
                counts[bisect_left(bounds, value)] += 1
        self.sum += sum(values)

    def observe_equal(self, value: float, times: int) -> None:
        """As `observe`, so many times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def remember(self, value: float, label: str, text: str) -> None:
        """Show one that was observed beside its bucket, in place of the last one, unless its text is odd."""
        if len(text) <= MAX_SHOWN:
            self._exemplars[bisect_left(self.bounds, value)] = (label, text, value, time.time())

    def buckets(self) -> Iterator[Bucket]:
        """Upper bounds, cumulative counts, and exemplars where there are some."""
        total = 0
        for place, (bound, count) in enumerate(zip((*self.bounds, float("inf")), self.counts, strict=True)):
            total += count
            below = "+Inf" if bound == float("inf") else repr(float(bound))
            label, text, value, when = self._exemplars.get(place, _NONE)
            if _SHOWN.fullmatch(text):
                yield below, total, Exemplar({label: text}, value, round(when, 3))
            else:
                yield below, total


def family(name: str, text: str, labels: Sequence[str], series: Mapping[tuple[str, ...], Series]) -> Metric:
    """The histogram `name` as the client library writes it; those that saw nothing are left out."""
    found = HistogramMetricFamily(name, text, labels=labels)
    for values, one in series.items():
        if any(one.counts):
            found.add_metric(values, list(one.buckets()), one.sum)
    return found
