"""Service level objectives: the share of good requests, and how fast the others eat up the allowance.

A burn rate of 1 uses up exactly what the target allows; 14.4 for an hour uses 2 % of a month's allowance
(Google, "The Site Reliability Workbook", chapter 5, "Alerting on SLOs").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from oipserver.core.model_config import ModelConfig, Slo

MINUTES = 60
WINDOWS = {"5m": 5, "1h": MINUTES}
# What the server owed and did not give.  A caller's own mistakes, and callers who left, do not count at all.
BROKEN = frozenset(("INFERENCE_FAILED", "INTERNAL", "NOT_READY", "OVERLOADED", "TIMEOUT"))

Clock: TypeAlias = Callable[[], float]
Labels: TypeAlias = tuple[str, str]


class Objective:
    """One promise: of the requests that count, a share of `target` shall be good.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, target: float, clock: Clock = time.monotonic) -> None:
        self.target = target
        self.total = 0
        self.good = 0
        self._clock = clock
        # A ring of the last minutes, the one that runs included.
        self._minute = int(clock() // 60)
        self._totals = [0] * MINUTES
        self._goods = [0] * MINUTES

    def count(self, good: int, total: int) -> None:
        """So many requests ended, so many of them as they should."""
        self.good += good
        self.total += total
        self._turn()
        place = self._minute % MINUTES
        self._goods[place] += good
        self._totals[place] += total

    def burn_rate(self, minutes: int) -> float:
        """The share of bad requests in the last minutes by the share that is allowed; 0 without requests."""
        self._turn()
        places = [(self._minute - age) % MINUTES for age in range(minutes)]
        total = sum(self._totals[place] for place in places)
        if not total:
            return 0.0
        good = sum(self._goods[place] for place in places)
        return (total - good) / total / (1.0 - self.target)

    def _turn(self) -> None:
        """Forget the minutes that are over for an hour."""
        minute = int(self._clock() // 60)
        for passed in range(max(self._minute + 1, minute - MINUTES + 1), minute + 1):
            self._goods[passed % MINUTES] = self._totals[passed % MINUTES] = 0
        self._minute = minute


class Objectives:
    """What was promised for one version of a model."""

    def __init__(self, slo: Slo, clock: Clock = time.monotonic) -> None:
        self.latency = slo.latency
        self.by_name: dict[str, Objective] = {}
        if slo.latency is not None:
            self.by_name["latency"] = Objective(slo.target, clock)
        if slo.availability is not None:
            self.by_name["availability"] = Objective(slo.availability, clock)

    def ended(self, code: str, seconds: Sequence[float]) -> None:
        """Requests ended alike, each after so many seconds."""
        answered = code == "OK"
        if answered and self.latency is not None:
            limit = self.latency
            self.by_name["latency"].count(sum(1 for each in seconds if each <= limit), len(seconds))
        if (answered or code in BROKEN) and "availability" in self.by_name:
            self.by_name["availability"].count(len(seconds) if answered else 0, len(seconds))


def promised_by(models: Iterable[ModelConfig]) -> dict[Labels, Objectives]:
    """The objectives of the models that have some; from now on they are counted."""
    return {
        (model.name, model.version): Objectives(model.slo)
        for model in models
        if model.slo.latency is not None or model.slo.availability is not None
    }


def families(promised: Mapping[Labels, Objectives]) -> Iterator[Metric]:
    """What was promised and what was kept, by (model, version); nothing where nothing was promised."""
    if not promised:
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
    for version, objectives in promised.items():
        if objectives.latency is not None:
            limit.add_metric(version, objectives.latency)
        for name, objective in objectives.by_name.items():
            target.add_metric((*version, name), objective.target)
            total.add_metric((*version, name), objective.total)
            good.add_metric((*version, name), objective.good)
            for window, minutes in WINDOWS.items():
                burn.add_metric((*version, name, window), objective.burn_rate(minutes))
    yield from (limit, target, total, good, burn)
