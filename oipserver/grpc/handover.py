"""The way from gRPC's threads to the event loop, where the data plane lives, and back.

Rule: the data plane is never touched off the loop.  Many threads that post at the same time cost the loop
one wake-up, and every call waits on a lock of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from time import perf_counter
from typing import TypeVar

from oipserver.core.errors import NotReady

T = TypeVar("T")

log = logging.getLogger(__name__)

# Calls cost several times what HTTP requests do: after so long those have their turn.
SHARED_TURN_SECONDS = 0.0002
# Where there are none: what is taken in one go travels in one batch, but health answers must not wait long.
TURN_SECONDS = 0.005
# A question to the loop takes microseconds; a loop that does not answer for so long is of no use.
ASK_SECONDS = 10.0


class Turns:
    """How long one turn on the event loop may be.

    Args:
        others: a number that changes when others have used the loop.
    """

    def __init__(self, others: Callable[[], int]) -> None:
        self._others = others
        self._seen = others()

    def end(self) -> float:
        """When a turn that begins now is over, by `time.perf_counter`."""
        seen, self._seen = self._seen, self._others()
        return perf_counter() + (TURN_SECONDS if seen == self._seen else SHARED_TURN_SECONDS)


class Handover:
    """Carries actions from any thread to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, others: Callable[[], int]) -> None:
        self._loop = loop
        self._turns = Turns(others)
        self._actions: deque[Callable[[], None]] = deque()
        self._awake = False

    def post(self, action: Callable[[], None]) -> None:
        """Have `action` run on the loop soon; actions run in the order posted.

        Raises:
            NotReady: the loop is closed.
        """
        # Asked first: a loop that was closed before it ran what was posted leaves `_awake` true.
        if self._loop.is_closed():
            raise NotReady("the server has stopped")
        self._actions.append(action)
        if not self._awake:
            self._awake = True
            try:
                self._loop.call_soon_threadsafe(self._run)
            except RuntimeError:
                raise NotReady("the server has stopped") from None

    def ask(self, question: Callable[[], T]) -> T:
        """What `question` returns, or raises, on the loop.

        Raises:
            NotReady: the loop is closed, or does not answer.
        """
        answer: Future[T] = Future()

        def run() -> None:
            try:
                answer.set_result(question())
            except BaseException as error:
                answer.set_exception(error)

        self.post(run)
        try:
            return answer.result(ASK_SECONDS)
        except TimeoutError:
            raise NotReady("the event loop does not answer") from None

    def _run(self) -> None:
        # Cleared first: what is appended from now on brings a wake-up of its own, or is taken below.
        self._awake = False
        end = self._turns.end()
        while self._actions:
            try:
                self._actions.popleft()()
            except Exception:  # those behind it are other callers'
                log.exception("an action on the loop failed")
            if perf_counter() > end and self._actions:
                self._awake = True
                self._loop.call_soon(self._run)
                return
