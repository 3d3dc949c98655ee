"""The line in which requests wait for one version.

Rule 1: while all are of one caller and one priority, who came first goes first, and nothing else is kept.

Rule 2: priority 1 goes before priority 2 (Triton, "Schedule Policy").  Within one priority the callers take
turns by rows (start-time fair queueing: Goyal, Vin, Cheng, 1996): the turn of a request comes as many rows
after that of the one before it, of the same caller, as that one has.

Rule 3: a full line makes room for whom it treats worst.  The last of the lowest priority leaves; where the
newcomer's is no better, the last of the caller who has most of the line, if the newcomer's has less.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from typing import Generic, NamedTuple, Protocol, TypeVar

from oipserver.core.contract import Work


class Lane(NamedTuple):
    """Those who go in order of arrival among each other.

    Attributes:
        priority: 1 is the highest; 0 where a model has none.
        caller: the name of a key; "" for those without.
    """

    priority: int = 0
    caller: str = ""


class Waiting(Protocol):
    """Whoever waits; `turn` is the line's own."""

    @property
    def work(self) -> Work:
        """What is to be computed."""

    callers: int
    lane: Lane
    turn: int


W = TypeVar("W", bound=Waiting)


class _Queue(Generic[W]):
    """The part of the line with one lane."""

    __slots__ = ("callers", "first_to_last")

    def __init__(self) -> None:
        self.callers = 0
        self.first_to_last: dict[W, None] = {}


class Line(Generic[W]):
    """Whoever waits, and how much it is.

    Attributes:
        everyone: in the order of arrival; always the same object, and for others to be read only.
        callers, rows, nbytes: of all together.
    """

    __slots__ = ("_lane", "_queues", "callers", "everyone", "nbytes", "rows")

    def __init__(self) -> None:
        self.callers = self.rows = self.nbytes = 0
        self.everyone: dict[W, None] = {}
        self._lane = Lane()  # of all, while there are no queues
        self._queues: dict[Lane, _Queue[W]] = {}  # from the second lane on, until nobody waits

    @property
    def is_shared(self) -> bool:
        """Whether who came first may not go first."""
        return bool(self._queues)

    def add(self, waiting: W) -> None:
        """One more."""
        if not self.everyone:
            self._lane, self._queues = waiting.lane, {}
        elif self._queues:
            self._queue(waiting)
        elif waiting.lane != self._lane:
            for each in self.everyone:
                self._queue(each)
            self._queues[self._lane].callers = self.callers
            self._queue(waiting)
        self.everyone[waiting] = None
        work = waiting.work
        self.callers += waiting.callers
        self.rows += work.rows
        self.nbytes += work.nbytes
        if self._queues:
            self._queues[waiting.lane].callers += waiting.callers

    def remove(self, waiting: W) -> None:
        """One less."""
        del self.everyone[waiting]
        work = waiting.work
        self.callers -= waiting.callers
        self.rows -= work.rows
        self.nbytes -= work.nbytes
        if self._queues:
            queue = self._queues[waiting.lane]
            queue.callers -= waiting.callers
            del queue.first_to_last[waiting]
            if not queue.first_to_last:
                del self._queues[waiting.lane]

    def shrunk(self, waiting: W, callers: int, rows: int, nbytes: int) -> None:
        """One of the line has become so much less."""
        self.callers -= callers
        self.rows -= rows
        self.nbytes -= nbytes
        if self._queues:
            self._queues[waiting.lane].callers -= callers

    def in_turn(self) -> Iterable[W]:
        """As they are to be served (Rule 2)."""
        if len(self._queues) < 2:
            return self.everyone
        return heapq.merge(*(queue.first_to_last for queue in self._queues.values()), key=_turn)

    def displaced_by(self, newcomer: W) -> W | None:
        """Who has to leave a full line, so that the newcomer may wait (Rule 3); None when it may not."""
        if not self.everyone or (not self._queues and newcomer.lane == self._lane):
            return None
        lowest = max((lane.priority for lane in self._lanes()), default=0)
        if lowest > newcomer.lane.priority:
            return self._last_of(lane for lane in self._lanes() if lane.priority == lowest)
        shares = self._shares()
        greediest = max(shares, key=shares.__getitem__)
        if shares[greediest] <= shares[newcomer.lane.caller] + newcomer.callers:
            return None
        lanes = [lane for lane in self._lanes() if lane.caller == greediest]
        lowest = max(lane.priority for lane in lanes)
        return self._last_of(lane for lane in lanes if lane.priority == lowest)

    def _lanes(self) -> Iterable[Lane]:
        return self._queues or (self._lane,)

    def _shares(self) -> Counter[str]:
        shares: Counter[str] = Counter()
        for lane in self._lanes():
            shares[lane.caller] += self._queues[lane].callers if self._queues else self.callers
        return shares

    def _last_of(self, lanes: Iterable[Lane]) -> W:
        """The youngest of the longest."""
        if not self._queues:
            return next(reversed(self.everyone))
        longest = max((self._queues[lane] for lane in lanes), key=lambda queue: queue.callers)
        return next(reversed(longest.first_to_last))

    def _queue(self, waiting: W) -> None:
        queue = self._queues.get(waiting.lane)
        if queue is None:
            # Whoever comes anew is not behind those who are served now, and not before them.
            heads = [
                next(iter(other.first_to_last)).turn
                for lane, other in self._queues.items()
                if lane.priority == waiting.lane.priority
            ]
            waiting.turn = min(heads, default=0)
            queue = self._queues[waiting.lane] = _Queue()
        else:
            last = next(reversed(queue.first_to_last))
            waiting.turn = last.turn + last.work.rows
        queue.first_to_last[waiting] = None


def _turn(waiting: Waiting) -> tuple[int, int]:
    return waiting.lane.priority, waiting.turn
