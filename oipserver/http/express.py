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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any, Protocol, TypeAlias

from oipserver.core.batch import split
from oipserver.core.contract import Work
from oipserver.core.dataplane import DataPlane, response
from oipserver.core.errors import BadRequest, Fault, InternalError
from oipserver.core.ids import new_id
from oipserver.core.memory import Memory
from oipserver.core.messages import NO_PARAMETERS, Arrays, InferenceResponse, Tensor
from oipserver.core.registry import Version
from oipserver.core.scheduler import Convoy
from oipserver.http.door import COMPRESS_FROM, Answer, Head, InferSettings, ok_answer
from oipserver.http.errors import error_response
from oipserver.http.form import Form, form_of
from oipserver.http.template import Template, decode_together, inside, is_plain, recognize
from oipserver.http.turn import Connection, Turn
from oipserver.http.wire import Body, encode_response

logger = logging.getLogger("oipserver.http")

Target: TypeAlias = tuple[str, str | None]

_LENGTHS = [b"\r\ncontent-length: %d\r\n\r\n" % length for length in range(COMPRESS_FROM)]


@dataclass(slots=True, eq=False)
class KnownHead:
    """What a head of an infer request says, once it was parsed and checked.

    Attributes:
        target: model and version.
        body_length: bytes behind the head.
        plain: they are JSON, and no more of it than is read.
    """

    head: Head
    target: Target
    body_length: int
    plain: bool


class Platform(Connection, Protocol):
    """A connection that takes a request back."""

    @property
    def good_head(self) -> bytes:
        """The head of a good JSON answer up to its request id."""

    def ride_alone(self, passenger: Passenger) -> None:
        """Answer one request by itself."""


class Passenger(Turn):
    """One request with a known head, from its packet to its answer.

    Attributes:
        arrived: when it came, by `time.perf_counter`.
        id, numbers: of its body, where that fits a template.
        body_id: the id in the answer's document; `header_id` the one in its headers.
    """

    __slots__ = ("arrived", "body", "body_id", "connection", "header_id", "id", "known", "numbers", "party")

    id: str | None
    numbers: bytes
    body_id: bytes
    header_id: bytes

    def __init__(self, connection: Platform, known: KnownHead, body: bytes) -> None:
        self._connection = self.connection = connection
        self.known = known
        self.body = body
        self.arrived = time.perf_counter()
        self.party: Party | None = None
        self.response_started = self.response_complete = self.disconnected = self.over = False
        self.keep_alive = True
        self.more_body = False

    def board(self, memory: Memory[Any]) -> Template | None:
        """The template that its body fits, if it may go together with others like it."""
        try:
            match = recognize(self.body, memory)
            if match is None or not match[0].may_ride:
                return None
            template, self.id, text = match
            numbers = inside(template, text)
        except Exception:
            logger.exception("a request could not be recognized")
            return None
        if numbers is None:
            return None
        self.numbers = numbers
        return template

    def cancel(self) -> None:
        """The caller has left."""
        if self.party is not None:
            self.party.drop(self)

    def answer(self, body: Body) -> Answer:
        """A good answer."""
        return ok_answer(body, self.header_id.decode(), self.known.head.accept_encoding)

    def refused(self, fault: Fault) -> Answer:
        """The answer that says what was wrong."""
        return Answer(*error_response(fault, self.header_id.decode()))


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
        parties: dict[Template, tuple[Version, list[Passenger]]] = {}
        versions: dict[Target, Version | None] = {}
        limit = self._settings.max_json_bytes
        for passenger in waiting:
            if passenger.over:  # it has left already
                continue
            known = passenger.known
            target = known.target
            if target not in versions:
                versions[target] = self._serving(target)
            version = versions[target]
            match = None
            if version is not None and known.plain and known.body_length <= limit:
                match = passenger.board(version.contract.memory)
            if version is None or match is None:
                _alone(passenger)
            elif match in parties:
                parties[match][1].append(passenger)
            else:
                parties[match] = (version, [passenger])
        begun: set[Version] = set()
        for template, (version, passengers) in parties.items():
            most = max(1, version.config.max_batch_size // template.work.rows)
            for start in range(0, len(passengers), most):
                part = passengers[start : start + most]
                try:
                    self._send_off(version, template, part, version not in begun, _Patience(len(part)))
                except Exception:
                    logger.exception("%d requests failed together, and go on one by one", len(part))
                    for passenger in part:
                        if passenger.party is None and not passenger.over:
                            _alone(passenger)
                begun.add(version)

    def _serving(self, target: Target) -> Version | None:
        try:
            return None if self._plane.gate.draining else self._plane.serving(*target)
        except Fault:
            return None

    def _send_off(
        self,
        version: Version,
        template: Template,
        passengers: list[Passenger],
        at_once: bool,
        patience: _Patience,
    ) -> None:
        work = self._work(version, template, passengers)
        if work is not None:
            self._go(version, template, passengers, work, at_once)
            return
        if len(passengers) == 1 or patience.ends():
            for passenger in passengers:
                _alone(passenger)
            return
        plain: list[Passenger] = []
        for passenger in passengers:
            if is_plain(template, passenger.numbers):
                plain.append(passenger)
            else:
                _alone(passenger)
        # By halves where it cannot be told whose fault it is, so that one costs its neighbours little.
        middle = len(plain) // 2 if len(plain) == len(passengers) else len(plain)
        for part in (plain[:middle], plain[middle:]):
            if part:
                self._send_off(version, template, part, at_once and part[0] is plain[0], patience)

    def _go(
        self,
        version: Version,
        template: Template,
        passengers: list[Passenger],
        work: Work,
        at_once: bool,
    ) -> None:
        limit, timeout = self._settings.default_timeout, template.reserved.timeout
        seconds = limit if timeout is None else min(timeout, limit)
        Party(self._plane, version, template, passengers).start(work, time.monotonic() + seconds, at_once)

    def _work(self, version: Version, template: Template, passengers: list[Passenger]) -> Work | None:
        """The rows of all; None where fewer may fare better than all together."""
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


class _Patience:
    """Tells one bad request among good ones from many: after so many failures all go alone."""

    def __init__(self, requests: int) -> None:
        self._left = 2 * requests.bit_length()

    def ends(self) -> bool:
        """Count one failure more."""
        self._left -= 1
        return self._left < 0


class Party:
    """Those who travel together, until the last of them has an answer."""

    __slots__ = ("_convoy", "_passengers", "_plane", "_template", "_version")

    def __init__(
        self, plane: DataPlane, version: Version, template: Template, passengers: list[Passenger]
    ) -> None:
        self._plane = plane
        self._version = version
        self._template = template
        self._passengers = passengers
        self._convoy: Convoy | None = None

    def start(self, work: Work, deadline: float, at_once: bool) -> None:
        """Queue them; the answers may be written before this returns, if `at_once`."""
        passengers = self._passengers
        self._plane.gate.admit_together(len(passengers))
        for passenger in passengers:
            passenger.party = self
            # Ids as the other door gives them: each of body and header takes the other's where it has none.
            from_head, from_body = passenger.known.head.request_id, passenger.id
            passenger.header_id = header_id = (from_head or from_body or new_id()).encode()
            passenger.body_id = from_body.encode() if from_body else header_id
        try:
            convoy = self._version.scheduler.submit_together(
                work, deadline, passengers, self._answer, self._answer_one, at_once
            )
        except Fault as fault:
            self._answer(passengers, fault)
        else:
            self._convoy = None if convoy.gone else convoy

    def drop(self, passenger: Passenger) -> None:
        """One has left."""
        self._ended("CANCELLED", passenger)
        if self._convoy is not None:
            self._convoy.drop(passenger)
            if self._convoy.gone:
                self._convoy = None

    def _answer(self, passengers: Sequence[Passenger], result: Arrays | Fault) -> None:
        """The answer to all who were not answered one by one; nobody is left without."""
        self._convoy = None
        try:
            self._answer_all(passengers, result)
        except Exception:
            logger.exception("the answers to %d requests could not be written", len(passengers))
            for passenger in passengers:
                self._give_up(passenger)

    def _give_up(self, passenger: Passenger) -> None:
        if passenger.party is self and not passenger.over:
            try:
                self._refuse(passenger, InternalError("internal error"))
            except Exception:
                logger.exception("request %s could not be refused", passenger.header_id.decode())

    def _answer_all(self, passengers: Sequence[Passenger], result: Arrays | Fault) -> None:
        rests = None if isinstance(result, Fault) else self._rests(result, len(passengers))
        if rests is not None:
            self._write(passengers, *rests)
            return
        pieces: Iterable[Arrays | Fault] = repeat(result)
        if not isinstance(result, Fault):
            pieces = self._split(result, len(passengers))
        for passenger, piece in zip(passengers, pieces, strict=False):
            self._answer_one(passenger, piece)

    def _split(self, arrays: Arrays, callers: int) -> Iterator[Arrays]:
        return split(arrays, [self._template.work.rows] * callers)

    def _rests(self, arrays: Arrays, callers: int) -> tuple[Form, list[bytes]] | None:
        """What stands behind the ids; None where the answers are no numbers."""
        rows, template = self._template.work.rows, self._template
        shapes = [(rows, *array.shape[1:]) for array in arrays.values()]
        try:
            if template.form is None or template.form.shapes != shapes:
                template.form = form_of(self._response("", next(self._split(arrays, 1))), template.plan)
            return None if template.form is None else (template.form, template.form.rests(arrays, callers))
        except BadRequest:  # what JSON cannot carry, as each is told
            return None
        except Exception:
            logger.exception("the answers to %d requests could not be encoded together", callers)
            return None

    def _write(self, passengers: Sequence[Passenger], form: Form, rests: Sequence[bytes]) -> None:
        """Past `Turn.reply`, which would look at each answer and each header."""
        connections = passengers[0].connection.shared
        head, start = passengers[0].connection.good_head, form.start
        now = time.perf_counter()
        seconds: list[float] = []
        try:
            for passenger, rest in zip(passengers, rests, strict=True):
                if passenger.over:
                    continue
                connection, body_id = passenger.connection, passenger.body_id
                length = len(start) + len(body_id) + len(rest)
                if length >= COMPRESS_FROM or connection.flow.write_paused or connections.closing:
                    body = Body(b"".join((start, body_id, rest)))
                    self._reply(passenger, "OK", passenger.answer(body))
                    continue
                connection.outlet.write(
                    b"".join((head, passenger.header_id, _LENGTHS[length], start, body_id, rest))
                )
                passenger.over = passenger.response_complete = True
                passenger.party = None
                seconds.append(now - passenger.arrived)
                connection.on_response_complete()
        finally:
            self._count("OK", seconds)

    def _answer_one(self, passenger: Passenger, result: Arrays | Fault) -> None:
        """The answer to one by itself."""
        if passenger.over:
            return
        if isinstance(result, Fault):  # not raised: its traceback would be everybody's
            self._refuse(passenger, result)
            return
        try:
            body = encode_response(self._response(passenger.body_id.decode(), result), self._template.plan)
            self._reply(passenger, "OK", passenger.answer(body))
        except Fault as fault:
            self._refuse(passenger, fault)
        except Exception:
            logger.exception("the answer to request %s could not be encoded", passenger.header_id.decode())
            self._refuse(passenger, InternalError("internal error"))

    def _refuse(self, passenger: Passenger, fault: Fault) -> None:
        self._reply(passenger, fault.code, passenger.refused(fault))

    def _reply(self, passenger: Passenger, code: str, answer: Answer) -> None:
        self._ended(code, passenger)
        passenger.reply(answer)

    def _response(self, body_id: str, arrays: Arrays) -> InferenceResponse:
        return response(replace(self._template.request, id=body_id), self._version, arrays)

    def _ended(self, code: str, passenger: Passenger) -> None:
        """Count it; it has no part in this any more."""
        passenger.party = None
        self._count(code, (time.perf_counter() - passenger.arrived,))

    def _count(self, code: str, seconds: Sequence[float]) -> None:
        config = self._version.config
        self._plane.gate.left("http", config.name, config.version, code, seconds)


def _alone(passenger: Passenger) -> None:
    try:
        passenger.connection.ride_alone(passenger)
        passenger.over = True  # here
    except Exception:
        logger.exception("a request could not be begun")
        request_id = passenger.known.head.request_id or new_id()
        passenger.reply(Answer(*error_response(InternalError("internal error"), request_id)))
