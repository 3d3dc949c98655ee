"""Promises: what counts, what is good, and how fast the allowance burns."""

from __future__ import annotations

import pytest

from oipserver import ModelConfig
from oipserver.core.model_config import Slo
from oipserver.core.observer import Ended
from oipserver.metrics import Metrics
from oipserver.metrics.slo import Objective, Objectives


class Clock:
    """Seconds that go on when told."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("start", [0.0, 59.9, 7e5])
def test_the_burn_rate_is_the_bad_share_by_the_allowed_share(start: float) -> None:
    clock = Clock(start)
    objective = Objective(0.99, clock)
    assert objective.burn_rate(5) == 0.0
    objective.count(good=900, total=1000)
    assert objective.burn_rate(5) == pytest.approx(10.0)
    objective.count(good=1000, total=1000)
    assert objective.burn_rate(5) == objective.burn_rate(60) == pytest.approx(5.0)


def test_a_window_forgets_what_is_older_than_itself() -> None:
    clock = Clock()
    objective = Objective(0.9, clock)
    objective.count(good=0, total=10)
    clock.now = 4 * 60 + 59
    assert objective.burn_rate(5) == pytest.approx(10.0)
    clock.now = 5 * 60
    assert objective.burn_rate(5) == 0.0
    assert objective.burn_rate(60) == pytest.approx(10.0)
    clock.now = 59 * 60 + 59
    objective.count(good=10, total=10)
    assert objective.burn_rate(60) == pytest.approx(5.0)
    clock.now = 60 * 60
    assert objective.burn_rate(60) == 0.0
    assert (objective.good, objective.total) == (10, 20)


def test_the_ring_agrees_with_a_list_of_everything() -> None:
    clock = Clock(12345.0)
    objective = Objective(0.95, clock)
    history: list[tuple[int, int, int]] = []
    for step in range(500):
        clock.now += (step * 37) % 301  # from none to five minutes at once
        good, total = step % 7, step % 7 + step % 3
        objective.count(good, total)
        history.append((int(clock.now // 60), good, total))
        for minutes in (5, 60):
            recent = [entry for entry in history if entry[0] > int(clock.now // 60) - minutes]
            bad, seen = sum(t - g for _, g, t in recent), sum(t for *_, t in recent)
            assert objective.burn_rate(minutes) == pytest.approx(bad / seen / 0.05 if seen else 0.0)


def test_an_hour_without_anybody_leaves_nothing() -> None:
    clock = Clock()
    objective = Objective(0.9, clock)
    objective.count(0, 5)
    clock.now = 10**6
    objective.count(5, 5)
    assert objective.burn_rate(60) == 0.0


def test_only_answers_count_for_latency() -> None:
    watched = Objectives(Slo(latency=0.1))
    watched.ended("OK", (0.05, 0.1, 0.11))
    watched.ended("INFERENCE_FAILED", (0.01,))
    watched.ended("BAD_REQUEST", (0.01,))
    assert (watched.by_name["latency"].good, watched.by_name["latency"].total) == (2, 3)
    assert "availability" not in watched.by_name


@pytest.mark.parametrize(
    ("code", "counts"),
    [
        *((code, True) for code in ("INFERENCE_FAILED", "INTERNAL", "NOT_READY", "OVERLOADED", "TIMEOUT")),
        *((code, False) for code in ("BAD_REQUEST", "UNPROCESSABLE", "CANCELLED", "RATE_LIMIT", "NOT_FOUND")),
    ],
)
def test_a_callers_own_mistake_does_not_count_for_availability(code: str, counts: bool) -> None:
    watched = Objectives(Slo(availability=0.999))
    watched.ended("OK", (9.0,))
    watched.ended(code, (0.01,))
    objective = watched.by_name["availability"]
    assert (objective.good, objective.total) == (1, 2 if counts else 1)


def test_a_breach_is_visible_in_the_metrics() -> None:
    promise = Slo(latency=0.1, target=0.9, availability=0.5)
    metrics = Metrics([ModelConfig("m", "test", slo=promise), ModelConfig("free", "test")])
    metrics.requests(Ended("http", "", "m", "1", "OK", [0.2] * 5 + [0.01] * 5))
    metrics.requests(Ended("grpc", "", "m", "1", "TIMEOUT", [0.2] * 30))
    metrics.requests(Ended("http", "", "free", "1", "OK", [0.2]))
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in metrics.collect()
        for sample in family.samples
        if sample.name.startswith("oip_slo")
    }
    assert found == pytest.approx(
        {
            ("oip_slo_latency_seconds", "m", "1"): 0.1,
            ("oip_slo_target", "m", "1", "latency"): 0.9,
            ("oip_slo_target", "m", "1", "availability"): 0.5,
            ("oip_slo_requests_total", "m", "1", "latency"): 10,
            ("oip_slo_requests_total", "m", "1", "availability"): 40,
            ("oip_slo_good_requests_total", "m", "1", "latency"): 5,
            ("oip_slo_good_requests_total", "m", "1", "availability"): 10,
            ("oip_slo_burn_rate", "m", "1", "latency", "5m"): 5.0,
            ("oip_slo_burn_rate", "m", "1", "latency", "1h"): 5.0,
            ("oip_slo_burn_rate", "m", "1", "availability", "5m"): 1.5,
            ("oip_slo_burn_rate", "m", "1", "availability", "1h"): 1.5,
        }
    )


def test_nobody_who_promises_nothing_pays() -> None:
    metrics = Metrics([ModelConfig("m", "test")])
    metrics.requests(Ended("http", "", "m", "1", "OK", [0.2]))
    assert not [family for family in metrics.collect() if family.name.startswith("oip_slo")]
