"""Prometheus metrics: the observer that counts, and the gauges that are read when somebody looks.

Labels come from the configuration alone (model, version) or from fixed tables (front, code, state), so no
client can make a new series.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from oipserver.core.admission import Gate
from oipserver.core.messages import ModelState
from oipserver.core.registry import Registry

# 100 µs to 60 s: a lone row of a linear model takes 0.3 ms, the default deadline is 60 s.
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
_VERSION = ("model", "version")


class Metrics:
    """Listens to the core; see `oipserver.core.observer.Observer`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "oip_requests",
            "Infer requests by front and outcome; model is empty when the request named no known one.",
            ("front", *_VERSION, "code"),
            registry=self.registry,
        )
        self._request_seconds = self._histogram(
            "oip_request_duration_seconds", "From admission to the encoded answer.", _SECONDS, "front"
        )
        self._queue_seconds = self._histogram(
            "oip_queue_duration_seconds", "From the queue to the start of the batch.", _SECONDS
        )
        self._compute_seconds = self._histogram(
            "oip_compute_duration_seconds", "One call of the model.", _SECONDS
        )
        self._batch_rows = self._histogram("oip_batch_rows", "Rows in one call of the model.", _ROWS)
        # Looking up a labelled child takes a lock and a tuple; the same few come back for ever.
        self._requests_of = cache(self._requests.labels)
        self._request_seconds_of = cache(self._request_seconds.labels)
        self._batch_of = cache(
            lambda model, version: (
                self._queue_seconds.labels(model, version),
                self._compute_seconds.labels(model, version),
                self._batch_rows.labels(model, version),
            )
        )

    def watch(self, gate: Gate, models: Registry) -> None:
        """Show what is inside now: requests in flight, queue depths, states."""
        self.registry.register(_Now(gate, models))

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def request(self, front: str, model: str, version: str, code: str, seconds: float) -> None:
        """One infer request is over."""
        self._requests_of(front, model, version, code).inc()
        self._request_seconds_of(front, model, version).observe(seconds)

    def batch(
        self, model: str, version: str, rows: int, compute_seconds: float, queue_seconds: Sequence[float]
    ) -> None:
        """One call of the model is over."""
        queue, compute, size = self._batch_of(model, version)
        compute.observe(compute_seconds)
        size.observe(rows)
        for seconds in queue_seconds:
            queue.observe(seconds)

    def state(self, model: str, version: str, state: ModelState) -> None:
        """Nothing to count: states are read from the registry when somebody looks."""

    def _histogram(self, name: str, help_text: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(
            name, help_text, (*labels, *_VERSION), buckets=tuple(buckets), registry=self.registry
        )


class _Now(Collector):
    """Gauges that cost nothing until they are scraped."""

    def __init__(self, gate: Gate, models: Registry) -> None:
        self._gate = gate
        self._models = models

    def collect(self) -> Iterator[Metric]:
        in_flight = GaugeMetricFamily("oip_requests_in_flight", "Infer requests inside the server.")
        in_flight.add_metric((), self._gate.in_flight)
        yield in_flight
        depth = GaugeMetricFamily("oip_queue_depth", "Requests waiting for the model.", labels=_VERSION)
        state = GaugeMetricFamily(
            "oip_model_state", "1 for the state that the version is in.", labels=(*_VERSION, "state")
        )
        for version in self._models.versions():
            labels = (version.config.name, version.config.version)
            depth.add_metric(labels, version.depth)
            for each in ModelState:
                state.add_metric((*labels, each.value), float(version.state is each))
        yield depth
        yield state
