"""Histograms, as the client library wants them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from prometheus_client.core import Exemplar, HistogramMetricFamily, Metric

from oipserver.metrics.histogram import Series

Bucket: TypeAlias = tuple[str, float] | tuple[str, float, Exemplar]

# Not every reader of OpenMetrics knows what to do with quotes.
_SHOWN = re.compile(r"[A-Za-z0-9._-]+")
_NONE = ("", "", 0.0, 0.0)


def family(name: str, text: str, labels: Sequence[str], series: Mapping[tuple[str, ...], Series]) -> Metric:
    """The histogram `name`; those that saw nothing are left out."""
    found = HistogramMetricFamily(name, text, labels=labels)
    for values, one in series.items():
        if any(one.counts):
            found.add_metric(values, list(buckets(one)), one.sum)
    return found


def buckets(series: Series) -> Iterator[Bucket]:
    """Upper bounds, cumulative counts, and exemplars where there are some, unless their text is odd."""
    total = 0
    for place, (bound, count) in enumerate(zip((*series.bounds, float("inf")), series.counts, strict=True)):
        total += count
        below = "+Inf" if bound == float("inf") else repr(float(bound))
        label, text, value, when = series.exemplars.get(place, _NONE)
        if _SHOWN.fullmatch(text):
            yield below, total, Exemplar({label: text}, value, round(when, 3))
        else:
            yield below, total
