"""The streams of one loaded version: many answers to one request, from a generator of the model.

Rule 1: a stream ends exactly once (all its answers given, failed, expired, cancelled or abandoned), whatever
its generator does; the slot that it holds is free when the generator has been closed.

Rule 2: one answer at a time.  The generator goes on when its last answer was taken, so it never runs ahead of
its reader, nothing piles up for one who is slow, and the arrays of an answer may be used again for the next.

Rule 3: a generator whose next answer takes longer than the hang limit is given up, with its thread; the slot
is free then.  What waits for its reader does not hang.

A stream is not batched.  `SLOTS` run at the same time, each on a thread of its own, away from those that call
`predict`; as many as the model's queue may hold wait in line.  Everything here lives on the event loop, but
for `_Production.work`, which is on a slot's thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import TypeAlias

import numpy as np

from oipserver.core.contract import Contract, Work
from oipserver.core.crew import HANG_TIMEOUT, Action, Crew
from oipserver.core.errors import BadRequest, DeadlineExceeded, Fault, InferenceFailed, NotReady, Overloaded
from oipserver.core.idempotency import Waiter
from oipserver.core.messages import Arrays
from oipserver.core.model_config import ModelConfig
from oipserver.core.scheduler import Budget, Ticket

logger = logging.getLogger("oipserver.streaming")

# Streams of one version that run at the same time: `Model.stream` has to stand as many threads.
SLOTS = 8

# Takes what comes, on the loop: an answer, or how it ended (a fault, or None when all answers were given).
Sink: TypeAlias = Callable[[Arrays | Fault | None], None]


class Stream:
    """One request's answers on their way to a sink."""

    __slots__ = ("_resume", "_sink", "_streams", "timer", "work")

    def __init__(self, streams: Streams, work: Work, sink: Sink) -> None:
        self.work = work
        self.timer: asyncio.TimerHandle | None = None
        self._streams = streams
        self._sink: Sink | None = sink
        self._resume = threading.Semaphore(0)

    @property
    def gone(self) -> bool:
        """Whether it has ended; any thread may ask."""
        return self._sink is None

    def taken(self) -> None:
        """The sink is done with an answer and its arrays: the generator may go on.  Any thread may call."""
        self._resume.release()

    def cancel(self) -> None:
        """End without a word: the generator is closed before its next answer; later calls do nothing."""
        if self._sink is not None:
            self._sink = None
            self._ended()

    def give(self, answer: Arrays) -> None:
        """Hand an answer to the sink; does nothing when the stream has ended."""
        if self._sink is not None and not _tell(self._sink, answer):
            self.cancel()

    def leave(self, result: Fault | None) -> None:
        """End, and tell the sink how; does nothing when it has ended before."""
        sink, self._sink = self._sink, None
        if sink is not None:
            self._ended()
            _tell(sink, result)

    def wait_taken(self) -> None:
        """Return when the last answer was taken or the stream has ended; for the slot's thread."""
        self._resume.acquire()

    def _ended(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self._resume.release()
        self._streams.forget(self)


def _tell(sink: Sink, result: Arrays | Fault | None) -> bool:
    try:
        sink(result)
    except Exception:
        logger.exception("a front failed to take an answer")
        return False
    return True


class Single:
    """The one answer of a model that does not stream, in the place of a `Stream`."""

    __slots__ = ("_ticket",)

    def __init__(self, ticket: Ticket | Waiter) -> None:
        self._ticket = ticket

    def taken(self) -> None:
        """Nothing waits for that."""

    def cancel(self) -> None:
        """Leave without an answer; does nothing when it has left before."""
        self._ticket.cancel()


class Streams:
    """Slots and waiting line of one version whose model is `decoupled`.

    Args:
        contract: checks what the model yields.
        config: its queue limits bound the waiting line.
        budget: shared by everything that waits in the server.
        hang_timeout: seconds until an answer is given up, with its thread.
        on_lost: told when that has happened.
    """

    def __init__(
        self,
        contract: Contract,
        config: ModelConfig,
        budget: Budget,
        loop: asyncio.AbstractEventLoop,
        hang_timeout: float = HANG_TIMEOUT,
        on_lost: Action = lambda: None,
    ) -> None:
        self.contract = contract
        self._config = config
        self._budget = budget
        self._loop = loop
        self._waiting: dict[Stream, None] = {}
        self._waiting_bytes = 0
        self._running: set[Stream] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._on_lost = on_lost
        self._crew: Crew[_Production] = Crew(SLOTS, f"{config.name}-stream", loop, hang_timeout)
        self.post = self._crew.post

    @property
    def lost(self) -> int:
        """Threads that hang."""
        return self._crew.lost

    @property
    def running(self) -> int:
        """Slots that are taken."""
        return len(self._running)

    @property
    def depth(self) -> int:
        """Streams that wait for a slot."""
        return len(self._waiting)

    def open(self, work: Work, deadline: float, sink: Sink) -> Stream:
        """Start checked work, or let it wait for a slot; `sink` is called later.

        Args:
            deadline: of the last answer, in `time.monotonic` seconds.

        Raises:
            Overloaded: the waiting line is full.
            NotReady: this version is being unloaded.
            DeadlineExceeded: the deadline has passed already.
        """
        if self._closed:
            raise NotReady(f"model '{self._config.name}' is being unloaded")
        left = deadline - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded("the deadline passed before the request was queued")
        self._check_room(work.nbytes)
        stream = Stream(self, work, sink)
        late = DeadlineExceeded("the deadline passed before the last answer was there")
        stream.timer = self._loop.call_later(left, stream.leave, late)
        self._idle.clear()
        self._waiting[stream] = None
        self._waiting_bytes += work.nbytes
        self._budget.take(work.nbytes)
        self._fill_slots()
        return stream

    def forget(self, stream: Stream) -> None:
        """A stream has ended: when it was waiting, it waits no more."""
        if stream in self._waiting:
            self._take(stream)
            self._check_idle()

    async def drain(self) -> None:
        """Refuse new streams and wait until nothing waits or runs."""
        self._closed = True
        await self._idle.wait()

    def abandon(self, fault: Fault) -> None:
        """Refuse new streams and fail whatever waits or runs."""
        self._closed = True
        for stream in [*self._waiting, *self._running]:
            stream.leave(fault)

    async def close(self) -> None:
        """As `drain`, and let the threads end."""
        await self.drain()
        await self._crew.close()
        self._on_lost = lambda: None  # who is told holds this

    def produced(self, stream: Stream, result: Fault | None) -> None:
        """The generator of a stream has been closed."""
        self._running.discard(stream)
        stream.leave(result)
        self._fill_slots()
        self._check_idle()

    def give_up(self, stream: Stream) -> None:
        """A generator hangs, and its thread is replaced."""
        self.produced(stream, DeadlineExceeded("the model has not given its next answer in time"))
        self._on_lost()

    def _check_room(self, nbytes: int) -> None:
        name, batching = self._config.name, self._config.dynamic_batching
        if len(self._running) < SLOTS:
            return
        if len(self._waiting) >= batching.max_queue_size:
            raise Overloaded(
                f"model '{name}' has {len(self._running)} streams and {len(self._waiting)} waiting"
            )
        if self._waiting and self._waiting_bytes + nbytes > batching.max_queue_bytes:
            raise Overloaded(f"model '{name}' has {self._waiting_bytes} bytes waiting")
        if not self._budget.has_room(nbytes):
            raise Overloaded(f"the server has {self._budget.requests} requests waiting")

    def _fill_slots(self) -> None:
        while self._waiting and len(self._running) < SLOTS:
            stream = next(iter(self._waiting))
            self._take(stream)
            self._running.add(stream)
            self._crew.put(_Production(self, stream))

    def _take(self, stream: Stream) -> None:
        del self._waiting[stream]
        self._waiting_bytes -= stream.work.nbytes
        self._budget.give_back(stream.work.nbytes)

    def _check_idle(self) -> None:
        if not (self._waiting or self._running):
            self._idle.set()


class _Production:
    """The job of a slot: one stream's generator, from its beginning to its end."""

    __slots__ = ("_contract", "_stream", "_streams", "since")

    def __init__(self, streams: Streams, stream: Stream) -> None:
        self.since: float | None = None
        self._streams = streams
        self._stream = stream
        self._contract = streams.contract

    def work(self) -> Action:
        """Run it, on a thread."""
        return partial(self._streams.produced, self._stream, self._result(self._stream))

    def lost(self) -> None:
        """It hangs."""
        self._streams.give_up(self._stream)

    def _result(self, stream: Stream) -> Fault | None:
        try:
            self._run(stream)
        except BadRequest as fault:  # InvalidInput is one
            return fault
        except _NotAnnounced as error:
            logger.error("model '%s' %s", self._contract.name, error)
            return InferenceFailed("the model returned an answer that is not what it announces")
        except BaseException as error:  # even a model's SystemExit is only the model's failure
            logger.exception("stream of '%s' failed with %s", self._contract.name, type(error).__name__)
            return InferenceFailed("the model failed to compute this request")
        return None

    def _run(self, stream: Stream) -> None:
        work = stream.work
        if stream.gone:
            return
        with closing(self._contract.model.stream(work.inputs, work.outputs, work.parameters)) as answers:
            for answer in answers:
                if not self._streams.post(partial(stream.give, self._checked(answer, work))):
                    return
                self.since = None
                stream.wait_taken()
                self.since = time.monotonic()
                if stream.gone:
                    return

    def _checked(self, answer: Arrays, work: Work) -> Arrays:
        """The answer, as announced; of a batch it may have any number of rows, as many in each output."""
        first = answer.get(work.outputs[0]) if isinstance(answer, Mapping) else None
        rows = len(first) if isinstance(first, np.ndarray) and first.ndim else 0
        try:
            return self._contract.check_answer(answer, work.outputs, rows)
        except InferenceFailed as fault:
            raise _NotAnnounced(fault.message) from None


class _NotAnnounced(Exception):
    """An answer that the contract refuses."""
