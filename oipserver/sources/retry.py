"""How often and how long: exponential backoff with full jitter, within one total time."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

from oipserver.sources.errors import SourceError, TryAgain

T = TypeVar("T")

logger = logging.getLogger("oipserver.sources")

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0


@dataclass(frozen=True, slots=True)
class Patience:
    """What may be spent on one model.

    Attributes:
        retries: tries after a failed one.
        attempt_timeout: seconds for one try.
        timeout: seconds for all tries and the pauses between them.
    """

    retries: int
    attempt_timeout: float
    timeout: float
    sleep: Callable[[float], None] = time.sleep

    def run(self, attempt: Callable[[float], T]) -> T:
        """The result of the first attempt that does not raise TryAgain.

        Args:
            attempt: gets its deadline, in `time.monotonic` seconds.

        Raises:
            SourceError: an attempt raised it, or patience came to its end.
        """
        end = time.monotonic() + self.timeout
        for failures in count(1):
            try:
                return attempt(min(end, time.monotonic() + self.attempt_timeout))
            except TryAgain as error:
                pause = max(_jitter(failures), error.after)
                if failures > self.retries:
                    raise SourceError(f"{error} (tried {failures} times)") from error
                if time.monotonic() + pause >= end:
                    raise SourceError(f"{error} (gave up after {self.timeout:g} s)") from error
                logger.warning("%s; trying again in %.1f s", error, pause)
            self.sleep(pause)
        raise AssertionError("unreachable")


def _jitter(failures: int) -> float:
    """Anything from nothing to twice as much as last time, so that many clients do not come back as one."""
    return random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures - 1, 16)))  # noqa: S311


def within(deadline: float, work: Callable[[], T]) -> T:
    """The result of work that has no time limit of its own; it runs on a thread that may be left behind.

    Raises:
        TryAgain: the deadline passed.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # whatever it is, it is the waiting thread's
            future.set_exception(error)

    threading.Thread(target=run, name="fetch", daemon=True).start()
    try:
        return future.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError as error:
        if future.done():
            raise  # the work's own
        raise TryAgain("the time for one try was over") from error
