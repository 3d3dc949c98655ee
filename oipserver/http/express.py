"""Infer requests that come in one turn of the event loop and are alike go through the server together.

Under load most requests are copies of an earlier one with other numbers.  Those that the loop reads in one
turn are decoded in one call, checked in one, queued as one (`Convoy`), computed together in any case, and
encoded and counted in one go.  What is left for each of them alone is to be recognized, an id, and a write.

Whatever is out of the ordinary gets off before that, and goes by the door that takes one request at a time:
a document that is not known, a value that is refused, a queue that is full, a server that drains.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator

from oipserver.core.contract import Work
from oipserver.core.dataplane import DataPlane
from oipserver.core.errors import BadRequest, Fault, InternalError
from oipserver.core.ids import new_id
from oipserver.core.messages import NO_PARAMETERS, Tensor
from oipserver.core.registry import Version
from oipserver.http.busy_poll import BusyPoll
from oipserver.http.door import Answer, InferSettings
from oipserver.http.errors import error_response
from oipserver.http.likeness import Likeness
from oipserver.http.party import Party
from oipserver.http.passenger import KnownHead, Passenger, Target
from oipserver.http.template import Template, decode_together, is_plain

logger = logging.getLogger("oipserver.http")

# Seconds for which those who are here wait for the next of those who were answered with the ones before them,
# and for all of them.  Callers who ask again at once come one behind the other; if the first of them went
# ahead, they would fall apart into small groups, and most of what a group costs is the same for any number.
NEXT_SECONDS = 0.000025
COMPANY_SECONDS = 0.0002
# Ways to write a body that each is compared with.
MAX_RECENT = 4


class Group:
    """Those who may go together, for the same version and with the same template.

    Attributes:
        caller: the name of all, where that matters; else "".
    """

    __slots__ = ("caller", "passengers", "template", "version")

    def __init__(self, version: Version, template: Template, caller: str) -> None:
        self.version = version
        self.template = template
        self.caller = caller
        self.passengers: list[Passenger] = []


class _Way:
    """Where requests go together that have come in one turn.

    Attributes:
        caller: as of a `Group`.
        groups: of those who came this way.
    """

    __slots__ = ("_memory", "caller", "groups", "version")

    def __init__(self, version: Version, caller: str) -> None:
        self.version = version
        self.caller = caller
        self.groups: dict[Template, Group] = {}
        self._memory = version.contract.memory

    def takes(self, passenger: Passenger) -> bool:
        """Put one in its group, if it may go with others."""
        like = self._like(passenger)
        if like is None:
            return False
        group = self.groups.get(like.template)
        if group is None:
            group = self.groups[like.template] = Group(self.version, like.template, self.caller)
        group.passengers.append(passenger)
        return True

    def _like(self, passenger: Passenger) -> Likeness | None:
        recent: tuple[Likeness, ...] = self._memory.recent
        for known in recent:
            if passenger.boards(known):
                return known
        like = passenger.likeness(self._memory)
        if like is None or not passenger.boards(like):
            return None
        self._memory.recent = (like, *recent[: MAX_RECENT - 1])
        return like


class Express:
    """Gathers what comes in one turn of the loop, and sends it on at its end."""

    def __init__(self, plane: DataPlane, settings: InferSettings) -> None:
        self._plane = plane
        self._settings = settings
        self._busy_poll = BusyPoll(settings.busy_poll)
        self._waiting: list[Passenger] = []
        # As many as left together the last time.
        self._expected = 1

    def add(self, passenger: Passenger, alone: bool) -> None:
        """Take one along; at once when it is alone, so that nobody else can come in this turn."""
        if not self._waiting and not alone:
            asyncio.get_running_loop().call_soon(self._depart)
        self._waiting.append(passenger)
        if alone:
            self._depart()

    def _depart(self) -> None:
        if not self._waiting:  # they went along with one who was alone
            return
        if self._has_time():
            asyncio.get_running_loop().call_soon(self._depart)  # the loop reads what has come meanwhile
            return
        waiting, self._waiting = self._waiting, []
        self._expected = len(waiting)
        try:
            self._send_all(waiting)
        except Exception:
            logger.exception("%d requests failed together, and go on one by one", len(waiting))
            for passenger in waiting:
                if not (passenger.begun or passenger.over):
                    _alone(passenger)
        self.look_out()

    def _has_time(self) -> bool:
        """Whether it pays to wait for more, and nobody else waits for the loop."""
        waiting = self._waiting
        if len(waiting) >= self._expected or self._plane.gate.in_flight:
            return False
        now = time.perf_counter()
        return now < waiting[-1].arrived + NEXT_SECONDS and now < waiting[0].arrived + COMPANY_SECONDS

    def look_out(self) -> None:
        """Somebody was answered: stay awake for the next request, unless the server has others to serve."""
        if not self._plane.gate.in_flight:
            self._busy_poll.answered()

    def _send_all(self, waiting: list[Passenger]) -> None:
        begun: set[Version] = set()
        for group in self._groups(waiting):
            version, passengers = group.version, group.passengers
            most = max(1, version.config.max_batch_size // group.template.work.rows)
            for start in range(0, len(passengers), most):
                part = passengers[start : start + most]
                self._send_off(group, part, version not in begun, _Patience(len(part)))
                begun.add(version)

    def _groups(self, waiting: list[Passenger]) -> Iterator[Group]:
        """Who may go together; the others are gone by themselves."""
        ways: dict[tuple[Version, str], _Way] = {}
        # Most have one of a few heads.
        by_head: dict[KnownHead, _Way | None] = {}
        for passenger in waiting:
            if passenger.over:  # it has left already
                continue
            known = passenger.known
            if known not in by_head:
                place = self._place(known)
                by_head[known] = None if place is None else ways.setdefault(place, _Way(*place))
            way = by_head[known]
            if way is None or not way.takes(passenger):
                _alone(passenger)
        for way in ways.values():
            yield from way.groups.values()

    def _place(self, known: KnownHead) -> tuple[Version, str] | None:
        """Where those with a head may go together with others, as of a `_Way`; None where they may not."""
        version, caller = self._serving(known.target), known.asked_by(self._plane.gate.guard)
        if version is None or caller is None:
            return None
        if not known.plain or known.body_length > self._settings.max_json_bytes:
            return None
        # Where they have to queue, each caller has a place of its own.
        return version, "" if version.scheduler.is_free else caller.name

    def _serving(self, target: Target) -> Version | None:
        try:
            return None if self._plane.gate.draining else self._plane.serving(*target)
        except Fault:
            return None

    def _send_off(
        self, group: Group, passengers: list[Passenger], at_once: bool, patience: _Patience
    ) -> None:
        began = time.perf_counter()
        work = self._work(group, passengers)
        if work is not None:
            if self._plane.gate.guard.enabled:
                passengers, work = self._within_rates(group, passengers, work)
            if work is not None:
                self._go(group, passengers, work, at_once, began)
            return
        if len(passengers) == 1 or patience.ends():
            for passenger in passengers:
                _alone(passenger)
            return
        plain: list[Passenger] = []
        for passenger in passengers:
            if is_plain(group.template, passenger.numbers):
                plain.append(passenger)
            else:
                _alone(passenger)
        # By halves where it cannot be told whose fault it is, so that one costs its neighbours little.
        middle = len(plain) // 2 if len(plain) == len(passengers) else len(plain)
        for part in (plain[:middle], plain[middle:]):
            if part:
                self._send_off(group, part, at_once and part[0] is plain[0], patience)

    def _go(self, group: Group, passengers: list[Passenger], work: Work, at_once: bool, began: float) -> None:
        settings, template = self._settings, group.template
        limit, timeout = settings.default_timeout, template.reserved.timeout
        seconds = limit if timeout is None else min(timeout, limit)
        party = Party(self._plane, group.version, template, passengers, settings.server_timing)
        party.start(work, time.monotonic() + seconds, at_once, group.caller, began)

    def _within_rates(
        self, group: Group, passengers: list[Passenger], work: Work
    ) -> tuple[list[Passenger], Work | None]:
        """Those who may go now, and their rows; the others hear by themselves that they have to wait."""
        within = _charged(passengers, group.template.work.rows)
        if len(within) == len(passengers):
            return passengers, work
        fewer = self._work(group, within) if within else None
        if fewer is None:
            for passenger in within:
                _alone(passenger)
        return within, fewer

    def _work(self, group: Group, passengers: list[Passenger]) -> Work | None:
        """The rows of all; None where fewer may fare better than all together."""
        template, version = group.template, group.version
        array = decode_together(template, [passenger.numbers for passenger in passengers])
        if array is None:
            return None
        tensor, count = template.tensor, len(passengers)
        try:
            together = Tensor(tensor.name, tensor.datatype, array, NO_PARAMETERS)
            work = version.contract.check_again(template.work, together, count)
        except BadRequest:  # somebody's value, or the batch axis is not free
            return None
        return work if version.scheduler.has_room(work, count) else None


def _charged(passengers: list[Passenger], rows: int) -> list[Passenger]:
    """Those whose rates let them go; the others are told by themselves that they have to wait."""
    callers = [passenger.known.caller for passenger in passengers]
    # Most are of one caller, and there is something left.
    wish = {callers[0]: len(callers)} if callers.count(callers[0]) == len(callers) else Counter(callers)
    left = {caller: 0 if caller is None else caller.try_take(many, rows) for caller, many in wish.items()}
    if left == wish:
        return passengers
    within: list[Passenger] = []
    for passenger in passengers:
        caller = passenger.known.caller
        if left[caller]:
            left[caller] -= 1
            within.append(passenger)
        else:
            _alone(passenger)
    return within


class _Patience:
    """Tells one bad request among good ones from many: after so many failures all go alone."""

    def __init__(self, requests: int) -> None:
        self._left = 2 * requests.bit_length()

    def ends(self) -> bool:
        """Count one failure more."""
        self._left -= 1
        return self._left < 0


def _alone(passenger: Passenger) -> None:
    """By the door for one; never raises, for there are others behind it."""
    try:
        passenger.connection.ride_alone(passenger)
        passenger.over = True  # here
    except Exception:
        logger.exception("a request could not be begun")
        _refuse(passenger)


def _refuse(passenger: Passenger) -> None:
    request_id = passenger.known.head.request_id or new_id()
    try:
        passenger.reply(Answer(*error_response(InternalError("internal error"), request_id)))
    except Exception:
        logger.exception("request %s could not be refused", request_id)
