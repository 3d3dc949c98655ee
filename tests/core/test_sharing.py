"""Callers and priorities that share one queue, through the data plane."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from oipserver import DynamicBatching
from oipserver.core.admission import Caller
from oipserver.core.errors import DeadlineExceeded, Fault, NotReady, Overloaded
from oipserver.core.messages import InferenceResponse
from oipserver.core.scheduler import Budget, Scheduler
from tests.core.test_convoy import Group
from tests.support import (
    PATIENCE,
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


class Recorder(GatedModel):
    """Remembers the first value of each row, in the order in which they are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[float] = []

    def predict(self, inputs: Any, outputs: Any, parameters: Any) -> Any:
        answer = super().predict(inputs, outputs, parameters)
        self.rows += inputs["x"][:, 0].tolist()
        return answer

    def forget_warm_up(self) -> None:
        super().forget_warm_up()
        self.rows.clear()


class Queue:
    """A queue behind a model that computes one request, value 0, behind a closed gate."""

    def __init__(self, plane: Plane, model: Recorder) -> None:
        self.plane = plane
        self.model = model
        self.answers: list[asyncio.Future[InferenceResponse | Fault]] = []

    async def block(self) -> None:
        self.model.gate.clear()
        self.ask(0.0)
        await entered(self.model)

    def ask(
        self, value: float, caller: str = "", priority: int = 0, seconds: float = PATIENCE
    ) -> asyncio.Future[InferenceResponse | Fault]:
        """One request of one row; its future answer.

        Raises:
            Fault: refused.
        """
        asked = replace(request(value, seconds=seconds), priority=priority)
        future: asyncio.Future[InferenceResponse | Fault] = asyncio.get_running_loop().create_future()
        admission = self.plane.gate.admit("http", caller=Caller(caller))
        self.plane.data.submit(asked, future.set_result, admission)
        self.answers.append(future)
        return future

    def refused(self, *arguments: Any, **more: Any) -> type[Fault]:
        with pytest.raises(Fault) as caught:
            self.ask(*arguments, **more)
        return caught.type

    async def order(self) -> list[float]:
        """The values in the order in which they were computed, without the first."""
        self.model.gate.set()
        await asyncio.gather(*self.answers)
        return self.model.rows[1:]


def scenario(story: Any, budget: Budget | None = None, max_batch_size: int = 1, **batching: Any) -> None:
    async def whole() -> None:
        model = Recorder()
        config = DynamicBatching(**batching)
        async with Plane(
            {"m": model}, budget=budget, dynamic_batching=config, max_batch_size=max_batch_size
        ) as plane:
            queue = Queue(plane, model)
            await queue.block()
            await story(queue)
            model.gate.set()
            await asyncio.gather(*queue.answers)
            scheduler: Scheduler = plane.registry.find("m", None).scheduler
            assert (scheduler.depth, scheduler._budget.requests, scheduler._budget.bytes) == (0, 0, 0)

    run(whole())


def values(start: int, count: int) -> Iterator[float]:
    return (float(value) for value in range(start, start + count))


# --- who is refused, and why ---


def test_a_full_queue_does_not_hide_that_the_time_is_over() -> None:
    async def story(queue: Queue) -> None:
        queue.ask(1.0)
        assert queue.refused(2.0) is Overloaded
        assert queue.refused(2.0, seconds=-1.0) is DeadlineExceeded
        assert queue.plane.registry.find("m", None).depth == 1

    scenario(story, max_queue_size=1)


def test_a_full_queue_does_not_hide_that_the_model_leaves() -> None:
    async def story(queue: Queue) -> None:
        queue.ask(1.0)
        leaving = asyncio.ensure_future(queue.plane.registry.find("m", None).scheduler.drain())
        await asyncio.sleep(0)
        assert queue.refused(2.0) is NotReady
        queue.model.gate.set()
        await leaving

    scenario(story, max_queue_size=1)


def measured(queue: Queue, seconds: dict[int, float]) -> None:
    """As if the model had taken so long for so many rows."""
    costs = queue.plane.registry.find("m", None).scheduler._executor.costs
    costs._seconds.clear()
    for rows, each in seconds.items():
        costs.record(rows, each)


@pytest.mark.parametrize("max_batch_size", [1, 0, 4])
def test_who_cannot_be_reached_in_time_is_told_at_once(max_batch_size: int) -> None:
    async def story(queue: Queue) -> None:
        measured(queue, {1: 10.0, 4: 10.0})
        ahead = 2 * max(1, max_batch_size)
        for value in values(1, ahead):
            queue.ask(value, seconds=25.0)
        assert queue.refused(90.0, seconds=19.0) is Overloaded
        queue.ask(91.0, seconds=25.0)
        assert await queue.order() == [*values(1, ahead), 91.0]

    scenario(story, max_batch_size=max_batch_size)


def test_the_first_batch_is_never_too_late() -> None:
    """What was measured may be wrong, and only a call can tell."""

    async def story(queue: Queue) -> None:
        measured(queue, {1: 1000.0})
        queue.ask(1.0)

    scenario(story)


# --- callers ---


def test_a_crowd_does_not_keep_another_caller_waiting() -> None:
    async def story(queue: Queue) -> None:
        for value in values(1, 50):
            queue.ask(value, "crowd")
        for value in values(100, 3):
            queue.ask(value, "other")
        assert await queue.order() == [1, 100, 2, 101, 3, 102, *values(4, 47)]

    scenario(story)


def test_callers_share_a_batch() -> None:
    async def story(queue: Queue) -> None:
        for value in values(1, 8):
            queue.ask(value, "crowd")
        for value in values(100, 2):
            queue.ask(value, "other")
        order = await queue.order()
        assert [sorted(order[:4]), sorted(order[4:8]), sorted(order[8:])] == [
            [1, 2, 100, 101],
            [3, 4, 5, 6],
            [7, 8],
        ]
        assert queue.model.calls == [1, 4, 4, 2]

    scenario(story, max_batch_size=4)


def test_those_without_a_name_are_one_caller() -> None:
    async def story(queue: Queue) -> None:
        for value in values(1, 5):
            queue.ask(value)
        queue.ask(100.0, "other")
        assert await queue.order() == [1, 100, 2, 3, 4, 5]

    scenario(story)


def test_a_full_queue_takes_in_whom_has_less_of_it() -> None:
    async def story(queue: Queue) -> None:
        crowd = [queue.ask(value, "crowd") for value in values(1, 10)]
        assert queue.refused(11.0, "crowd") is Overloaded
        other = [queue.ask(value, "other") for value in values(100, 5)]
        assert queue.refused(105.0, "other") is Overloaded  # it has its half
        assert queue.refused(11.0, "crowd") is Overloaded
        await queue.order()
        ends = [type(future.result()) for future in crowd]
        assert ends == [InferenceResponse] * 5 + [Overloaded] * 5
        assert [first_column(future.result()) for future in other] == [
            [2 * value] for value in values(100, 5)
        ]

    scenario(story, max_queue_size=10)


def test_bytes_make_room_as_well() -> None:
    async def story(queue: Queue) -> None:
        crowd = [queue.ask(value, "crowd") for value in values(1, 4)]
        queue.ask(100.0, "other")
        assert [future.done() for future in crowd] == [False, False, False, True]

    scenario(story, max_queue_bytes=4 * 16)


def test_the_budget_of_the_server_makes_room_as_well() -> None:
    async def story(queue: Queue) -> None:
        crowd = [queue.ask(value, "crowd") for value in values(1, 4)]
        queue.ask(100.0, "other")
        assert [future.done() for future in crowd] == [False, False, False, True]

    scenario(story, budget=Budget(4, 2**20))


def test_groups_share_the_queue_as_well() -> None:
    async def story(queue: Queue) -> None:
        groups = [Group([10.0 * number, 10.0 * number + 1]) for number in range(1, 4)]
        for group in groups:
            submit(queue.plane, group, "crowd")
        queue.ask(100.0, "other")
        await queue.order()
        await until(lambda: all(group.done for group in groups))
        assert queue.model.rows[1:] == [10, 11, 100, 20, 21]
        assert [group.right() for group in groups[:2]] == [True, True]
        assert groups[2].faults() == {Overloaded}

    scenario(story, max_batch_size=2, max_queue_size=6)


def submit(plane: Plane, group: Group, caller: str) -> None:
    scheduler = plane.registry.find("m", None).scheduler
    members: Sequence[int] = range(len(group.values))
    scheduler.submit_together(
        group.work(plane), group.deadline, members, group.all, group.one, at_once=False, caller=caller
    )


# --- priorities: Triton, "Schedule Policy" ---


def test_a_higher_priority_is_served_first() -> None:
    async def story(queue: Queue) -> None:
        for value, priority in ((1.0, 3), (2.0, 2), (3.0, 1), (4.0, 3), (5.0, 1)):
            queue.ask(value, priority=priority)
        assert await queue.order() == [3, 5, 2, 1, 4]

    scenario(story, priority_levels=3)


@pytest.mark.parametrize("asked", [0, 4, 2**64 - 1])
def test_what_is_no_level_is_the_default_one(asked: int) -> None:
    async def story(queue: Queue) -> None:
        for value, priority in ((1.0, 3), (2.0, asked), (3.0, 1)):
            queue.ask(value, priority=priority)
        assert await queue.order() == [3, 2, 1]

    scenario(story, priority_levels=3, default_priority_level=2)


def test_without_a_default_it_is_the_lowest() -> None:
    async def story(queue: Queue) -> None:
        for value, priority in ((1.0, 0), (2.0, 2), (3.0, 1)):
            queue.ask(value, priority=priority)
        assert await queue.order() == [3, 1, 2]

    scenario(story, priority_levels=2)


def test_a_model_without_levels_ignores_priorities() -> None:
    async def story(queue: Queue) -> None:
        for value, priority in ((1.0, 3), (2.0, 0), (3.0, 1)):
            queue.ask(value, priority=priority)
        assert await queue.order() == [1, 2, 3]

    scenario(story)


def test_a_lower_priority_leaves_a_full_queue_for_a_higher_one() -> None:
    async def story(queue: Queue) -> None:
        low = [queue.ask(value, priority=2) for value in values(1, 3)]
        queue.ask(4.0, priority=1)
        assert queue.refused(5.0, priority=2) is Overloaded
        assert await queue.order() == [4, 1, 2]
        assert isinstance(low[2].result(), Overloaded)

    scenario(story, max_queue_size=3, priority_levels=2)


# --- what an answer tells ---


def test_a_ticket_tells_where_its_time_went() -> None:
    async def story() -> None:
        model = GatedModel()
        async with Plane({"m": model}) as plane:
            scheduler = plane.registry.find("m", None).scheduler
            contract = plane.registry.find("m", None).contract
            seen: list[Any] = []

            def ask(value: float) -> Any:
                asked = request(value, value)
                return scheduler.submit(
                    contract.check(asked), asked.deadline, lambda _: seen.append(scheduler.timing)
                )

            model.gate.clear()
            begun = time.monotonic()
            first = ask(0.0)
            await entered(model)
            queued = time.monotonic() - begun
            others = [ask(1.0), ask(2.0)]
            closed = time.monotonic()
            await asyncio.to_thread(time.sleep, 0.02)
            model.gate.set()
            await until(lambda: len(seen) == 3)
            assert seen == [ticket.timing for ticket in (first, *others)]
            assert [timing.batch_rows for timing in seen] == [2, 4, 4]
            assert seen[0].compute >= 0.02
            assert seen[0].queue <= queued
            assert all(timing.queue >= 0.02 for timing in seen[1:])
            assert seen[1].compute == seen[2].compute
            assert seen[1].started >= closed
            assert np.isclose(seen[1].started - seen[1].queue, others[0].submitted)

    run(story())


def test_who_never_was_in_a_batch_has_no_timing() -> None:
    async def story(queue: Queue, seconds: float) -> None:
        scheduler = queue.plane.registry.find("m", None).scheduler
        contract = queue.plane.registry.find("m", None).contract
        asked = request(1.0, seconds=seconds)
        seen: list[Any] = []
        ticket = scheduler.submit(
            contract.check(asked), asked.deadline, lambda result: seen.append((result, scheduler.timing))
        )
        await until(lambda: bool(seen))
        assert isinstance(seen[0][0], DeadlineExceeded)
        assert seen[0][1] is ticket.timing is None

    with_time(lambda seconds: scenario(partial(story, seconds=seconds)), 0.01, 0.5, 5.0)


# --- models that hang (the server's own limit) ---

# What is no call that hangs must be over by then.
HANG = (0.1, 1.0, 5.0)


def hanging(plane: Plane, hang: float, **more: Any) -> None:
    """Make the limit of a plane short."""
    plane.registry._hang_timeout = hang
    for name, value in more.items():
        setattr(plane.registry, name, value)


def test_a_call_that_hangs_is_given_up_and_the_next_one_served() -> None:
    async def story(hang: float) -> None:
        model = GatedModel()
        plane = Plane({"m": model})
        hanging(plane, hang)
        async with plane:
            model.gate.clear()
            stuck = [
                asyncio.ensure_future(plane.data.infer(request(value, seconds=PATIENCE))) for value in (1, 2)
            ]
            await entered(model)
            assert {type(await outcome(one)) for one in stuck} == {DeadlineExceeded}
            version = plane.registry.find("m", None)
            assert (version.ready, version.lost_threads) == (True, 1)
            assert model.calls == []  # it is not asked again by halves
            model.gate.set()
            assert first_column(await plane.data.infer(request(3.0))) == [6.0]
            await until(lambda: version.lost_threads == 0)

    with_time(lambda hang: run(story(hang)), *HANG)


def test_a_model_that_goes_on_hanging_is_failed_and_its_neighbour_is_not() -> None:
    async def story(hang: float) -> None:
        model, neighbour = GatedModel(), GatedModel()
        plane = Plane({"m": model, "n": neighbour})
        told: list[str] = []
        hanging(plane, hang, _on_hang=lambda: told.append("hang"))
        async with plane:
            model.gate.clear()
            for lost in range(1, 4):
                assert isinstance(await outcome(plane.data.infer(request(1.0))), DeadlineExceeded)
                assert plane.registry.find("m", None).lost_threads == lost
            assert told == []
            last = asyncio.ensure_future(plane.data.infer(request(1.0)))
            await entered(model)
            waiting = asyncio.ensure_future(plane.data.infer(request(2.0)))
            assert isinstance(await outcome(last), DeadlineExceeded)
            assert isinstance(await outcome(waiting), NotReady)
            version = plane.registry.find("m", None)
            assert version.state.value == "FAILED"
            assert version.reason == f"4 of its calls have each taken more than {hang:g} s and go on"
            assert isinstance(await outcome(plane.data.infer(request(3.0))), NotReady)
            assert first_column(await plane.data.infer(request(3.0, model="n"))) == [6.0]
            assert told == ["hang"]
            assert not plane.data.ready()

    with_time(lambda hang: run(story(hang)), *HANG)
