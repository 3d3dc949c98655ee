"""The micro-batcher of one loaded version.  It lives on the event loop and is never touched elsewhere.

Rule 1: a request leaves exactly once (answered, failed, expired, cancelled or refused), and the way that it
leaves never holds up a neighbour.

Rule 2: batches form by themselves.  While the model is busy, the queue fills.  When it is free, whatever
arrives in one turn of the loop goes together.  After a batch of k requests with m already waiting, k + m
callers are expected back: the next batch starts as soon as that many wait, or after half of the model's own
batch time, 5 ms at most.  So a lone caller never waits, and a cheap model waits for nobody.

Rule 3: the first of the line (`core/line.py`: the oldest, unless callers or priorities differ) picks the key;
everybody waiting with the same key rides along, in the same order, up to `max_batch_size` rows.  A request
with more rows than that, or without a key, travels alone.

Rule 4: a failed batch of several is run again by halves, so that the guilty request fails alone.  A broken
model is not called for each of them: after enough failures in a row without one success, all have failed.

Rule 5: equal requests that a front read together travel as one ticket, a `Convoy`, and count as so many.
When it fails it disbands, and Rule 4 finds the guilty one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from oipserver.core.batch import split
from oipserver.core.contract import Contract, Work
from oipserver.core.errors import DeadlineExceeded, Fault, InferenceFailed, NotReady, Overloaded
from oipserver.core.executor import Executor
from oipserver.core.line import Lane, Line
from oipserver.core.messages import Array, Arrays
from oipserver.core.model_config import ModelConfig
from oipserver.core.observer import Observer

logger = logging.getLogger("oipserver.scheduler")

MAX_COMPANY_WAIT = 0.005
# Below this a timer is not worth its price: the end of this turn of the loop is soon enough.
_TIMER_FROM = 0.0005
# Callers of the last batch who are not back after this time are not expected any more.
_EXPECTATION_LIFETIME = 0.05

Answer: TypeAlias = Callable[[Arrays | Fault], None]
# Takes the answer to all the members at once: a fault, or arrays with the rows of one behind the other's.
AnswerAll: TypeAlias = Callable[[Sequence[Any], Arrays | Fault], None]
# Takes the answer to one member.
AnswerOne: TypeAlias = Callable[[Any, Arrays | Fault], None]


_NOBODY: Mapping[Any, Any] = MappingProxyType({})


class Budget:
    """Requests and tensor bytes that may wait in the whole server; schedulers share one."""

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self.max_requests = max_requests
        self.max_bytes = max_bytes
        self.requests = 0
        self.bytes = 0

    def has_room(self, nbytes: int, requests: int = 1) -> bool:
        """Whether so many more requests, of `nbytes` together, may wait."""
        if not self.requests and requests == 1:
            return True
        return self.requests + requests <= self.max_requests and self.bytes + nbytes <= self.max_bytes

    def take(self, nbytes: int, requests: int = 1) -> None:
        """So many requests wait."""
        self.requests += requests
        self.bytes += nbytes

    def give_back(self, nbytes: int, requests: int = 1) -> None:
        """So many requests wait no more."""
        self.requests -= requests
        self.bytes -= nbytes


class Timing(NamedTuple):
    """Where the time of one ticket went.

    Attributes:
        queue: seconds from its coming to the start of its batch.
        compute: seconds that the model took for the whole batch.
        batch_rows: rows in it.
        started: when it began, by `time.monotonic`.
    """

    queue: float
    compute: float
    batch_rows: int
    started: float


class Ticket:
    """One request inside the scheduler.  `cancel` when the caller has left.

    Attributes:
        callers: how many requests it is.
        lane, turn: where it waits in the line, which sets the latter.
        timing: None until a batch with it has ended, which is before it is answered.
    """

    __slots__ = (
        "_answer",
        "_scheduler",
        "callers",
        "deadline",
        "lane",
        "submitted",
        "timing",
        "turn",
        "work",
    )

    turn: int

    def __init__(self, scheduler: Scheduler, work: Work, deadline: float, answer: Answer, lane: Lane) -> None:
        self.callers = 1
        self.lane = lane
        self.timing: Timing | None = None
        self.work = work
        self.deadline = deadline
        self.submitted = time.monotonic()
        self._scheduler = scheduler
        self._answer: Answer | None = answer

    @property
    def gone(self) -> bool:
        """Whether it has left already."""
        return self._answer is None

    def cancel(self) -> None:
        """Leave without an answer; does nothing when it has left before."""
        if self._answer is not None:
            self._answer = None
            self._scheduler.forget(self)

    def leave(self, result: Arrays | Fault) -> None:
        """Leave with an answer; does nothing when it has left before."""
        answer, self._answer = self._answer, None
        if answer is None:
            return
        self._scheduler.timing = self.timing
        try:
            answer(result)
        except Exception:
            logger.exception("a front failed to take an answer")
        self._scheduler.timing = None

    def disband(self) -> list[Ticket]:
        """The requests in it, one ticket each."""
        return [self]

    def load(self) -> Work:
        """What is to be computed."""
        return self.work


class Convoy(Ticket):
    """Requests of several callers, alike but for their values, that travel together (Rule 5).

    Attributes:
        members: whose they are, in the order of their rows.
    """

    __slots__ = ("_answer_one", "_apart", "_left", "_places", "members")

    def __init__(
        self,
        scheduler: Scheduler,
        work: Work,
        deadline: float,
        members: Sequence[Any],
        answer_all: AnswerAll,
        answer_one: AnswerOne,
        lane: Lane,
    ) -> None:
        self.members = list(members)
        super().__init__(scheduler, work, deadline, partial(answer_all, self.members), lane)
        self.callers = len(self.members)
        self._answer_one = answer_one
        # Where the rows of each member are, once somebody has left the queue.
        self._places: list[int] | None = None
        # Who has left while all were computed.
        self._left: frozenset[Any] = frozenset()
        # The tickets after it has disbanded.
        self._apart: Mapping[Any, Ticket] = _NOBODY

    @property
    def gone(self) -> bool:
        """Whether all have left already."""
        return self._answer is None and not self._apart

    def drop(self, member: object) -> None:
        """One caller has left: its rows are not computed, unless that has begun."""
        if self._answer is None:
            if member in self._apart:
                self._apart[member].cancel()
        elif self.callers - len(self._left) == 1:
            self.cancel()
        elif not self._scheduler.shrink(self, member):
            self._left |= {member}

    def disband(self) -> list[Ticket]:
        """The requests in it, one ticket each."""
        self._answer = None
        places = self._places or range(self.callers)
        self._apart = {
            member: self._ticket(member, place)
            for member, place in zip(self.members, places, strict=True)
            if member not in self._left
        }
        del self._answer_one
        return list(self._apart.values())

    def load(self) -> Work:
        """What is to be computed: a copy, for the model may write into it and fail then."""
        work, places = self.work, self._places
        if places is None and self.callers == 1:
            return work
        if places is None:
            return work.copy()
        rows = work.rows // self.callers
        return work.with_inputs({name: _at(places, rows, array) for name, array in work.inputs.items()})

    def without(self, member: object) -> None:
        """Take the rows of one member out; they are skipped when the others are computed."""
        work, position = self.work, self.members.index(member)
        if self._places is None:
            self._places = list(range(self.callers))
        del self.members[position], self._places[position]
        work.nbytes -= work.nbytes // self.callers
        work.rows -= work.rows // self.callers
        self.callers -= 1

    def _ticket(self, member: object, place: int) -> Ticket:
        whole, callers = self.work, self.callers
        rows = whole.rows // callers
        inputs = {name: array[place * rows : (place + 1) * rows] for name, array in whole.inputs.items()}
        work = Work(inputs, whole.outputs, whole.parameters, rows, whole.nbytes // callers, whole.key)
        ticket = Ticket(self._scheduler, work, self.deadline, partial(self._answer_one, member), self.lane)
        ticket.submitted = self.submitted
        return ticket


def _at(places: Sequence[int], rows: int, array: Array) -> Array:
    """A copy of the rows at some places, each of so many rows."""
    shape = array.shape[1:]
    return array.reshape(-1, rows, *shape)[places].reshape(-1, *shape)


class _Batch:
    """Tickets that are computed together; `trial` is shared by the halves of a failed batch."""

    __slots__ = ("callers", "rows", "tickets", "trial")

    def __init__(self, tickets: Sequence[Ticket], trial: _Trial | None = None) -> None:
        self.tickets = tickets
        self.rows = self.callers = 0
        for ticket in tickets:
            self.rows += ticket.work.rows
            self.callers += ticket.callers
        self.trial = trial


class _Trial:
    """Tells a bad request in a good model from a broken model (Rule 4)."""

    __slots__ = ("_failures_left",)

    def __init__(self, requests: int) -> None:
        self._failures_left = 2 * requests.bit_length()

    def succeeded(self) -> None:
        """The model works: every failure from now on is a request's own."""
        self._failures_left = 1 << 30

    def model_is_broken(self) -> bool:
        """Count one more failure."""
        self._failures_left -= 1
        return self._failures_left < 0


class Scheduler:
    """Queue, batches and deadlines of one loaded version.

    Args:
        contract: checks what the model returns.
        executor: has `config.instance_group.count` slots.
        budget: shared by all schedulers of the server.

    Attributes:
        timing: of the ticket that is being answered, for those whom the answer may reach before they have
            the ticket; None when it never was in a batch, and while none is answered.
    """

    def __init__(
        self,
        contract: Contract,
        executor: Executor,
        config: ModelConfig,
        budget: Budget,
        observer: Observer,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.timing: Timing | None = None
        self._contract = contract
        self._executor = executor
        self._config = config
        self._batching = config.dynamic_batching
        self._budget = budget
        self._observer = observer
        self._loop = loop
        self._line: Line[Ticket] = Line()
        self._waiting = self._line.everyone
        # With so many rows waiting somebody has to wait for a second turn.
        self._one_turn = max(1, config.max_batch_size) * config.instance_group.count
        self._nobody = Lane(self._level(0))
        self._halves: deque[_Batch] = deque()
        self._queue_next = False
        self._running: set[_Batch] = set()
        self._expected = 1
        self._last_end = 0.0
        self._flush_soon: asyncio.Handle | None = None
        self._flush_later: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._watch_at = float("inf")
        self._idle: asyncio.Event = asyncio.Event()
        self._idle.set()
        self._closed = False

    @property
    def depth(self) -> int:
        """Requests waiting, not counting those that the model computes now."""
        return self._line.callers

    @property
    def is_free(self) -> bool:
        """Whether a batch could start now, with nobody in front of it."""
        return self._executor.free > 0 and not (self._waiting or self._halves)

    def submit(
        self, work: Work, deadline: float, answer: Answer, caller: str = "", priority: int = 0
    ) -> Ticket:
        """Queue checked work; `answer` is called once, later, unless the ticket is cancelled.

        Args:
            deadline: in `time.monotonic` seconds.
            caller: who shares the queue fairly with others; "" for all those without a name.
            priority: from 1, the highest, to the model's number of levels; 0 is the model's default.

        Raises:
            NotReady: this version is being unloaded.
            DeadlineExceeded: the deadline has passed already.
            Overloaded: a bounded queue is full.
        """
        lane = self._lane(caller, priority) if caller or priority else self._nobody
        ticket = Ticket(self, work, deadline, answer, lane)
        self._queue(ticket)
        if self._flush_soon is None:
            self._plan(ticket.submitted)
        return ticket

    def submit_together(
        self,
        work: Work,
        deadline: float,
        members: Sequence[Any],
        answer_all: AnswerAll,
        answer_one: AnswerOne,
        at_once: bool = True,
        caller: str = "",
        priority: int = 0,
    ) -> Convoy | None:
        """Queue the requests of several callers as one; as `submit`.  None: they are answered already.

        Args:
            work: the rows of all members, equally many each; its key is not None.
            members: hashable, each of them once.
            answer_all: called once with those members that are still there, unless they are answered one by
                one: when their batch failed.
            at_once: it is the end of a turn of the loop, so that a batch may start where nobody else is
                expected.  An answer may come before this returns.  Once in a turn, or several batches on
                the loop would hold it up.
            caller, priority: of all the members.
        """
        now, executor = time.monotonic(), self._executor
        free = at_once and executor.free > 0
        # Where they need not wait, queue and ticket would only be a way round.
        go = free and not (self._waiting or self._halves) and self._is_complete(work.rows, len(members), now)
        failure: Fault | None = None
        if go:
            self._check_open(deadline, now)
            if executor.is_inline(work.rows):
                failure = self._compute_now(work, members, answer_all, now)
                if failure is None:
                    return None
        lane = self._lane(caller, priority) if caller or priority else self._nobody
        convoy = Convoy(self, work, deadline, members, answer_all, answer_one, lane)
        if go:
            self._enter(convoy)
            batch = _Batch((convoy,))
            if failure is None:
                self._start(batch)
            else:
                self._failed(batch, failure)
                self._plan(now)
                self._check_idle()
            return convoy
        self._queue(convoy)
        if free and self._company_wait(convoy.submitted) < _TIMER_FROM:
            self._flush()
        else:
            self._plan(convoy.submitted)
        return convoy

    def _queue(self, ticket: Ticket) -> None:
        work, callers = ticket.work, ticket.callers
        self._check_open(ticket.deadline, ticket.submitted)
        if self._lacks_room(work.nbytes, callers):
            self._make_room(ticket)
        if self._line.rows >= self._one_turn or work.key is None:
            self._check_time(ticket)
        self._enter(ticket)
        self._line.add(ticket)
        self._budget.take(work.nbytes, callers)

    def _check_open(self, deadline: float, now: float) -> None:
        if self._closed:
            raise NotReady(f"model '{self._config.name}' is being unloaded")
        if deadline <= now:
            raise DeadlineExceeded("the deadline passed before the request was queued")

    def _enter(self, ticket: Ticket) -> None:
        if self._idle.is_set():
            self._idle.clear()
        if ticket.deadline < self._watch_at:
            self._watch_until(ticket.deadline)

    def _lane(self, caller: str, priority: int) -> Lane:
        return Lane(self._level(priority), caller)

    def _level(self, priority: int) -> int:
        """Triton, "Schedule Policy": what is no level of the model is its default one."""
        levels, default = self._batching.priority_levels, self._batching.default_priority_level
        return priority if 0 < priority <= levels else default or levels

    def has_room(self, work: Work, callers: int) -> bool:
        """Whether so many requests with so much work together would be taken now, in nobody's place."""
        return not self._lacks_room(work.nbytes, callers)

    def forget(self, ticket: Ticket) -> None:
        """A ticket was cancelled: give back what it held, let neighbours go on."""
        if ticket in self._waiting:
            self._take(ticket)
            self._check_idle()

    def shrink(self, convoy: Convoy, member: object) -> bool:
        """One member of a convoy has left; whether its rows were still in the queue, to be taken out."""
        if convoy not in self._waiting:
            return False
        work = convoy.work
        rows, nbytes = work.rows, work.nbytes
        convoy.without(member)
        self._line.shrunk(convoy, 1, rows - work.rows, nbytes - work.nbytes)
        self._budget.give_back(nbytes - work.nbytes)
        return True

    async def drain(self) -> None:
        """Refuse new work and wait until nothing waits or runs."""
        self._closed = True
        await self._idle.wait()
        if self._watch is not None:  # or the loop would hold the model until the last deadline is over
            self._watch.cancel()

    def abandon(self, fault: Fault) -> None:
        """Refuse new work and fail whatever waits or runs."""
        self._closed = True
        for ticket in [*self._waiting, *self._underway()]:
            self._expel(ticket, fault)
        self._check_idle()

    # --- who may wait ---

    def _make_room(self, ticket: Ticket) -> None:
        nbytes, callers = ticket.work.nbytes, ticket.callers
        while lack := self._lacks_room(nbytes, callers):
            fits = nbytes <= self._batching.max_queue_bytes
            other = self._line.displaced_by(ticket) if fits else None
            if other is None:
                raise Overloaded(lack)
            self._expel(other, Overloaded("the queue is full, and others have less of it"))

    def _check_time(self, ticket: Ticket) -> None:
        """Who cannot be reached in time is told so now, and may ask elsewhere, instead of at its deadline."""
        work, line, instances = ticket.work, self._line, self._config.instance_group.count
        rows = work.rows if work.key is None else self._config.max_batch_size
        batches = line.callers if work.key is None else line.rows // rows
        if batches < instances or line.is_shared:
            return
        seconds = batches // instances * self._executor.costs.estimate(rows)
        if seconds > ticket.deadline - ticket.submitted:
            raise Overloaded(
                f"model '{self._config.name}' has {line.callers} requests waiting, {seconds:.3g} s of work"
            )

    def _lacks_room(self, nbytes: int, callers: int) -> str:
        """Why so much may not wait; "" when it may."""
        batching, line = self._batching, self._line
        if line.callers + callers > batching.max_queue_size:
            return f"model '{self._config.name}' has {line.callers} requests waiting"
        # What is larger than the whole queue may wait alone; or it could never be served.
        if (self._waiting or callers > 1) and line.nbytes + nbytes > batching.max_queue_bytes:
            return f"model '{self._config.name}' has {line.nbytes} bytes waiting"
        if not self._budget.has_room(nbytes, callers):
            return f"the server has {self._budget.requests} requests of {self._budget.bytes} bytes waiting"
        return ""

    # --- when to start a batch (Rule 2) ---

    def _plan(self, now: float) -> None:
        """See to it that a flush comes, when something waits and the model is free."""
        if self._flush_soon is not None or not self._executor.free or not (self._waiting or self._halves):
            return
        wait = self._company_wait(now)
        if wait < _TIMER_FROM:
            self._flush_soon = self._loop.call_soon(self._flush)
        elif self._flush_later is None:
            self._flush_later = self._loop.call_later(wait, self._flush)

    def _company_wait(self, now: float) -> float:
        if self._halves or self._line.rows >= self._config.max_batch_size:
            return 0.0
        delay = self._batching.max_queue_delay_microseconds
        if delay is not None:
            oldest = next(iter(self._waiting))
            return max(0.0, oldest.submitted + delay / 1e6 - now)
        return self._missing_wait(now, self._line.callers, self._line.rows)

    def _missing_wait(self, now: float, callers: int, rows: int) -> float:
        """How long so many callers wait for those who were expected with them."""
        if callers >= self._expected or now - self._last_end > _EXPECTATION_LIFETIME:
            return 0.0
        return min(MAX_COMPANY_WAIT, self._executor.costs.estimate(rows) / 2)

    def _is_complete(self, rows: int, callers: int, now: float) -> bool:
        """Whether so many who find the queue empty need not wait in it."""
        if self._batching.max_queue_delay_microseconds:
            return False
        return rows >= self._config.max_batch_size or self._missing_wait(now, callers, rows) < _TIMER_FROM

    def _flush(self) -> None:
        for handle in (self._flush_soon, self._flush_later):
            if handle is not None:
                handle.cancel()
        self._flush_soon = self._flush_later = None
        while (self._waiting or self._halves) and self._executor.free and (batch := self._next_batch()):
            self._start(batch)
            if (
                self._flush_soon or self._flush_later
            ):  # it ran inline and the next is planned: yield to the loop
                break
        self._check_idle()

    # --- what goes into it (Rule 3) ---

    def _next_batch(self) -> _Batch | None:
        # In turns: what failed is tried again, but whoever came meanwhile is not held up by it.
        self._queue_next = not self._queue_next and bool(self._waiting)
        while self._halves and not self._queue_next:
            batch = self._halves.popleft()
            alive = [ticket for ticket in batch.tickets if not ticket.gone]
            if alive:
                return _Batch(alive, batch.trial)
        tickets = self._ride_together()
        return _Batch(tickets) if tickets else self._next_batch() if self._halves else None

    def _ride_together(self) -> list[Ticket]:
        now = time.monotonic()
        if now >= self._watch_at:
            self._expire(self._waiting, now)
        taken: list[Ticket] = []
        rows = 0
        for ticket in self._line.in_turn():
            work = ticket.work
            if not taken:
                key = work.key
            elif work.key != key or rows + work.rows > self._config.max_batch_size:
                continue
            taken.append(ticket)
            rows += work.rows
            if key is None or rows >= self._config.max_batch_size:
                break
        for ticket in taken:
            self._take(ticket)
        return taken

    def _take(self, ticket: Ticket) -> None:
        self._line.remove(ticket)
        self._budget.give_back(ticket.work.nbytes, ticket.callers)

    # --- running it ---

    def _compute_now(
        self, work: Work, members: Sequence[Any], answer_all: AnswerAll, now: float
    ) -> Fault | None:
        """Compute on the loop, and answer all; the failure where there is one, and nobody is answered.

        Nothing else happens meanwhile, so nobody can leave and no deadline be watched.
        """
        callers = len(members)
        started = time.monotonic()
        result, seconds = self._executor.run_inline(work if callers == 1 else work.copy())
        if not isinstance(result, Fault):
            result = self._checked(result, work)
        if not isinstance(result, Fault):
            self.timing = Timing(started - now, seconds, work.rows, started)
            try:
                answer_all(members, result)
            except Exception:
                logger.exception("a front failed to take an answer")
            self.timing = None
            self._last_end = time.monotonic()
            self._expected = callers + self._line.callers
            self._plan(self._last_end)
        self._tell(work.rows, seconds, [started - now] * callers, result)
        return result if isinstance(result, Fault) else None

    def _start(self, batch: _Batch) -> None:
        self._running.add(batch)
        started = time.monotonic()

        def done(result: Arrays | Fault, seconds: float) -> None:
            self._ended(batch, result, seconds, started)

        try:
            parts = [ticket.load() for ticket in batch.tickets]
        except Exception:  # no memory
            logger.exception("a batch of model '%s' could not be put together", self._config.name)
            done(InferenceFailed("the model failed to compute this request"), 0.0)
        else:
            self._executor.run(parts, batch.rows, done)

    def _ended(self, batch: _Batch, result: Arrays | Fault, seconds: float, started: float) -> None:
        self._running.discard(batch)
        for ticket in batch.tickets:
            ticket.timing = Timing(started - ticket.submitted, seconds, batch.rows, started)
        if not isinstance(result, Fault):
            result = self._checked(result, batch.tickets[0].work, batch.rows)
        if isinstance(result, Fault):
            self._failed(batch, result)
        else:
            self._answered(batch, result)
        self._last_end = time.monotonic()
        self._expected = batch.callers + self._line.callers
        self._plan(self._last_end)
        self._check_idle()
        # Last, so that nobody waits for what the observers do.
        waits = [started - ticket.submitted for ticket in batch.tickets for _ in range(ticket.callers)]
        self._tell(batch.rows, seconds, waits, result)

    def _tell(self, rows: int, seconds: float, waits: Sequence[float], result: Arrays | Fault) -> None:
        config = self._config
        self._observer.batch(config.name, config.version, rows, seconds, waits, isinstance(result, Fault))

    def _checked(self, result: Arrays, work: Work, rows: int = 0) -> Arrays | Fault:
        """What was computed for work like this; of so many rows, if not of its own."""
        try:
            return self._contract.check_answer(result, work.outputs, rows or work.rows)
        except InferenceFailed as fault:
            logger.error("model '%s' %s", self._config.name, fault)
        except Exception:  # an answer may be any object, with code of its own
            logger.exception("the answer of model '%s' cannot be read", self._config.name)
        return InferenceFailed("the model returned an answer that is not what it announces")

    def _answered(self, batch: _Batch, outputs: Arrays) -> None:
        if batch.trial:
            batch.trial.succeeded()
        if len(batch.tickets) == 1:
            batch.tickets[0].leave(outputs)
            return
        pieces = split(outputs, [ticket.work.rows for ticket in batch.tickets])
        for ticket, piece in zip(batch.tickets, pieces, strict=True):
            ticket.leave(piece)

    # --- when it failed (Rule 4) ---

    def _failed(self, batch: _Batch, fault: Fault) -> None:
        # Some may have left meanwhile, and have been told why.
        alive = [ticket for ticket in batch.tickets if not ticket.gone]
        tickets = [each for ticket in alive for each in ticket.disband()]
        trial = batch.trial or _Trial(len(tickets))
        # Only a failing model can be broken; data at fault says nothing about the model.
        broken = isinstance(fault, InferenceFailed) and trial.model_is_broken()
        if isinstance(fault, DeadlineExceeded):  # the model hangs; it is not asked again
            broken = True
        elif len(tickets) > 1 and not self._batching.retry_failed:
            # Whose data was at fault is not known, and one caller's text is not for another.
            fault, broken = InferenceFailed("the batch of this request failed"), True
        if len(tickets) <= 1 or broken:
            for ticket in tickets:
                ticket.leave(fault)
            if broken:
                self._give_up(trial, fault)
            return
        middle = len(tickets) // 2
        self._halves.appendleft(_Batch(tickets[middle:], trial))
        self._halves.appendleft(_Batch(tickets[:middle], trial))

    def _give_up(self, trial: _Trial, fault: Fault) -> None:
        for batch in [batch for batch in self._halves if batch.trial is trial]:
            self._halves.remove(batch)
            for ticket in batch.tickets:
                ticket.leave(fault)

    # --- deadlines ---

    def _watch_until(self, deadline: float) -> None:
        """One timer for the earliest deadline; it costs nothing per request."""
        if self._watch is not None:
            self._watch.cancel()
        self._watch_at = deadline
        self._watch = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._on_watch)

    def _on_watch(self) -> None:
        # Timers count in whole milliseconds of the loop's cached clock: a millisecond early is on time.
        now = time.monotonic() + 0.001
        self._watch, self._watch_at = None, float("inf")
        self._expire(self._waiting, now)
        self._expire(self._underway(), now)
        deadlines = [ticket.deadline for ticket in (*self._waiting, *self._underway())]
        if deadlines:
            self._watch_until(min(deadlines))
        self._check_idle()

    def _underway(self) -> list[Ticket]:
        batches = (*self._running, *self._halves)
        return [ticket for batch in batches for ticket in batch.tickets if not ticket.gone]

    def _expire(self, tickets: Iterable[Ticket], now: float) -> None:
        for ticket in [ticket for ticket in tickets if ticket.deadline <= now]:
            self._expel(ticket, DeadlineExceeded("the deadline passed before the answer was there"))

    def _expel(self, ticket: Ticket, fault: Fault) -> None:
        if ticket in self._waiting:
            self._take(ticket)
        ticket.leave(fault)

    def _check_idle(self) -> None:
        if not (self._waiting or self._running or self._halves):
            self._idle.set()
