"""Threads that are given up when what they do hangs."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

from oipserver.core.crew import Action, Crew
from tests.support import PATIENCE, run, until, with_time

# Seconds after which a job is given up; what is no job that hangs must be over by then.
SOON = (0.05, 0.5, 5.0)


class Wait:
    """A job that ends when its gate is opened."""

    def __init__(self, told: list[object]) -> None:
        self.since: float | None = None
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.told = told

    def work(self) -> Action:
        self.entered.set()
        assert self.gate.wait(PATIENCE)
        return partial(self.told.append, (self, "done"))

    def lost(self) -> None:
        self.told.append((self, "lost"))


class Rest(Wait):
    """A job that waits for somebody else."""

    def work(self) -> Action:
        self.since = None
        return super().work()


def crew_of(size: int, hang_timeout: float) -> Crew[Wait]:
    return Crew(size, "test", asyncio.get_running_loop(), hang_timeout)


async def short_job(crew: Crew[Wait], told: list[object]) -> None:
    job = Wait(told)
    job.gate.set()
    crew.put(job)
    before = len(told)
    await until(lambda: len(told) > before)
    assert told[-1] == (job, "done")


def test_a_job_that_hangs_is_lost_and_its_place_taken() -> None:
    async def story(soon: float) -> None:
        told: list[object] = []
        crew = crew_of(1, soon)
        stuck, next_one = Wait(told), Wait(told)
        crew.put(stuck)
        crew.put(next_one)
        await until(lambda: bool(told))
        assert (told, crew.lost) == ([(stuck, "lost")], 1)
        next_one.gate.set()
        await until(lambda: len(told) > 1)
        assert told[1:] == [(next_one, "done")]
        await crew.close()  # does not wait for the lost one
        stuck.gate.set()
        await until(lambda: crew.lost == 0)
        assert len(told) == 2

    with_time(lambda soon: run(story(soon)), *SOON)


def test_jobs_in_time_are_not_lost() -> None:
    async def story() -> None:
        told: list[object] = []
        crew = crew_of(2, PATIENCE)
        jobs = [Wait(told) for _ in range(6)]
        for job in jobs:
            job.gate.set()
            crew.put(job)
        await until(lambda: len(told) == 6)
        assert sorted(map(str, told)) == sorted(str((job, "done")) for job in jobs)
        assert crew.lost == 0
        await crew.close()

    run(story())


def test_the_last_one_is_found_behind_many_short_ones() -> None:
    async def story(soon: float) -> None:
        told: list[object] = []
        crew = crew_of(2, soon)
        loop = asyncio.get_running_loop()
        end = loop.time() + 3 * soon
        while loop.time() < end:
            await short_job(crew, told)
        stuck = Wait(told)
        crew.put(stuck)
        await until(lambda: (stuck, "lost") in told)
        stuck.gate.set()
        await until(lambda: crew.lost == 0)
        await crew.close()

    with_time(lambda soon: run(story(soon)), *SOON)


def test_who_waits_for_somebody_else_does_not_hang() -> None:
    async def story(soon: float) -> None:
        told: list[object] = []
        crew = crew_of(2, soon)
        rest, stuck = Rest(told), Wait(told)
        crew.put(rest)
        assert await asyncio.to_thread(rest.entered.wait, PATIENCE)
        crew.put(stuck)
        await until(lambda: bool(told))
        assert told == [(stuck, "lost")]
        rest.gate.set()
        stuck.gate.set()
        await until(lambda: len(told) > 1)
        assert told[1:] == [(rest, "done")]
        await crew.close()

    with_time(lambda soon: run(story(soon)), *SOON)
