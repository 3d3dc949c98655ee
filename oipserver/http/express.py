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

from oipserver.core.contract import Work
from oipserver.core.dataplane import DataPlane
from oipserver.core.errors import BadRequest, Fault, InternalError
from oipserver.core.ids import new_id
from oipserver.core.messages import NO_PARAMETERS, Tensor
from oipserver.core.registry import Version
from oipserver.http.door import Answer, InferSettings
from oipserver.http.errors import error_response
from oipserver.http.party import Party
from oipserver.http.passenger import Passenger, Target
from oipserver.http.template import Template, decode_together, is_plain

logger = logging.getLogger("oipserver.http")


class Group:
    """Those who may go together, for the same version and with the same template.

    Attributes:
        caller: the name of all, where that matters; else "".
    """

    __slots__ = ("caller", "passengers", "template", "version")

    def __init__(self, version: Version, template: Template, caller: str, first: Passenger) -> None:
        self.version = version
        self.template = template
        self.caller = caller
        self.passengers = [first]


class Express:
    """Gathers what comes in one turn of the loop, and sends it on at its end."""

    def __init__(self, plane: DataPlane, settings: InferSettings) -> None:
        self._plane = plane
        self._settings = settings
        self._waiting: list[Passenger] = []

    def add(self, passenger: Passenger, alone: bool) -> None:
        """Take one along; at once when it is alone, so that nobody else can come in this turn."""
        if not self._waiting and not alone:
            asyncio.get_running_loop().call_soon(self._depart)
        self._waiting.append(passenger)
        if alone:
            self._depart()

    def _depart(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            self._send_all(waiting)
        except Exception:
            logger.exception("%d requests failed together, and go on one by one", len(waiting))
            for passenger in waiting:
                if not (passenger.begun or passenger.over):
                    _alone(passenger)

    def _send_all(self, waiting: list[Passenger]) -> None:
        begun: set[Version] = set()
        for group in self._groups(waiting):
            version, passengers = group.version, group.passengers
            most = max(1, version.config.max_batch_size // group.template.work.rows)
            for start in range(0, len(passengers), most):
                part = passengers[start : start + most]
                self._send_off(group, part, version not in begun, _Patience(len(part)))
                begun.add(version)

    def _groups(self, waiting: list[Passenger]) -> list[Group]:
        """Who may go together; the others are gone by themselves."""
        groups: dict[tuple[Template, str], Group] = {}
        versions: dict[Target, Version | None] = {}
        limit, guard = self._settings.max_json_bytes, self._plane.gate.guard
        for passenger in waiting:
            if passenger.over:  # it has left already
                continue
            known = passenger.known
            target = known.target
            if target not in versions:
                versions[target] = self._serving(target)
            version, caller = versions[target], known.asked_by(guard)
            match = None
            if version is not None and caller is not None and known.plain and known.body_length <= limit:
                match = passenger.board(version.contract.memory)
            if version is None or caller is None or match is None:
                _alone(passenger)
                continue
            # Where they have to queue, each caller has a place of its own.
            name = caller.name if caller.name and not version.scheduler.is_free else ""
            group = groups.get((match, name))
            if group is None:
                groups[match, name] = Group(version, match, name, passenger)
            else:
                group.passengers.append(passenger)
        return list(groups.values())

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
    within: list[Passenger] = []
    for passenger in passengers:
        caller = passenger.known.caller
        if caller is not None and caller.try_take(rows):
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
