"""From threads to the loop."""

from __future__ import annotations

import asyncio
import threading
from time import perf_counter

import pytest

from oipserver.core.errors import NotFound, NotReady
from oipserver.grpc.handover import SHARED_TURN_SECONDS, TURN_SECONDS, Handover, Turns
from tests.support import PATIENCE, run


def test_every_action_of_many_threads_runs_once_and_in_order() -> None:
    async def scenario() -> None:
        handover = Handover(asyncio.get_running_loop(), lambda: 0)
        seen: dict[int, list[int]] = {thread: [] for thread in range(8)}
        done = asyncio.Event()

        def post(thread: int) -> None:
            for number in range(500):
                handover.post(lambda number=number: seen[thread].append(number))  # type: ignore[misc]

        def post_all() -> None:
            threads = [threading.Thread(target=post, args=(thread,)) for thread in seen]
            for each in threads:
                each.start()
            for each in threads:
                each.join(PATIENCE)
            handover.post(done.set)

        await asyncio.to_thread(post_all)
        await done.wait()
        assert all(numbers == list(range(500)) for numbers in seen.values())

    run(scenario())


def test_a_question_is_answered_on_the_loop() -> None:
    async def scenario() -> None:
        handover = Handover(asyncio.get_running_loop(), lambda: 0)
        assert await asyncio.to_thread(handover.ask, threading.get_ident) == threading.get_ident()

    run(scenario())


def test_a_question_may_raise() -> None:
    def refuse() -> None:
        raise NotFound("no such thing")

    async def scenario() -> None:
        handover = Handover(asyncio.get_running_loop(), lambda: 0)
        with pytest.raises(NotFound, match="no such thing"):
            await asyncio.to_thread(handover.ask, refuse)

    run(scenario())


def test_a_closed_loop_is_not_ready() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(NotReady, match="stopped"):
        Handover(loop, lambda: 0).post(lambda: None)


def test_a_loop_that_closed_before_it_ran_an_action_is_not_ready() -> None:
    loop = asyncio.new_event_loop()
    handover = Handover(loop, lambda: 0)
    handover.post(lambda: None)
    loop.close()
    for _ in range(2):
        with pytest.raises(NotReady, match="stopped"):
            handover.post(lambda: None)


def test_an_action_that_fails_does_not_hold_up_the_next(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        handover = Handover(asyncio.get_running_loop(), lambda: 0)
        done = asyncio.Event()
        handover.post(lambda: int("no number"))  # type: ignore[arg-type]
        handover.post(done.set)
        async with asyncio.timeout(PATIENCE):
            await done.wait()

    run(scenario())
    assert "no number" in caplog.text


def test_a_turn_is_short_only_while_others_use_the_loop() -> None:
    others = 0
    turns = Turns(lambda: others)

    def seconds() -> float:
        before = perf_counter()
        return turns.end() - before

    assert seconds() >= TURN_SECONDS
    others += 1
    assert SHARED_TURN_SECONDS <= seconds() < TURN_SECONDS
    assert seconds() >= TURN_SECONDS


def test_a_long_row_of_actions_lets_others_use_the_loop_in_between() -> None:
    async def scenario() -> None:
        loop, others = asyncio.get_running_loop(), 0
        handover = Handover(loop, lambda: others)
        left, done = 50, asyncio.Event()

        def act() -> None:
            nonlocal left
            left -= 1
            end = perf_counter() + SHARED_TURN_SECONDS
            while perf_counter() < end:
                pass
            if not left:
                done.set()

        def look() -> None:
            nonlocal others
            others += 1
            seen.append(left)
            if left:
                loop.call_soon(look)

        seen: list[int] = []
        for _ in range(left):
            handover.post(act)
        loop.call_soon(look)
        async with asyncio.timeout(PATIENCE):
            await done.wait()
        assert len(seen) > 10

    run(scenario())
