"""The scheduler with real models, gates and clocks: nobody is held up, nobody gets another's answer."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from oipserver import FP64, Arrays, DynamicBatching, InstanceGroup, InvalidInput, Parameters, TensorMetadata
from oipserver.core.errors import (
    DeadlineExceeded,
    Fault,
    InferenceFailed,
    NotReady,
    Overloaded,
    Unprocessable,
)
from oipserver.core.executor import INLINE_BELOW, CostModel
from oipserver.core.observer import SilentObserver
from oipserver.core.scheduler import Budget
from tests.support import (
    PATIENCE,
    Doubler,
    GatedModel,
    Plane,
    entered,
    first_column,
    outcome,
    request,
    run,
    until,
    with_time,
)


class Clock(SilentObserver):
    """Remembers how long each request waited, in seconds."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def batch(
        self,
        model: str,
        version: str,
        rows: int,
        compute_seconds: float,
        queue_seconds: Sequence[float],
        failed: bool = False,
    ) -> None:
        self.waits.extend(queue_seconds)


def depth(plane: Plane, model: str = "m") -> int:
    return plane.registry.find(model, None).depth


async def busy(plane: Plane, model: GatedModel, value: float = 1.0) -> asyncio.Task[Any]:
    """A task whose request the model computes right now, behind a closed gate."""
    model.gate.clear()
    task = asyncio.ensure_future(plane.data.infer(request(value)))
    await entered(model)
    return task


def test_singles_of_one_turn_share_a_call_and_each_gets_its_own_answer() -> None:
    async def scenario() -> None:
        model = Doubler()
        async with Plane({"m": model}) as plane:
            answers = await asyncio.gather(*(plane.data.infer(request(float(n))) for n in range(64)))
        assert [first_column(answer) for answer in answers] == [[2.0 * n] for n in range(64)]
        assert model.calls == [64]

    run(scenario())


def test_callers_with_different_row_counts_are_cut_apart_right() -> None:
    async def scenario() -> None:
        async with Plane({"m": Doubler()}) as plane:
            sizes = [1, 5, 2, 1, 7]
            requests = [request(*(100.0 * k + n for n in range(size))) for k, size in enumerate(sizes)]
            answers = await asyncio.gather(*map(plane.data.infer, requests))
        assert [first_column(answer) for answer in answers] == [
            [2 * (100.0 * k + n) for n in range(size)] for k, size in enumerate(sizes)
        ]

    run(scenario())


def test_a_lone_request_waits_for_no_company() -> None:
    """Any timer of uvloop takes a millisecond at least; a turn of the loop takes microseconds."""

    async def scenario() -> None:
        clock = Clock()
        async with Plane({"m": GatedModel()}, observer=clock) as plane:
            for _ in range(20):  # where the machine is busy, most of a round may be late
                clock.waits.clear()
                for _ in range(50):
                    await plane.data.infer(request(1.0))
                if sorted(clock.waits)[25] < 0.001:
                    return
        raise AssertionError(clock.waits)

    run(scenario())


def test_the_queue_fills_while_the_model_is_busy_and_leaves_as_one_batch() -> None:
    async def scenario() -> None:
        model = GatedModel()
        async with Plane({"m": model}) as plane:
            first = await busy(plane, model)
            rest = [asyncio.ensure_future(plane.data.infer(request(float(n)))) for n in range(10)]
            await until(lambda: depth(plane) == 10)
            model.gate.set()
            answers = await asyncio.gather(first, *rest)
        assert [first_column(answer) for answer in answers[1:]] == [[2.0 * n] for n in range(10)]
        assert model.calls == [1, 10]

    run(scenario())


def test_requests_of_two_kinds_are_batched_each_with_its_own() -> None:
    class TwoOutputs(GatedModel):
        outputs = (TensorMetadata("y", FP64, (-1, 2)), TensorMetadata("z", FP64, (-1, 2)))

        def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
            y = super().predict(inputs, outputs, parameters)["y"]
            return {name: y if name == "y" else y + 1 for name in outputs}

    async def scenario() -> None:
        model = TwoOutputs()
        async with Plane({"m": model}) as plane:
            first = await busy(plane, model)
            mixed = [
                asyncio.ensure_future(plane.data.infer(request(float(n), outputs=["yz"[n % 2]])))
                for n in range(8)
            ]
            await until(lambda: depth(plane) == 8)
            model.gate.set()
            await first
            answers = await asyncio.gather(*mixed)
        assert [first_column(answer) for answer in answers] == [[2.0 * n + n % 2] for n in range(8)]
        assert model.calls == [1, 4, 4]

    run(scenario())


def test_rows_are_capped_but_a_larger_request_travels_alone() -> None:
    async def scenario() -> None:
        model = GatedModel()
        async with Plane({"m": model}, max_batch_size=4) as plane:
            first = await busy(plane, model)
            sizes = [3, 2, 9, 1, 1]
            tasks = [asyncio.ensure_future(plane.data.infer(request(*range(size)))) for size in sizes]
            await until(lambda: depth(plane) == len(sizes))
            model.gate.set()
            await first
            answers = await asyncio.gather(*tasks)
        assert [len(first_column(answer)) for answer in answers] == sizes
        assert model.calls == [1, 4, 3, 9]  # 3+1, then 2+1, then the nine alone

    run(scenario())


@pytest.mark.parametrize("batch_size", [0, 8])
def test_a_model_that_is_not_batchable_computes_one_request_at_a_time(batch_size: int) -> None:
    class Alone(GatedModel):
        batchable = False

    async def scenario() -> None:
        model = Alone()
        async with Plane({"m": model}, max_batch_size=batch_size) as plane:
            answers = await asyncio.gather(*(plane.data.infer(request(float(n))) for n in range(3)))
        assert [first_column(answer) for answer in answers] == [[0.0], [2.0], [4.0]]
        assert model.calls == [1, 1, 1]

    run(scenario())


# --- Rule 1: cancelled, expired, refused ---


def test_a_cancelled_caller_is_never_computed_and_its_mates_are_answered() -> None:
    async def scenario() -> None:
        model = GatedModel()
        async with Plane({"m": model}) as plane:
            first = await busy(plane, model)
            tasks = [asyncio.ensure_future(plane.data.infer(request(float(n)))) for n in range(4)]
            await until(lambda: depth(plane) == 4)
            tasks[1].cancel()
            await until(lambda: depth(plane) == 3)
            model.gate.set()
            answers = await asyncio.gather(first, *tasks, return_exceptions=True)
        assert isinstance(answers[2], asyncio.CancelledError)
        assert [first_column(answers[n]) for n in (1, 3, 4)] == [[0.0], [4.0], [6.0]]
        assert model.calls == [1, 3]

    run(scenario())


def test_a_caller_cancelled_while_its_batch_runs_holds_up_nobody() -> None:
    async def scenario() -> None:
        model = GatedModel()
        async with Plane({"m": model}) as plane:
            model.gate.clear()
            tasks = [asyncio.ensure_future(plane.data.infer(request(float(n)))) for n in range(4)]
            await entered(model)
            tasks[0].cancel()
            await outcome(tasks[0])
            model.gate.set()
            answers = await asyncio.gather(*tasks[1:])
        assert [first_column(answer) for answer in answers] == [[2.0], [4.0], [6.0]]

    run(scenario())


def test_a_ticket_answers_once_however_often_it_is_cancelled() -> None:
    async def scenario() -> None:
        replies: list[object] = []
        async with Plane({"m": Doubler()}) as plane:
            kept = plane.data.submit(request(1.0), replies.append)
            dropped = plane.data.submit(request(2.0), replies.append)
            dropped.cancel()
            dropped.cancel()
            await until(lambda: len(replies) > 0)
            kept.cancel()
            await plane.data.infer(request(3.0))
        assert len(replies) == 1
        assert first_column(replies[0]) == [2.0]

    run(scenario())


def test_an_expired_request_is_told_in_time_and_the_model_never_sees_it() -> None:
    async def scenario() -> None:
        model = GatedModel()
        async with Plane({"m": model}) as plane:
            first = await busy(plane, model)
            waited = []
            for _ in range(5):
                started = time.monotonic()
                late = await outcome(plane.data.infer(request(5.0, seconds=0.1)))
                waited.append(time.monotonic() - started)
                assert isinstance(late, DeadlineExceeded)
            model.gate.set()
            await first
        assert min(waited) >= 0.099
        assert sorted(waited)[2] < 0.5  # not when the model has time, nor when some round of a clock is over
        assert model.calls == [1]

    run(scenario())


def test_a_deadline_passes_while_the_model_computes() -> None:
    async def scenario(seconds: float) -> None:
        model = GatedModel()
        async with Plane({"m": model}) as plane:
            model.gate.clear()
            patient = asyncio.ensure_future(plane.data.infer(request(1.0)))
            hasty = asyncio.ensure_future(plane.data.infer(request(2.0, seconds=seconds)))
            assert isinstance(await outcome(hasty), DeadlineExceeded)
            assert not patient.done()
            model.gate.set()
            assert first_column(await patient) == [2.0]
        assert model.calls == [2]

    with_time(lambda seconds: run(scenario(seconds)), 0.05, 0.5, 5.0)


def test_a_deadline_that_is_over_already_is_refused_at_the_door() -> None:
    async def scenario() -> None:
        model = Doubler()
        async with Plane({"m": model}) as plane:
            assert isinstance(await outcome(plane.data.infer(request(1.0, seconds=0.0))), DeadlineExceeded)
        assert model.calls == []

    run(scenario())


@pytest.mark.parametrize(
    "limits", [DynamicBatching(max_queue_size=3), DynamicBatching(max_queue_bytes=3 * 16)]
)
def test_an_overfull_queue_refuses_at_once_and_recovers(limits: DynamicBatching) -> None:
    async def scenario() -> None:
        model = GatedModel()
        async with Plane({"m": model}, dynamic_batching=limits) as plane:
            first = await busy(plane, model)
            waiting = [asyncio.ensure_future(plane.data.infer(request(float(n)))) for n in range(3)]
            await until(lambda: depth(plane) == 3)
            assert isinstance(await outcome(plane.data.infer(request(9.0))), Overloaded)
            model.gate.set()
            await asyncio.gather(first, *waiting)
            assert first_column(await plane.data.infer(request(9.0))) == [18.0]

    run(scenario())


def test_the_budget_of_the_server_is_shared_and_given_back() -> None:
    async def scenario() -> None:
        budget = Budget(2, 2**20)
        first, second = GatedModel(), GatedModel()
        async with Plane({"m": first, "n": second}, budget=budget) as plane:
            running = await busy(plane, first)
            waiting = [asyncio.ensure_future(plane.data.infer(request(1.0))) for _ in range(2)]
            await until(lambda: budget.requests == 2)
            assert isinstance(await outcome(plane.data.infer(request(1.0, model="n"))), Overloaded)
            waiting[0].cancel()
            await until(lambda: budget.requests == 1)
            assert first_column(await plane.data.infer(request(4.0, model="n"))) == [8.0]
            first.gate.set()
            await asyncio.gather(running, waiting[1])
        assert (budget.requests, budget.bytes) == (0, 0)

    run(scenario())


# --- Rule 4: failing batches ---


@pytest.mark.parametrize("error", [RuntimeError("boom"), SystemExit(3), MemoryError(), KeyboardInterrupt()])
def test_a_bad_request_fails_alone(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        model = Doubler(poison={13.0: error})
        async with Plane({"m": model}) as plane:
            results = await asyncio.gather(*(outcome(plane.data.infer(request(float(n)))) for n in range(32)))
        failed = [n for n, result in enumerate(results) if isinstance(result, Fault)]
        assert failed == [13]
        assert isinstance(results[13], InferenceFailed)
        assert "boom" not in str(results[13])
        assert all(first_column(result) == [2.0 * n] for n, result in enumerate(results) if n != 13)
        assert len(model.calls) <= 1 + 2 * math.log2(32)

    run(scenario())
    assert "predict failed" in caplog.text


def test_data_at_fault_is_told_to_its_sender_only() -> None:
    async def scenario() -> None:
        model = Doubler(poison={float(n): InvalidInput(f"value {n} is unknown") for n in (3, 4, 30)})
        async with Plane({"m": model}) as plane:
            results = await asyncio.gather(*(outcome(plane.data.infer(request(float(n)))) for n in range(32)))
        faults = {n: str(result) for n, result in enumerate(results) if isinstance(result, Fault)}
        assert faults == {n: f"value {n} is unknown" for n in (3, 4, 30)}
        assert all(isinstance(results[n], Unprocessable) for n in faults)

    run(scenario())


def test_a_broken_model_is_not_called_for_each_request() -> None:
    class Broken(Doubler):
        broken = False

        def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
            answer = super().predict(inputs, outputs, parameters)
            if self.broken:
                raise RuntimeError("out of order")
            return answer

    async def scenario() -> None:
        model = Broken()
        async with Plane({"m": model}) as plane:
            model.broken = True
            results = await asyncio.gather(*(outcome(plane.data.infer(request(1.0))) for _ in range(64)))
            assert all(isinstance(result, InferenceFailed) for result in results)
            assert len(model.calls) < 20
            model.broken = False
            assert first_column(await plane.data.infer(request(1.0))) == [2.0]

    run(scenario())


def test_retry_can_be_switched_off_and_then_nobody_reads_anothers_message() -> None:
    async def scenario() -> None:
        model = Doubler(poison={2.0: InvalidInput("secret of caller 2")})
        batching = DynamicBatching(retry_failed=False)
        async with Plane({"m": model}, dynamic_batching=batching) as plane:
            results = await asyncio.gather(*(outcome(plane.data.infer(request(float(n)))) for n in range(4)))
        assert all(isinstance(result, InferenceFailed) for result in results)
        assert "secret" not in " ".join(map(str, results))
        assert model.calls == [4]

    run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        {},
        None,
        {"y": None},
        {"y": [[1.0, 2.0]]},
        {"y": np.zeros((1, 2), dtype=np.float32)},
        {"y": np.zeros((7, 2))},
        {"y": np.zeros((2,))},
        {"y": np.zeros((2, 3))},
    ],
)
def test_an_answer_that_is_not_announced_is_the_models_failure(answer: Any) -> None:
    class Liar(Doubler):
        lying = False

        def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
            truth = super().predict(inputs, outputs, parameters)
            return answer if self.lying else truth

    async def scenario() -> None:
        model = Liar()
        async with Plane({"m": model}) as plane:
            model.lying = True
            results = await asyncio.gather(*(outcome(plane.data.infer(request(1.0))) for _ in range(2)))
        assert all(isinstance(result, InferenceFailed) for result in results)

    run(scenario())


def test_an_answer_with_code_of_its_own_that_raises_is_the_models_failure() -> None:
    class Explosive(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            raise OSError("boom")

    class Liar(Doubler):
        lying = False

        def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
            truth = super().predict(inputs, outputs, parameters)
            return Explosive() if self.lying else truth

    async def scenario() -> None:
        model = Liar()
        async with Plane({"m": model}) as plane:
            model.lying = True
            results = await asyncio.gather(*(outcome(plane.data.infer(request(1.0))) for _ in range(4)))
            assert all(isinstance(result, InferenceFailed) for result in results)
            model.lying = False
            assert first_column(await plane.data.infer(request(2.0))) == [4.0]

    run(scenario())


def test_the_second_tries_of_a_failed_batch_do_not_hold_up_who_came_meanwhile() -> None:
    async def scenario() -> None:
        bad = 64
        model = GatedModel(poison={float(n): InvalidInput("unknown") for n in range(1, bad + 1)})
        async with Plane({"m": model}) as plane:
            first = await busy(plane, model, 0.0)
            failing = [
                asyncio.ensure_future(outcome(plane.data.infer(request(float(n + 1))))) for n in range(bad)
            ]
            await until(lambda: depth(plane) == bad)
            model.gate.set()
            await first
            await until(lambda: len(model.calls) > 1)
            good = await plane.data.infer(request(100.0))
            tries = len(model.calls)
            assert first_column(good) == [200.0]
            assert all(isinstance(result, Unprocessable) for result in await asyncio.gather(*failing))
        assert tries < bad
        assert len(model.calls) > bad

    run(scenario())


def test_an_expired_mate_is_left_out_of_the_second_try() -> None:
    async def scenario(short: float) -> None:
        model = GatedModel(poison={1.0: RuntimeError("boom")})
        async with Plane({"m": model}) as plane:
            model.gate.clear()
            tasks = [
                asyncio.ensure_future(outcome(plane.data.infer(request(float(n), seconds=seconds))))
                for n, seconds in enumerate((PATIENCE, PATIENCE, short, PATIENCE))
            ]
            assert isinstance(await tasks[2], DeadlineExceeded)
            model.gate.set()
            results = await asyncio.gather(*tasks)
        assert isinstance(results[1], InferenceFailed)
        assert [first_column(results[n]) for n in (0, 3)] == [[0.0], [6.0]]
        assert model.calls == [4, 1, 2, 1, 1]

    with_time(lambda short: run(scenario(short)), 0.05, 0.5, 5.0)


# --- Rule 2 and placement ---


def test_callers_of_the_last_batch_are_waited_for_a_moment() -> None:
    """Sixteen callers in a closed loop stay together instead of falling into halves."""

    class Slow(GatedModel):
        def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
            until_then = time.perf_counter() + 0.004
            while time.perf_counter() < until_then:
                pass
            return super().predict(inputs, outputs, parameters)

    async def scenario() -> None:
        model = Slow()
        async with Plane({"m": model}) as plane:

            async def caller() -> None:
                for _ in range(20):
                    await plane.data.infer(request(1.0))

            for _ in range(20):  # where the machine is busy, the moment may be over before they are back
                model.calls.clear()
                await asyncio.gather(*(caller() for _ in range(16)))
                if np.mean(model.calls) > 12:
                    return
        raise AssertionError(model.calls)

    run(scenario())


def test_a_fixed_queue_delay_gathers_company() -> None:
    async def scenario(delay: float) -> None:
        model = Doubler()
        batching = DynamicBatching(max_queue_delay_microseconds=round(delay * 1e6))
        async with Plane({"m": model}, dynamic_batching=batching) as plane:
            first = asyncio.ensure_future(plane.data.infer(request(1.0)))
            await until(lambda: depth(plane) == 1)
            second = asyncio.ensure_future(plane.data.infer(request(2.0)))
            await asyncio.gather(first, second)
        assert model.calls == [2]

    with_time(lambda delay: run(scenario(delay)), 0.05, 0.5, 5.0)


def test_a_queue_delay_counts_from_the_arrival() -> None:
    async def scenario(delay: float) -> None:
        clock, model = Clock(), GatedModel()
        batching = DynamicBatching(max_queue_delay_microseconds=round(delay * 1e6))
        async with Plane({"m": model}, observer=clock, dynamic_batching=batching) as plane:
            first = await busy(plane, model)
            waiting = asyncio.ensure_future(plane.data.infer(request(2.0)))
            await until(lambda: depth(plane) == 1)
            opened = asyncio.get_running_loop().call_later(1.5 * delay, model.gate.set)
            await asyncio.gather(first, waiting)
            assert opened.when() > 0
        assert clock.waits[-1] < 2.25 * delay  # 1.5 behind the busy model, and no delay after it

    with_time(lambda delay: run(scenario(delay)), 0.2, 1.0, 5.0)


def test_instances_compute_side_by_side() -> None:
    async def scenario() -> None:
        model = GatedModel()
        async with Plane({"m": model}, instance_group=InstanceGroup(count=2)) as plane:
            model.gate.clear()
            first = asyncio.ensure_future(plane.data.infer(request(1.0)))
            await entered(model)
            second = asyncio.ensure_future(plane.data.infer(request(2.0)))
            await entered(model)
            model.gate.set()
            assert [first_column(await one) for one in (first, second)] == [[2.0], [4.0]]

    run(scenario())


def test_a_cheap_model_runs_on_the_loop_and_an_expensive_one_does_not() -> None:
    import threading

    class Where(Doubler):
        may_run_inline = True

        def __init__(self, seconds: float) -> None:
            super().__init__()
            self.seconds = seconds
            self.threads: list[str] = []

        def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
            until_then = time.perf_counter() + self.seconds
            while time.perf_counter() < until_then:
                pass
            self.threads.append(threading.current_thread().name)
            return super().predict(inputs, outputs, parameters)

    async def scenario() -> None:
        cheap, expensive = Where(0.0), Where(0.005)
        async with Plane({"m": cheap, "n": expensive}) as plane:
            assert "MainThread" not in cheap.threads  # warm-up
            for _ in range(1000):  # where a call of the warm-up was slow, it is found out that others are not
                await plane.data.infer(request(1.0))
                if cheap.threads[-1] == "MainThread":
                    break
            await plane.data.infer(request(1.0, model="n"))
        assert cheap.threads[-1] == "MainThread"
        assert "MainThread" not in expensive.threads

    run(scenario())


def test_the_cost_model_bounds_what_it_has_not_seen() -> None:
    costs = CostModel()
    assert costs.estimate(1) == float("inf")
    costs.record(1, 0.0001)
    assert costs.estimate(1) == pytest.approx(0.0001)
    assert costs.estimate(1000) > INLINE_BELOW
    costs.record(1000, 0.0004)
    assert costs.estimate(16) == pytest.approx(0.0004)
    for _ in range(100):
        costs.record(1, 0.01)
    assert costs.estimate(1) == pytest.approx(0.01, rel=0.01)


# --- the end ---


def test_closing_finishes_what_was_accepted_and_refuses_the_rest() -> None:
    async def scenario() -> None:
        model = GatedModel()
        async with Plane({"m": model}) as plane:
            first = await busy(plane, model)
            waiting = asyncio.ensure_future(plane.data.infer(request(3.0)))
            await until(lambda: depth(plane) == 1)
            closing = asyncio.ensure_future(plane.registry.close())
            await asyncio.sleep(0)
            assert isinstance(await outcome(plane.data.infer(request(4.0))), NotReady)
            model.gate.set()
            assert first_column(await first) == [2.0]
            assert first_column(await waiting) == [6.0]
            await closing
        assert model.closed

    run(scenario())


def test_abandoning_answers_everybody() -> None:
    async def scenario() -> None:
        model = GatedModel()
        async with Plane({"m": model}) as plane:
            first = await busy(plane, model)
            waiting = asyncio.ensure_future(plane.data.infer(request(3.0)))
            await until(lambda: depth(plane) == 1)
            plane.registry.abandon(NotReady("the end"))
            assert isinstance(await outcome(first), NotReady)
            assert isinstance(await outcome(waiting), NotReady)

    run(scenario())
