"""What is inside now: read when somebody looks, and free until then."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from oipserver.core.messages import ModelState
from oipserver.core.registry import Version

VERSION = ("model", "version")


def of_server(in_flight: int, release: str, dropped_lines: int) -> Iterator[Metric]:
    """Of the whole process."""
    build = InfoMetricFamily("oip_build", "What is running.")
    build.add_metric((), {"version": release, "python": ".".join(map(str, sys.version_info[:3]))})
    yield build
    inside = GaugeMetricFamily("oip_requests_in_flight", "Infer requests inside the server.")
    inside.add_metric((), in_flight)
    yield inside
    dropped = CounterMetricFamily("oip_log_lines_dropped", "Log lines lost, for nobody read them in time.")
    dropped.add_metric((), dropped_lines)
    yield dropped


def depths(versions: Iterable[Version]) -> dict[tuple[str, str], int]:
    """How many requests wait for each version."""
    return {(version.config.name, version.config.version): version.depth for version in versions}


def of_models(versions: Iterable[Version]) -> Iterator[Metric]:
    """Of each version."""
    depth = GaugeMetricFamily("oip_queue_depth", "Requests waiting for the model.", labels=VERSION)
    state = GaugeMetricFamily(
        "oip_model_state", "1 for the state that the version is in.", labels=(*VERSION, "state")
    )
    lost = GaugeMetricFamily(
        "oip_threads_lost", "Threads in which the model hangs, given up.", labels=VERSION
    )
    refused = GaugeMetricFamily(
        "oip_model_reload_refused",
        "1 while the newest that was stored is not what is served.",
        labels=VERSION,
    )
    for version in versions:
        labels = (version.config.name, version.config.version)
        depth.add_metric(labels, version.depth)
        lost.add_metric(labels, version.lost_threads)
        refused.add_metric(labels, float(bool(version.refused)))
        for each in ModelState:
            state.add_metric((*labels, each.value), float(version.state is each))
    yield from (depth, state, lost, refused)
