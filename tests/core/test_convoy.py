"""Rule 5: requests that travel as one ticket fare as if each had one of its own."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest

from oipserver import FP64, Arrays, DynamicBatching, InstanceGroup, InvalidInput, Parameters
from oipserver.core.batch import split
from oipserver.core.contract import Work
from oipserver.core.errors import DeadlineExceeded, Fault, InferenceFailed, NotReady, Overloaded
from oipserver.core.messages import Tensor
from oipserver.core.observer import SilentObserver
from oipserver.core.scheduler import Budget, Convoy, Scheduler, Ticket
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

Outcome = list[float] | Fault


class Group:
    """Callers that travel together, one row each unless said otherwise, and what each was told."""

    def __init__(self, values: Sequence[float], rows: int = 1, seconds: float = PATIENCE) -> None:
        self.values = values
        self.rows = rows
        self.deadline = time.monotonic() + seconds
        self.told: dict[int, list[Outcome]] = {number: [] for number in range(len(values))}
        self.submitted: Convoy | None = None

    def work(self, plane: Plane) -> Work:
        """What a front makes of them: the first one checked, all with its check."""
        contract = plane.registry.find("m", None).contract
        one = contract.check(request(*[self.values[0]] * self.rows))
        column = np.repeat(np.array(self.values, dtype=np.float64), self.rows)
        return contract.check_again(one, Tensor("x", FP64, np.stack([column, column], 1)), len(self.values))

    def submit(self, plane: Plane, at_once: bool = True) -> Group:
        self.submitted = scheduler(plane).submit_together(
            self.work(plane), self.deadline, range(len(self.values)), self.all, self.one, at_once
        )
        return self

    @property
    def convoy(self) -> Convoy:
        """Theirs, as long as they are not answered at once."""
        assert self.submitted is not None
        return self.submitted

    @property
    def gone(self) -> bool:
        """Whether nobody is inside any more."""
        return self.submitted is None or self.submitted.gone

    def drop(self, *numbers: int) -> None:
        for number in numbers:
            self.convoy.drop(number)

    def all(self, numbers: Sequence[int], result: Arrays | Fault) -> None:
        pieces = [result] * len(numbers)
        if not isinstance(result, Fault):
            pieces = list(split(result, [self.rows] * len(numbers)))
        for number, piece in zip(numbers, pieces, strict=True):
            self.one(number, piece)

    def one(self, number: int, result: Arrays | Fault) -> None:
        self.told[number].append(result if isinstance(result, Fault) else result["y"][:, 0].tolist())

    @property
    def done(self) -> bool:
        return all(self.told.values())

    def right(self, *numbers: int) -> bool:
        """Whether each of these, or of all, was told once, and what is right."""
        return all(
            self.told[number] == [[2.0 * self.values[number]] * self.rows] for number in numbers or self.told
        )

    def faults(self, *numbers: int) -> set[type]:
        """What the single answers to each of these, or to all, are."""
        assert all(len(self.told[number]) == 1 for number in numbers or self.told), self.told
        return {type(self.told[number][0]) for number in numbers or self.told}


class Waits(SilentObserver):
    """Remembers the waits of each batch, in seconds."""

    def __init__(self) -> None:
        self.batches: list[Sequence[float]] = []

    def batch(
        self,
        model: str,
        version: str,
        rows: int,
        compute_seconds: float,
        queue_seconds: Sequence[float],
        failed: bool = False,
    ) -> None:
        self.batches.append(queue_seconds)


class Scribbler(Doubler):
    """Computes in the array that it was given, and then looks at the values."""

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        inputs["x"][:] *= 2.0
        return {"y": super().predict(inputs, outputs, parameters)["y"] / 2.0}


def scheduler(plane: Plane) -> Scheduler:
    return plane.registry.find("m", None).scheduler


def books(plane: Plane) -> tuple[int, int, int, int, int]:
    """What waits: callers, rows and bytes of the model; requests and bytes of the server."""
    one = scheduler(plane)
    return (
        one._line.callers,
        one._line.rows,
        one._line.nbytes,
        one._budget.requests,
        one._budget.bytes,
    )


EMPTY = (0, 0, 0, 0, 0)


async def busy(plane: Plane, model: GatedModel) -> asyncio.Task[object]:
    """A request that the model computes right now, behind a closed gate."""
    model.gate.clear()
    task: asyncio.Task[object] = asyncio.ensure_future(plane.data.infer(request(1.0)))
    await entered(model)
    return task


def scenario(
    story: Callable[[Plane, GatedModel], Awaitable[None]],
    model: GatedModel | None = None,
    budget: Budget | None = None,
    **config: Any,
) -> None:
    """Run a story, after which nothing waits or runs."""

    async def whole() -> None:
        gated = model or GatedModel()
        async with Plane({"m": gated}, budget=budget, **config) as plane:
            await story(plane, gated)
            gated.gate.set()
            await scheduler(plane)._idle.wait()
            assert books(plane) == EMPTY

    run(whole())


# --- together ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3])
def test_a_group_is_one_call_and_each_gets_its_own(rows: int) -> None:
    async def story(plane: Plane, model: GatedModel) -> None:
        group = Group(range(64), rows).submit(plane)
        await until(lambda: group.done)
        assert group.right()
        assert model.calls == [64 * rows]

    scenario(story)


def test_a_model_that_runs_on_the_loop_answers_before_submit_returns() -> None:
    async def story() -> None:
        model = Doubler()
        model.may_run_inline = True
        async with Plane({"m": model}, instance_group=InstanceGroup(placement="inline")) as plane:
            group = Group(range(5)).submit(plane)
            assert group.right()
            assert group.submitted is None
            assert books(plane) == EMPTY

    run(story())


def test_groups_and_single_callers_share_a_batch() -> None:
    async def story(plane: Plane, model: GatedModel) -> None:
        first = await busy(plane, model)
        before = asyncio.ensure_future(plane.data.infer(request(100.0, 101.0)))
        await until(lambda: scheduler(plane).depth == 1)
        groups = [Group(range(3)).submit(plane), Group([50.0], rows=2).submit(plane)]
        behind = asyncio.ensure_future(plane.data.infer(request(200.0)))
        await until(lambda: scheduler(plane).depth == 6)
        groups[0].drop(1)
        model.gate.set()
        assert first_column(await before) == [200.0, 202.0]
        assert first_column(await behind) == [400.0]
        await first
        assert groups[0].right(0, 2)
        assert groups[1].right()
        assert model.calls == [1, 2 + 2 + 2 + 1]

    scenario(story)


def test_a_group_that_does_not_fit_beside_others_has_the_next_batch() -> None:
    async def story(plane: Plane, model: GatedModel) -> None:
        first = await busy(plane, model)
        sizes = [4, 6, 3, 1]
        groups = [Group(range(size)).submit(plane) for size in sizes]
        model.gate.set()
        await first
        await until(lambda: all(group.done for group in groups))
        assert all(group.right() for group in groups)
        assert model.calls == [1, 8, 6]  # 4+3+1, for 6 did not fit any more

    scenario(story, max_batch_size=8)


def test_a_group_with_another_key_travels_by_itself() -> None:
    async def story(plane: Plane, model: GatedModel) -> None:
        first = await busy(plane, model)
        other = Group(range(2))
        work = other.work(plane)
        work.key = "another"
        other.submitted = scheduler(plane).submit_together(
            work, other.deadline, range(2), other.all, other.one
        )
        group = Group(range(3)).submit(plane)
        model.gate.set()
        await first
        await until(lambda: group.done and other.done)
        assert group.right()
        assert other.right()
        assert model.calls == [1, 2, 3]

    scenario(story)


def test_each_caller_has_its_wait_in_the_books() -> None:
    async def story() -> None:
        waits = Waits()
        async with Plane({"m": Doubler()}, observer=waits) as plane:
            waits.batches.clear()
            group = Group(range(7)).submit(plane)
            await until(lambda: group.done)
        (batch,) = waits.batches
        assert len(batch) == 7
        assert all(0.0 <= seconds < PATIENCE for seconds in batch)

    run(story())


def test_the_wait_of_a_request_that_is_tried_again_began_when_it_came() -> None:
    class Guilty(Doubler):
        failed = 0.0

        def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
            if len(inputs["x"]) == 4:
                self.failed = time.monotonic()
                raise ValueError("poison")
            return super().predict(inputs, outputs, parameters)

    async def story() -> None:
        waits, model = Waits(), Guilty()
        async with Plane({"m": model}, observer=waits) as plane:
            waits.batches.clear()
            group = Group(range(4)).submit(plane)
            submitted = group.convoy.submitted
            await until(lambda: group.done)
        assert [len(batch) for batch in waits.batches] == [4, 2, 2]
        assert all(seconds > model.failed - submitted for batch in waits.batches[1:] for seconds in batch)

    run(story())


# --- who leaves --------------------------------------------------------------------------------------------


def test_who_leaves_the_queue_is_not_computed() -> None:
    async def story(plane: Plane, model: GatedModel) -> None:
        first = await busy(plane, model)
        group = Group(range(6), rows=2).submit(plane)
        assert books(plane) == (6, 12, 192, 6, 192)
        group.drop(0)
        group.drop(3, 5)
        assert books(plane) == (3, 6, 96, 3, 96)
        model.gate.set()
        await first
        await until(lambda: bool(group.told[4]))
        assert group.right(1, 2, 4)
        assert [group.told[number] for number in (0, 3, 5)] == [[], [], []]
        assert model.calls == [1, 6]

    scenario(story)


def test_a_group_that_all_leave_is_not_computed() -> None:
    async def story(plane: Plane, model: GatedModel) -> None:
        first = await busy(plane, model)
        group = Group(range(5)).submit(plane)
        group.drop(2, 4, 0, 1, 3)
        assert group.gone
        assert books(plane) == EMPTY
        model.gate.set()
        await first
        await scheduler(plane).drain()
        assert not any(group.told.values())
        assert model.calls == [1]

    scenario(story)


def test_a_thousand_who_leave_one_by_one_hold_up_nobody() -> None:
    """Each of them costs what it costs, not what the whole group is large."""

    async def story(plane: Plane, model: GatedModel) -> None:
        first = await busy(plane, model)
        group = Group(range(8), rows=4096).submit(plane)
        many = Group(range(1000), rows=128).submit(plane)
        started = time.thread_time()
        many.drop(*range(999))
        assert time.thread_time() - started < 1.0
        model.gate.set()
        await first
        await until(lambda: group.done and bool(many.told[999]))
        assert group.right()
        assert many.right(999)

    scenario(story, max_batch_size=2**20)


def test_who_leaves_during_compute_does_not_disturb_the_others() -> None:
    async def story(plane: Plane, model: GatedModel) -> None:
        model.gate.clear()
        group = Group(range(4)).submit(plane)
        await entered(model)
        group.drop(1, 2)
        model.gate.set()
        await until(lambda: bool(group.told[3]))
        # What was computed for those who have left is theirs to throw away.
        assert group.right(0, 3)

    scenario(story)


def test_who_left_during_compute_is_not_tried_again() -> None:
    async def story(plane: Plane, model: GatedModel) -> None:
        model.gate.clear()
        group = Group(range(4)).submit(plane)
        await entered(model)
        group.drop(1, 2)
        model.gate.set()
        await until(lambda: bool(group.told[3]))
        assert group.faults(0) == {InferenceFailed}
        assert group.right(3)
        assert model.calls == [4, 1, 1], "all, and then the two that are left"

    scenario(story, GatedModel({0.0: ValueError("poison")}))


def test_who_leaves_before_it_is_tried_again_is_not_computed() -> None:
    class Slow(GatedModel):
        """Fails the first call, and then waits at the gate."""

        def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
            if len(inputs["x"]) == 4:
                self.gate.clear()
                self.calls.append(4)
                raise ValueError("poison")
            return super().predict(inputs, outputs, parameters)

    async def story(plane: Plane, model: GatedModel) -> None:
        model.forget_warm_up()
        group = Group(range(4)).submit(plane)
        await entered(model)  # computes the first half
        group.drop(3)
        model.gate.set()
        await until(lambda: all(group.told[number] for number in range(3)))
        assert group.right(0, 1, 2)
        assert group.told[3] == []
        assert model.calls == [4, 2, 1]

    scenario(story, Slow())


def test_to_leave_twice_or_after_the_answer_is_to_do_nothing() -> None:
    async def story(plane: Plane, model: GatedModel) -> None:
        group = Group(range(3)).submit(plane)
        await until(lambda: group.done)
        group.drop(0, 1, 1)
        lone = Group([5.0]).submit(plane)
        lone.drop(0)
        lone.convoy.cancel()
        assert lone.gone

    scenario(story)


# --- failures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Doubler, Scribbler])
@pytest.mark.parametrize("error", [ValueError("poison"), InvalidInput("bad value")])
def test_the_guilty_one_fails_alone(kind: type[Doubler], error: Exception) -> None:
    """Also where the model has written into what it was given, before it failed."""

    async def story() -> None:
        values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        poison: dict[float, BaseException] = {(8.0 if kind is Scribbler else 4.0): error}
        async with Plane({"m": kind(poison)}) as plane:
            group = Group(values).submit(plane)
            await until(lambda: group.done)
            assert books(plane) == EMPTY
        assert group.right(0, 1, 2, 4, 5), group.told
        assert group.faults(3) == {InvalidInput if isinstance(error, InvalidInput) else InferenceFailed}

    run(story())


def test_the_guilty_one_of_a_mixed_batch_fails_alone() -> None:
    async def story(plane: Plane, model: GatedModel) -> None:
        first = await busy(plane, model)
        single = asyncio.ensure_future(plane.data.infer(request(30.0)))
        await until(lambda: scheduler(plane).depth == 1)
        groups = [Group([1.0, 66.0, 3.0]).submit(plane), Group([4.0, 5.0], rows=2).submit(plane)]
        last = asyncio.ensure_future(plane.data.infer(request(66.0)))
        await until(lambda: scheduler(plane).depth == 7)
        model.gate.set()
        await first
        assert first_column(await single) == [60.0]
        assert isinstance(await outcome(last), InferenceFailed)
        await until(lambda: all(group.done for group in groups))
        assert groups[0].right(0, 2)
        assert groups[0].faults(1) == {InferenceFailed}
        assert groups[1].right()

    scenario(story, GatedModel({66.0: ValueError("poison")}))


def test_a_group_of_one_fails_at_once() -> None:
    async def story(plane: Plane, model: GatedModel) -> None:
        group = Group([66.0]).submit(plane)
        await until(lambda: group.done)
        assert group.faults() == {InferenceFailed}
        assert model.calls == [1]

    scenario(story, GatedModel({66.0: ValueError("poison")}))


def test_without_retries_all_fail_and_nobody_hears_of_the_others() -> None:
    async def story(plane: Plane, model: GatedModel) -> None:
        group = Group([1.0, 66.0, 3.0]).submit(plane)
        await until(lambda: group.done)
        assert group.faults() == {InferenceFailed}
        assert "secret" not in str(group.told)
        assert model.calls == [3]

    scenario(
        story,
        GatedModel({66.0: InvalidInput("secret")}),
        dynamic_batching=DynamicBatching(retry_failed=False),
    )


def test_a_broken_model_is_not_called_for_each() -> None:
    class Broken(GatedModel):
        def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
            super().predict(inputs, outputs, parameters)
            raise RuntimeError("broken")

    async def story(plane: Plane, model: GatedModel) -> None:
        model.calls.clear()
        group = Group(range(512)).submit(plane)
        await until(lambda: group.done)
        assert group.faults() == {InferenceFailed}
        assert len(model.calls) <= 1 + 2 * (512).bit_length()

    scenario(story, Broken())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda y: y[:-1],
        lambda y: np.concatenate([y, y[:1]]),
        lambda y: y.astype(np.float32),
        lambda y: y[:, :1],
        lambda y: y.tolist(),
    ],
)
def test_a_wrong_answer_is_nobodys(wrong: Callable[[np.ndarray], object]) -> None:
    class Wrong(GatedModel):
        def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
            y = super().predict(inputs, outputs, parameters)["y"]
            return {"y": wrong(y) if (inputs["x"] == 66.0).any() else y}  # type: ignore[dict-item]

    async def story(plane: Plane, model: GatedModel) -> None:
        group = Group([66.0] * 4).submit(plane)
        await until(lambda: group.done)
        assert group.faults() == {InferenceFailed}

    scenario(story, Wrong())


# --- deadlines, limits, the end ----------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["queue", "compute"])
def test_the_deadline_of_a_group_is_that_of_each(where: str) -> None:
    async def story(plane: Plane, model: GatedModel, seconds: float) -> None:
        if where == "queue":
            first = await busy(plane, model)
        model.gate.clear()
        group = Group(range(3), seconds=seconds).submit(plane)
        patient = Group([7.0, 8.0]).submit(plane)
        await until(lambda: group.done)
        assert group.faults() == {DeadlineExceeded}
        assert not patient.done
        model.gate.set()
        await until(lambda: patient.done)
        assert patient.right()
        if where == "queue":
            await first
            assert model.calls == [1, 2]

    with_time(lambda seconds: scenario(partial(story, seconds=seconds)), 0.02, 0.5, 5.0)


def test_a_deadline_passes_while_the_guilty_one_is_looked_for() -> None:
    class Slow(GatedModel):
        def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
            if len(inputs["x"]) == 4:
                self.gate.clear()
                raise ValueError("poison")
            return super().predict(inputs, outputs, parameters)

    async def story(plane: Plane, model: GatedModel, seconds: float) -> None:
        group = Group(range(4), seconds=seconds).submit(plane)
        await until(lambda: group.done)
        assert group.faults() == {DeadlineExceeded}

    with_time(lambda seconds: scenario(partial(story, seconds=seconds), Slow()), 0.03, 0.5, 5.0)


def test_a_deadline_that_is_over_is_refused_at_the_door() -> None:
    async def story(plane: Plane, model: GatedModel) -> None:
        with pytest.raises(DeadlineExceeded):
            Group(range(3), seconds=0.0).submit(plane)
        assert books(plane) == EMPTY

    scenario(story)


@pytest.mark.parametrize(
    ("limits", "budget"),
    [
        (DynamicBatching(max_queue_size=4), None),
        (DynamicBatching(max_queue_bytes=4 * 16), None),
        (DynamicBatching(), Budget(4, 2**20)),
        (DynamicBatching(), Budget(2**20, 4 * 16)),
    ],
)
def test_a_group_counts_as_so_many(limits: DynamicBatching, budget: Budget | None) -> None:
    async def story(plane: Plane, model: GatedModel) -> None:
        first = await busy(plane, model)
        large = Group(range(5))
        assert not scheduler(plane).has_room(large.work(plane), 5), "even where nobody else waits"
        with pytest.raises(Overloaded):
            large.submit(plane)
        group = Group(range(3)).submit(plane)
        one, two = Group([8.0]), Group([8.0, 9.0])
        assert scheduler(plane).has_room(one.work(plane), 1)
        assert not scheduler(plane).has_room(two.work(plane), 2)
        with pytest.raises(Overloaded):
            two.submit(plane)
        group.drop(1)
        two.submit(plane)
        model.gate.set()
        await first
        await until(lambda: two.done)
        assert two.right()
        assert group.right(0, 2)

    scenario(story, budget=budget, dynamic_batching=limits)


def test_what_is_larger_than_the_queue_may_wait_alone() -> None:
    async def story(plane: Plane, model: GatedModel) -> None:
        first = await busy(plane, model)
        group = Group([3.0], rows=9).submit(plane)
        model.gate.set()
        await first
        await until(lambda: group.done)
        assert group.right()

    scenario(story, dynamic_batching=DynamicBatching(max_queue_bytes=16))


def test_the_drain_waits_for_a_group() -> None:
    async def story(plane: Plane, model: GatedModel) -> None:
        first = await busy(plane, model)
        group = Group(range(3)).submit(plane)
        drained = asyncio.ensure_future(scheduler(plane).drain())
        await asyncio.sleep(0)
        with pytest.raises(NotReady):
            Group(range(3)).submit(plane)
        assert not drained.done()
        model.gate.set()
        await drained
        await first
        assert group.right()

    scenario(story)


def test_whoever_is_abandoned_is_told_so_once() -> None:
    async def story(plane: Plane, model: GatedModel) -> None:
        model.gate.clear()
        running = Group(range(3)).submit(plane)
        await entered(model)
        waiting = Group(range(3)).submit(plane)
        waiting.drop(1)
        scheduler(plane).abandon(NotReady("gone"))
        assert running.faults() == waiting.faults(0, 2) == {NotReady}
        assert books(plane) == EMPTY
        model.gate.set()

    scenario(story)


def test_a_long_line_of_groups_leaves_others_their_turn() -> None:
    """A model on the loop computes one batch, and then the loop turns."""

    async def story() -> None:
        model = Doubler()
        model.may_run_inline = True
        turns = 0

        def count() -> None:
            nonlocal turns
            turns += 1
            if not groups[-1].done:
                asyncio.get_running_loop().call_soon(count)

        inline = InstanceGroup(placement="inline")
        async with Plane({"m": model}, instance_group=inline, max_batch_size=4) as plane:
            groups = [Group(range(4)) for _ in range(20)]
            asyncio.get_running_loop().call_soon(count)
            for group in groups:
                group.submit(plane, at_once=group is groups[0])
            await until(lambda: all(group.done for group in groups))
        assert all(group.right() for group in groups)
        assert model.calls == [4] * 20
        assert turns >= 19

    run(story())


# --- what is left ------------------------------------------------------------------------------------------


@contextmanager
def nothing_left() -> Iterator[None]:
    """Whatever comes into being inside goes without the garbage collector."""

    def alive() -> int:
        return sum(isinstance(each, Ticket | Group | Fault) for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = alive()
        yield
        assert alive() == before
    finally:
        gc.enable()


class Fussy(GatedModel):
    """Each of its errors is a new one, that nobody keeps."""

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        if (inputs["x"] == 66.0).any():
            raise ValueError("poison")
        return super().predict(inputs, outputs, parameters)


def test_groups_leave_nothing_for_the_garbage_collector() -> None:
    """A front has to let go of a convoy that has gone, for it knows the front."""

    async def good(plane: Plane) -> None:
        group = Group(range(3)).submit(plane)
        await until(lambda: group.done)
        assert group.right()
        assert group.gone
        del group.submitted

    async def guilty(plane: Plane) -> None:
        group = Group([1.0, 66.0, 3.0]).submit(plane)
        await until(lambda: group.done)
        assert group.right(0, 2)

    async def left(plane: Plane, model: GatedModel) -> None:
        first = await busy(plane, model)
        group = Group(range(3)).submit(plane)
        group.drop(0, 1, 2)
        assert group.gone
        del group.submitted
        model.gate.set()
        await first

    async def story(plane: Plane, model: GatedModel) -> None:
        await good(plane)
        with nothing_left():
            for _ in range(5):
                await good(plane)
                await guilty(plane)
                await left(plane, model)
            await scheduler(plane)._idle.wait()

    logging.disable()  # a record keeps its traceback, and that all frames
    try:
        scenario(story, Fussy())
    finally:
        logging.disable(logging.NOTSET)
