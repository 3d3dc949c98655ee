"""Prometheus metrics: the observer that counts, and the gauges that are read when somebody looks.

Labels come from the configuration alone (model, version) or from fixed tables (front, code, state), so no
client can make a new series.  Everything is counted on the event loop, so plain numbers do; the client
library's counters take a lock each time, and five of them cost a request as much as decoding it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from oipserver.core.admission import Gate
from oipserver.core.messages import ModelState
from oipserver.core.registry import Registry

# 100 µs to 60 s: a lone row of a linear model takes 0.3 ms, the default deadline is 60 s.
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)

_VERSION = ("model", "version")


class _Series:
    """One labelled histogram."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count `value` in the first bucket whose upper bound is not below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def observe_all(self, values: Sequence[float]) -> None:
        """As `observe`, for each of them."""
        counts, bounds = self.counts, self.bounds
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        self.sum += sum(values)

    def buckets(self) -> Iterator[tuple[str, float]]:
        """Upper bounds and cumulative counts."""
        total = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            yield ("+Inf" if bound == float("inf") else repr(float(bound))), total


class _Histogram:
    """A family of series, by label values."""

    def __init__(self, name: str, text: str, bounds: Sequence[float], *labels: str) -> None:
        self._family = partial(HistogramMetricFamily, name, text, labels=(*labels, *_VERSION))
        self.of: defaultdict[tuple[str, ...], _Series] = defaultdict(partial(_Series, bounds))

    def collect(self) -> Metric:
        """The family as the client library writes it."""
        family = self._family()
        for labels, series in self.of.items():
            family.add_metric(labels, list(series.buckets()), series.sum)
        return family


class Metrics(Collector):
    """Listens to the core; see `oipserver.core.observer.Observer`."""

    def __init__(self) -> None:
        self._requests: defaultdict[tuple[str, ...], int] = defaultdict(int)
        self._request = _Histogram(
            "oip_request_duration_seconds", "From admission to the encoded answer.", SECONDS, "front"
        )
        self._queue = _Histogram(
            "oip_queue_duration_seconds", "From the queue to the start of the batch.", SECONDS
        )
        self._compute = _Histogram("oip_compute_duration_seconds", "One call of the model.", SECONDS)
        self._rows = _Histogram("oip_batch_rows", "Rows in one call of the model.", ROWS)
        self._gauges: Callable[[], Iterator[Metric]] | None = None
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def watch(self, gate: Gate, models: Registry) -> None:
        """Show what is inside now: requests in flight, queue depths, states."""
        self._gauges = partial(_gauges, gate, models)

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        """What the client library asks for when somebody looks."""
        requests = CounterMetricFamily(
            "oip_requests",
            "Infer requests by front and outcome; model is empty when the request named no known one.",
            labels=("front", *_VERSION, "code"),
        )
        for labels, count in self._requests.items():
            requests.add_metric(labels, count)
        yield requests
        for histogram in (self._request, self._queue, self._compute, self._rows):
            yield histogram.collect()
        if self._gauges is not None:
            yield from self._gauges()

    def requests(self, front: str, model: str, version: str, code: str, seconds: Sequence[float]) -> None:
        """Infer requests are over."""
        self._requests[front, model, version, code] += len(seconds)
        self._request.of[front, model, version].observe_all(seconds)

    def batch(
        self, model: str, version: str, rows: int, compute_seconds: float, queue_seconds: Sequence[float]
    ) -> None:
        """One call of the model is over."""
        labels = (model, version)
        self._compute.of[labels].observe(compute_seconds)
        self._rows.of[labels].observe(rows)
        self._queue.of[labels].observe_all(queue_seconds)

    def state(self, model: str, version: str, state: ModelState) -> None:
        """Nothing to count: states are read from the registry when somebody looks."""


def _gauges(gate: Gate, models: Registry) -> Iterator[Metric]:
    """What costs nothing until it is looked at."""
    in_flight = GaugeMetricFamily("oip_requests_in_flight", "Infer requests inside the server.")
    in_flight.add_metric((), gate.in_flight)
    yield in_flight
    depth = GaugeMetricFamily("oip_queue_depth", "Requests waiting for the model.", labels=_VERSION)
    state = GaugeMetricFamily(
        "oip_model_state", "1 for the state that the version is in.", labels=(*_VERSION, "state")
    )
    for version in models.versions():
        labels = (version.config.name, version.config.version)
        depth.add_metric(labels, version.depth)
        for each in ModelState:
            state.add_metric((*labels, each.value), float(version.state is each))
    yield depth
    yield state
