"""The threads on which a model computes.

Rule 1: a job that computes for longer than the hang limit is lost, and its thread with it: both are given up,
another thread takes the place.  Nothing can end a thread from outside, so a lost one stays until its job
returns, and ends then; what it brings is dropped.

Rule 2: it is decided under a lock, once, whether a job has ended or is lost.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from itertools import count
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

from oipserver.core.threads import in_daemon_thread

logger = logging.getLogger("oipserver.crew")

HANG_TIMEOUT = 300.0

Action = Callable[[], None]


class Job(Protocol):
    """Something to do on a thread.

    Attributes:
        since: when it began to compute, by `time.monotonic`; None while it waits for somebody else.
    """

    since: float | None

    def work(self) -> Action:
        """Do it, on a thread; what is returned is done on the loop then."""

    def lost(self) -> None:
        """It is given up (Rule 1); on the loop."""


J = TypeVar("J", bound=Job)


class _Hand(Generic[J]):
    """One thread, and what it does."""

    __slots__ = ("is_lost", "job", "thread")

    def __init__(self) -> None:
        self.job: J | None = None
        self.is_lost = False
        self.thread: threading.Thread


class Crew(Generic[J]):
    """Daemon threads that do jobs: one that hangs does not keep the process from ending.  For the event loop.

    Args:
        size: threads.
        name: of the threads.
        hang_timeout: seconds until a job is lost.

    Attributes:
        lost: threads that hang now.
    """

    def __init__(self, size: int, name: str, loop: asyncio.AbstractEventLoop, hang_timeout: float) -> None:
        self.lost = 0
        self._name = name
        self._loop = loop
        self._hang_timeout = hang_timeout
        self._jobs: SimpleQueue[J | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._watch: asyncio.TimerHandle | None = None
        self._fresh = False  # there are jobs that `_look` may not have seen yet
        self._numbers = count()
        self._hands = [self._hire() for _ in range(size)]

    def put(self, job: J) -> None:
        """Have a job done by the next free thread."""
        self._fresh = True
        if self._watch is None:
            self._watch = self._loop.call_later(self._hang_timeout, self._look)
        self._jobs.put(job)

    def post(self, action: Action) -> bool:
        """Have something done on the loop; False when it is closed and nobody waits any more.  Any thread."""
        try:
            self._loop.call_soon_threadsafe(action)
        except RuntimeError:
            return False
        return True

    async def close(self) -> None:
        """Let the threads end after what they do now, and return when they have, but for the lost ones."""
        for _ in self._hands:
            self._jobs.put(None)
        await in_daemon_thread(self._join, "join")
        if self._watch is not None:
            self._watch.cancel()

    def _join(self) -> None:
        for hand in self._hands:
            hand.thread.join()

    def _hire(self) -> _Hand[J]:
        hand: _Hand[J] = _Hand()
        name = f"{self._name}-{next(self._numbers)}"
        hand.thread = threading.Thread(target=self._work, args=(hand,), name=name, daemon=True)
        hand.thread.start()
        return hand

    def _work(self, hand: _Hand[J]) -> None:
        while (job := self._jobs.get()) is not None:
            job.since = time.monotonic()
            hand.job = job
            action = job.work()
            with self._lock:
                hand.job = None
                if hand.is_lost:
                    action = self._found
            if not self.post(action) or hand.is_lost:
                return
            del job, action  # an idle thread holds on to nobody's arrays

    # --- those that hang (Rule 1) ---

    def _look(self) -> None:
        now = time.monotonic() + 0.001  # timers may be a millisecond early
        for hand in [*self._hands]:
            job = self._overdue(hand, now - self._hang_timeout)
            if job is not None:
                self._lose(hand, job)
        begun = [job.since or now for hand in self._hands if (job := hand.job) is not None]
        if begun or self._fresh:
            until = min(begun, default=now) + self._hang_timeout
            self._watch = self._loop.call_later(until - now, self._look)
        else:
            self._watch = None
        self._fresh = False

    def _overdue(self, hand: _Hand[J], begun: float) -> J | None:
        with self._lock:
            job = hand.job
            if job is None or job.since is None or job.since > begun:
                return None
            hand.is_lost = True
            return job

    def _lose(self, hand: _Hand[J], job: J) -> None:
        self._hands[self._hands.index(hand)] = self._hire()
        self.lost += 1
        logger.error("a call of %s has taken %g s; its thread is given up", self._name, self._hang_timeout)
        job.lost()

    def _found(self) -> None:
        self.lost -= 1
        logger.warning("a call of %s that was given up has returned", self._name)
