"""Which text format a scraper asked for, and the text.

https://prometheus.io/docs/instrumenting/exposition_formats and OpenMetrics 1.0, which alone shows exemplars.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

PLAIN_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPEN_TYPE = openmetrics.CONTENT_TYPE_LATEST
_OPEN = "application/openmetrics-text"


class Everything(Collector):
    """What was counted, and what the operating system and the interpreter tell of this process."""

    def __init__(self, counted: Iterable[Metric]) -> None:
        self._counted = counted

    def collect(self) -> Iterator[Metric]:
        """The families one by one."""
        yield from self._counted
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            yield from collector.collect()
        yield from _threads()


def _threads() -> Iterator[Metric]:
    """The client library does not tell them."""
    with suppress(OSError):  # no Linux
        found = GaugeMetricFamily("oip_threads", "Threads of the process, those of libraries included.")
        found.add_metric((), len(os.listdir("/proc/self/task")))
        yield found


def expose(counted: Iterable[Metric], accept: str) -> tuple[str, bytes]:
    """The content type and the text for a scraper that sent this Accept header.

    It reads files of /proc and takes milliseconds: nothing for the event loop.
    """
    if wants_openmetrics(accept):
        return OPEN_TYPE, openmetrics.generate_latest(Everything(counted))  # type: ignore[no-untyped-call]
    return PLAIN_TYPE, generate_latest(Everything(counted))


def wants_openmetrics(accept: str) -> bool:
    """Whether the Accept header puts OpenMetrics above Prometheus' own text format; by RFC 9110, 12.5.1."""
    weights = {"text/plain": 0.0, _OPEN: 0.0}
    for part in accept.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if media in weights:
            weights[media] = max(weights[media], _weight(parameters))
    return weights[_OPEN] > 0 and weights[_OPEN] >= weights["text/plain"]


def _weight(parameters: Sequence[str]) -> float:
    """Of the parameter q; 1 without it, 0 when it is no number."""
    given = [text[2:] for text in parameters if text.startswith("q=")]
    try:
        return float(given[0]) if given else 1.0
    except ValueError:
        return 0.0
