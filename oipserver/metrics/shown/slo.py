"""Promises, as the client library wants them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from oipserver.metrics.slo import Promise


def families(promises: Sequence[Promise]) -> Iterator[Metric]:
    """What was promised and what was kept, by (model, version); nothing where nothing was promised."""
    if not promises:
        return
    labels = ("model", "version", "objective")
    limit = GaugeMetricFamily(
        "oip_slo_latency_seconds", "An answer within this time is good.", labels=labels[:2]
    )
    target = GaugeMetricFamily("oip_slo_target", "Share of requests that shall be good.", labels=labels)
    total = CounterMetricFamily("oip_slo_requests", "Requests that count.", labels=labels)
    good = CounterMetricFamily("oip_slo_good_requests", "Requests that were good.", labels=labels)
    burn = GaugeMetricFamily(
        "oip_slo_burn_rate",
        "Share of bad requests by the share that is allowed; above 1 the target is missed.",
        labels=(*labels, "window"),
    )
    for promise in promises:
        if promise.latency is not None:
            limit.add_metric(promise.labels, promise.latency)
        for name, kept in promise.kept.items():
            target.add_metric((*promise.labels, name), kept.target)
            total.add_metric((*promise.labels, name), kept.total)
            good.add_metric((*promise.labels, name), kept.good)
            for window, rate in kept.burn_rates.items():
                burn.add_metric((*promise.labels, name, window), rate)
    yield from (limit, target, total, good, burn)
