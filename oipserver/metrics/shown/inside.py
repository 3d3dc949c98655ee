"""What is inside, as the client library wants it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from oipserver.core.messages import ModelState
from oipserver.metrics.inside import Inside, VersionInside

_VERSION = ("model", "version")


def families(now: Inside) -> Iterator[Metric]:
    """Of the whole process, and of each version."""
    yield from _of_server(now)
    yield from _of_models(now.versions)


def _of_server(now: Inside) -> Iterator[Metric]:
    build = InfoMetricFamily("oip_build", "What is running.")
    build.add_metric((), {"version": now.release, "python": ".".join(map(str, sys.version_info[:3]))})
    yield build
    inside = GaugeMetricFamily("oip_requests_in_flight", "Infer requests inside the server.")
    inside.add_metric((), now.in_flight)
    yield inside
    dropped = CounterMetricFamily("oip_log_lines_dropped", "Log lines lost, for nobody read them in time.")
    dropped.add_metric((), now.dropped_lines)
    yield dropped


def _of_models(versions: Iterable[VersionInside]) -> Iterator[Metric]:
    depth = GaugeMetricFamily("oip_queue_depth", "Requests waiting for the model.", labels=_VERSION)
    state = GaugeMetricFamily(
        "oip_model_state", "1 for the state that the version is in.", labels=(*_VERSION, "state")
    )
    lost = GaugeMetricFamily(
        "oip_threads_lost", "Threads in which the model hangs, given up.", labels=_VERSION
    )
    refused = GaugeMetricFamily(
        "oip_model_reload_refused",
        "1 while the newest that was stored is not what is served.",
        labels=_VERSION,
    )
    for version in versions:
        labels = version.labels
        depth.add_metric(labels, version.depth)
        lost.add_metric(labels, version.lost_threads)
        refused.add_metric(labels, float(version.refused))
        for each in ModelState:
            state.add_metric((*labels, each.value), float(version.state is each))
    yield from (depth, state, lost, refused)
