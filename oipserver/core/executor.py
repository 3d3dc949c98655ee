"""Where a model runs: on the event loop when its batch is cheap, else on its own threads.

Placement is measured, not guessed.  A hop to a thread and back costs about 0.1 ms, a slow model on the
loop costs everybody; so a batch that takes less than 2 ms runs inline and a slower one does not.  Code of
which nobody knows what it does never runs inline, whatever the configuration says: it could hang.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from oipserver.core.batch import merge
from oipserver.core.contract import Work
from oipserver.core.crew import HANG_TIMEOUT, Action, Crew
from oipserver.core.errors import BadRequest, DeadlineExceeded, Fault, InferenceFailed
from oipserver.core.messages import Arrays
from oipserver.core.model import Model
from oipserver.core.model_config import InstanceGroup

logger = logging.getLogger("oipserver.executor")

INLINE_BELOW = 0.002
INLINE_AGAIN_BELOW = 0.0015
_SMOOTHING = 0.2

Done: TypeAlias = Callable[[Arrays | Fault, float], None]


class CostModel:
    """Seconds per call of `predict`, learnt for row counts by powers of two."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def record(self, rows: int, seconds: float) -> None:
        """Take in one measured call."""
        bucket = rows.bit_length()
        known = self._seconds.get(bucket)
        self._seconds[bucket] = seconds if known is None else known + _SMOOTHING * (seconds - known)

    def estimate(self, rows: int) -> float:
        """Expected seconds for `rows` rows; infinity before anything was measured.

        An unseen size costs at most what a larger one costs, and at most the next smaller one's cost
        times the ratio of rows.
        """
        bucket = rows.bit_length()
        if bucket in self._seconds:
            return self._seconds[bucket]
        bounds = [seconds * max(1.0, 2.0 ** (bucket - seen)) for seen, seconds in self._seconds.items()]
        return min(bounds, default=float("inf"))


def _nobody() -> None:
    """Whom nothing concerns."""


class Executor:
    """Runs one model's calls; at most `count` at the same time.

    `run` is for the event loop's thread; `done(arrays or fault, compute seconds)` is called there too,
    before `run` returns when the call was placed inline.

    Args:
        hang_timeout: seconds until a call is given up, with its thread.
        on_lost: told when that has happened.
    """

    def __init__(
        self,
        model: Model,
        group: InstanceGroup,
        loop: asyncio.AbstractEventLoop,
        name: str,
        hang_timeout: float = HANG_TIMEOUT,
        on_lost: Action = _nobody,
    ) -> None:
        self.costs = CostModel()
        self.free = group.count
        self._model = model
        self._loop = loop
        self._inline_allowed = group.placement != "thread" and model.may_run_inline
        self._always_inline = group.placement == "inline" and model.may_run_inline
        self._threshold = INLINE_AGAIN_BELOW
        self._on_lost = on_lost
        self._crew: Crew[_Job] = Crew(group.count, name, loop, hang_timeout)

    @property
    def lost(self) -> int:
        """Threads that hang."""
        return self._crew.lost

    def run(self, parts: Sequence[Work], rows: int, done: Done) -> None:
        """Start one call for all `parts`; the caller has seen that `free` is above zero."""
        self._start(_Job(self, self._model, parts, rows, done), self.is_inline(rows))

    def run_inline(self, work: Work) -> tuple[Arrays | Fault, float]:
        """One call for a batch for which `is_inline` has said yes, and the seconds that it took."""
        result, seconds = _compute(self._model, (work,))
        if not isinstance(result, Fault):
            self.costs.record(work.rows, seconds)
        return result, seconds

    async def call(self, work: Work) -> Arrays:
        """One call on a thread, for warm-up.

        Raises:
            Fault: what the call ended in.
        """
        future: asyncio.Future[Arrays | Fault] = self._loop.create_future()

        def done(result: Arrays | Fault, _: float) -> None:
            if not future.done():
                future.set_result(result)

        self._start(_Job(self, self._model, [work], work.rows, done), inline=False)
        result = await future
        if isinstance(result, Fault):
            raise result
        return result

    async def close(self) -> None:
        """Let the threads end after what they compute now, and return when they have."""
        await self._crew.close()
        self._on_lost = _nobody  # who is told holds this

    def finish(self, job: _Job, result: Arrays | Fault, seconds: float) -> None:
        """A call has ended."""
        self.free += 1
        if not isinstance(result, Fault):
            self.costs.record(job.rows, seconds)
        job.done(result, seconds)

    def give_up(self, job: _Job) -> None:
        """A call hangs, and its thread is replaced."""
        self.free += 1
        seconds = time.monotonic() - (job.since or 0.0)
        job.done(DeadlineExceeded(f"the model has not answered in {seconds:.3g} s"), seconds)
        self._on_lost()

    def _start(self, job: _Job, inline: bool) -> None:
        self.free -= 1
        if inline:
            self.finish(job, *job.compute())
        else:
            self._crew.put(job)

    def is_inline(self, rows: int) -> bool:
        """Whether a batch of so many rows is to run on the event loop; asked once for each."""
        if self._always_inline:
            return True
        if not self._inline_allowed:
            return False
        inline = self.costs.estimate(rows) < self._threshold
        # Hysteresis: a cost near the border must not move the model to and fro.
        self._threshold = INLINE_BELOW if inline else INLINE_AGAIN_BELOW
        return inline


class _Job:
    """One call of `predict` for the rows of one caller or more, and whom to tell."""

    __slots__ = ("_executor", "_model", "_parts", "done", "rows", "since")

    def __init__(
        self, executor: Executor, model: Model, parts: Sequence[Work], rows: int, done: Done
    ) -> None:
        self.since: float | None = None
        self._executor = executor
        self._model = model
        self._parts = parts
        self.rows = rows
        self.done = done

    def work(self) -> Action:
        """Compute, on a thread."""
        return partial(self._executor.finish, self, *self.compute())

    def lost(self) -> None:
        """It hangs."""
        self._executor.give_up(self)

    def compute(self) -> tuple[Arrays | Fault, float]:
        """The answer or the fault, and the seconds that it took."""
        return _compute(self._model, self._parts)


def _compute(model: Model, parts: Sequence[Work]) -> tuple[Arrays | Fault, float]:
    """The answer or the fault, and the seconds that it took.

    Merging is part of it: large batches are copied on the thread, and whatever fails here has a caller.
    """
    started = time.perf_counter()
    first = parts[0]
    result: Arrays | Fault
    try:
        inputs = merge([part.inputs for part in parts])
        result = model.predict(inputs, first.outputs, first.parameters)
    except BadRequest as fault:  # InvalidInput is one
        result = fault.with_traceback(None)  # which would hold the frame that holds the fault
    except BaseException as error:  # even a model's SystemExit is only the model's failure
        logger.exception("predict failed with %s", type(error).__name__)
        result = InferenceFailed("the model failed to compute this request")
    return result, time.perf_counter() - started
