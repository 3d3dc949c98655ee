"""Statistics, on both fronts: what was asked is what was counted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from oipserver.core.observer import Ended, Phases
from oipserver.core.statistics import EXACT_ROWS, Duration, Statistics
from tests.protocol.fronts import Front, Http, Tensor

SECTIONS = {
    "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss",
}  # fmt: skip
COMPUTED = ("queue", "compute_input", "compute_infer", "compute_output")


def rows(count: int, value: float = 1.0) -> Tensor:
    return Tensor("x", "FP64", [count, 2], [value] * 2 * count)


def of(front: Front, model: str = "counted") -> Mapping[str, Any]:
    (one,) = front.statistics(model)
    return one


def grown(after: Any, before: Any, *path: str) -> int:
    for step in path:
        after, before = after[step], before[step]
    return int(after - before)


def test_requests_rows_and_calls(front: Front) -> None:
    before, begun = of(front), time.time()
    for count in (1, 3, 3):
        front.infer("counted", [rows(count)], {})
    after = of(front)
    assert (after["name"], after["version"]) == ("counted", "1")
    assert after["inference_stats"].keys() == SECTIONS
    assert grown(after, before, "inference_count") == 7
    assert grown(after, before, "execution_count") == 3
    assert grown(after, before, "inference_stats", "success", "count") == 3
    assert grown(after, before, "inference_stats", "fail", "count") == 0
    assert begun * 1000 - 1 <= after["last_inference"] <= time.time() * 1000
    batches = {one["batch_size"]: one["compute_infer"] for one in after["batch_stats"]}
    assert {1, 3} <= batches.keys()
    earlier = {one["batch_size"]: one["compute_infer"]["count"] for one in before["batch_stats"]}
    assert batches[3]["count"] - earlier.get(3, 0) == 2
    assert batches[3]["ns"] > 0


def test_the_parts_are_within_the_whole(front: Front) -> None:
    before = of(front)
    for _ in range(3):
        front.infer("counted", [rows(2)], {})
    after = of(front)
    spent = {name: grown(after, before, "inference_stats", name, "ns") for name in SECTIONS}
    counts = {name: grown(after, before, "inference_stats", name, "count") for name in SECTIONS}
    assert counts == {name: 3 if name in ("success", *COMPUTED) else 0 for name in SECTIONS}
    assert spent["compute_infer"] > 0
    assert sum(spent[name] for name in COMPUTED) <= spent["success"]


def test_what_fails_is_counted_as_that_alone(front: Front) -> None:
    before = of(front)
    front.refused("INFERENCE_FAILED", "counted", [rows(1, -13.0)], {})
    front.refused("BAD_REQUEST", "counted", [Tensor("x", "FP64", [1, 3], [1.0, 2.0, 3.0])], {})
    after = of(front)
    assert grown(after, before, "inference_stats", "fail", "count") == 2
    assert grown(after, before, "inference_stats", "fail", "ns") > 0
    assert grown(after, before, "inference_stats", "success", "count") == 0
    assert grown(after, before, "inference_count") == 0
    assert grown(after, before, "execution_count") == 0


def test_both_fronts_tell_the_same(fronts: dict[str, Front]) -> None:
    fronts["http"].infer("counted", [rows(1)], {})
    fronts["grpc"].infer("counted", [rows(1)], {})
    http, grpc = (fronts[name].statistics() for name in ("http", "grpc"))
    assert http == grpc
    assert fronts["http"].statistics("counted", "1") == [of(fronts["grpc"])]


def test_every_model_is_there(front: Front) -> None:
    found = front.statistics()
    assert {one["name"] for one in found} == {"species", "double", "counted", "repeat", "squares"}


@pytest.mark.parametrize("path", ["nobody/stats", "counted/versions/9/stats"])
def test_no_model(fronts: dict[str, Http], path: str) -> None:
    fronts["http"].ask("GET", f"models/{path}").error("NOT_FOUND")
    fronts["http"].ask("GET", f"models/{path.replace('stats', 'config')}").error("NOT_FOUND")


# --- the observer alone ------------------------------------------------------------------------------------


def test_requests_that_ended_together_count_the_whole_call_each() -> None:
    statistics = Statistics()
    phases = Phases(decode=0.001, queue=0.002, compute=0.004, encode=0.0005, batch_rows=8)
    statistics.requests(Ended("http", "", "m", "1", "OK", (0.01, 0.02), phases=phases))
    numbers = statistics.of("m", "1")
    assert numbers.success == Duration(2, 0.03)
    assert numbers.queue == Duration(2, 0.004)
    assert numbers.compute_input == Duration(2, 0.002)
    assert numbers.compute_infer == Duration(2, 0.008)
    assert (numbers.compute_output.count, numbers.compute_output.nanoseconds) == (2, 1_000_000)


def test_a_stream_is_in_no_batch() -> None:
    statistics = Statistics()
    statistics.requests(Ended("grpc", "", "m", "1", "OK", (0.5,), rows=2))
    numbers = statistics.of("m", "1")
    assert (numbers.inference_count, numbers.execution_count) == (2, 1)
    assert numbers.last_inference > 0


def test_what_is_of_no_model_is_not_kept() -> None:
    statistics = Statistics()
    for _ in range(3):
        statistics.requests(Ended("http", "", "", "", "NOT_FOUND", (0.1,)))
    assert statistics.of("", "").fail == Duration()


def test_batch_sizes_are_bounded() -> None:
    statistics = Statistics()
    for size in range(1, 3 * EXACT_ROWS):
        statistics.batch("m", "1", size, 0.001, (0.0,))
    batches = statistics.of("m", "1").batches
    assert set(batches) == {*range(1, EXACT_ROWS + 1), 2 * EXACT_ROWS, 4 * EXACT_ROWS}
    assert batches[2 * EXACT_ROWS].count == EXACT_ROWS
