"""Service level objectives: the share of good requests, and how fast the others eat up the allowance.

A burn rate of 1 uses up exactly what the target allows; 14.4 for an hour uses 2 % of a month's allowance
(Google, "The Site Reliability Workbook", chapter 5, "Alerting on SLOs").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from oipserver.core.model_config import ModelConfig, Slo

MINUTES = 60
WINDOWS = {"5m": 5, "1h": MINUTES}
# What the server owed and did not give.  A caller's own mistakes, and callers who left, do not count at all.
BROKEN = frozenset(("INFERENCE_FAILED", "INTERNAL", "NOT_READY", "OVERLOADED", "TIMEOUT"))

Clock: TypeAlias = Callable[[], float]
Labels: TypeAlias = tuple[str, str]


class Kept(NamedTuple):
    """What became of one promise so far.

    Attributes:
        total, good: requests that count, and those of them that were good.
        burn_rates: by window.
    """

    target: float
    total: int
    good: int
    burn_rates: Mapping[str, float]


class Promise(NamedTuple):
    """What was promised for one version of a model, and what was kept.

    Attributes:
        labels: model and version.
        latency: an answer within so many seconds is good; None where nothing was promised about that.
        kept: by objective.
    """

    labels: Labels
    latency: float | None
    kept: Mapping[str, Kept]


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

    def kept(self) -> Kept:
        """What became of it so far."""
        burn_rates = {window: self.burn_rate(minutes) for window, minutes in WINDOWS.items()}
        return Kept(self.target, self.total, self.good, burn_rates)

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


def kept(promised: Mapping[Labels, Objectives]) -> list[Promise]:
    """What became of each promise so far, by (model, version)."""
    return [
        Promise(labels, objectives.latency, {name: each.kept() for name, each in objectives.by_name.items()})
        for labels, objectives in promised.items()
    ]
