"""Those who travel together: queued as one, computed in one call, encoded and counted in one go."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import repeat

from oipserver.core.batch import split
from oipserver.core.contract import Work
from oipserver.core.dataplane import DataPlane, response
from oipserver.core.errors import BadRequest, Fault, InternalError
from oipserver.core.messages import Arrays, InferenceResponse
from oipserver.core.observer import Ended, Phases
from oipserver.core.registry import Version
from oipserver.core.scheduler import Convoy
from oipserver.http.door import COMPRESS_FROM, Answer, Exchange
from oipserver.http.form import Form, form_of
from oipserver.http.passenger import Passenger
from oipserver.http.template import Template
from oipserver.http.timing import SERVER_TIMING, server_timing
from oipserver.http.wire import Body, encode_response

logger = logging.getLogger("oipserver.http")

_LENGTHS = [b"\r\ncontent-length: %d\r\n\r\n" % length for length in range(COMPRESS_FROM)]


class Party:
    """Those who travel together, until the last of them has an answer."""

    __slots__ = ("_convoy", "_decode", "_passengers", "_phases", "_plane", "_template", "_timed", "_version")

    def __init__(
        self,
        plane: DataPlane,
        version: Version,
        template: Template,
        passengers: list[Passenger],
        timed: bool,
    ) -> None:
        self._plane = plane
        self._version = version
        self._template = template
        self._passengers = passengers
        self._timed = timed
        self._convoy: Convoy | None = None
        self._decode = 0.0
        self._phases: Phases | None = None

    def start(self, work: Work, deadline: float, at_once: bool, caller: str, began: float) -> None:
        """Queue them; the answers may be written before this returns, if `at_once`.

        Args:
            began: when they were looked at, by `time.perf_counter`.
        """
        passengers, priority = self._passengers, self._template.reserved.priority
        self._decode = time.perf_counter() - began
        self._plane.gate.admit_together(len(passengers))
        for passenger in passengers:
            passenger.party = self
            passenger.take_names()
        try:
            convoy = self._version.scheduler.submit_together(
                work, deadline, passengers, self._answer, self._answer_one, at_once, caller, priority
            )
        except Fault as fault:
            self._answer(passengers, fault)
        except Exception:
            self._give_all_up(passengers)
        else:
            self._convoy = None if convoy is None or convoy.gone else convoy

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
        self._look_at_the_clock()
        try:
            self._answer_all(passengers, result)
        except Exception:
            self._give_all_up(passengers)

    def _look_at_the_clock(self) -> None:
        timing = self._version.scheduler.timing
        self._phases = None
        if timing is not None:
            self._phases = Phases(
                self._decode, timing.queue, timing.compute, 0.0, timing.batch_rows, timing.started
            )

    def _give_all_up(self, passengers: Sequence[Passenger]) -> None:
        """Answer those who are left; in an `except` block."""
        logger.exception("%d requests could not be answered together", len(passengers))
        for passenger in passengers:
            self._give_up(passenger)

    def _give_up(self, passenger: Passenger) -> None:
        if passenger.party is self and not passenger.over:
            try:
                self._refuse(passenger, InternalError("internal error"))
            except Exception:
                logger.exception("request %s could not be refused", passenger.request_id)

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
        rows, template, began = self._template.work.rows, self._template, time.perf_counter()
        shapes = [(rows, *array.shape[1:]) for array in arrays.values()]
        try:
            if template.form is None or template.form.shapes != shapes:
                template.form = form_of(self._response("", next(self._split(arrays, 1))), template.plan)
            if template.form is None:
                return None
            rests = template.form.rests(arrays, callers)
            if self._phases is not None:
                self._phases.encode = time.perf_counter() - began
            return template.form, rests
        except BadRequest:  # what JSON cannot carry, as each is told
            return None
        except Exception:
            logger.exception("the answers to %d requests could not be encoded together", callers)
            return None

    def _write(self, passengers: Sequence[Passenger], form: Form, rests: Sequence[bytes]) -> None:
        """Past `Turn.reply`, which would look at each answer and each header."""
        connections, timing = passengers[0].connection.shared, self._timing()
        head, start = passengers[0].connection.good_head, form.start
        behind_id = b"\r\n%b: %b" % (SERVER_TIMING, timing) if timing else b""
        now = time.perf_counter()
        seconds: list[float] = []
        written: list[Passenger] = []
        try:
            for passenger, rest in zip(passengers, rests, strict=True):
                if passenger.over:
                    continue
                connection, body_id = passenger.connection, passenger.body_id
                length = len(start) + len(body_id) + len(rest)
                if length >= COMPRESS_FROM or connection.flow.write_paused or connections.closing:
                    body = Body(b"".join((start, body_id, rest)))
                    self._reply(passenger, "OK", passenger.answer(body, timing))
                    continue
                connection.outlet.write(
                    b"".join((head, passenger.header_id, behind_id, _LENGTHS[length], start, body_id, rest))
                )
                passenger.over = passenger.response_complete = True
                passenger.party = None
                seconds.append(now - passenger.arrived)
                written.append(passenger)
                connection.on_response_complete()
        finally:
            self._count("OK", written, seconds)

    def _timing(self) -> bytes:
        return server_timing(self._phases) if self._timed and self._phases is not None else b""

    def _answer_one(self, passenger: Passenger, result: Arrays | Fault) -> None:
        """The answer to one by itself."""
        if passenger.over:
            return
        if isinstance(result, Fault):  # not raised: its traceback would be everybody's
            self._refuse(passenger, result)
            return
        self._look_at_the_clock()
        try:
            body = encode_response(self._response(passenger.body_id.decode(), result), self._template.plan)
            self._reply(passenger, "OK", passenger.answer(body, self._timing()))
        except Fault as fault:
            self._refuse(passenger, fault)
        except Exception:
            logger.exception("the answer to request %s could not be encoded", passenger.request_id)
            self._refuse(passenger, InternalError("internal error"))

    def _refuse(self, passenger: Passenger, fault: Fault) -> None:
        self._phases = None  # those of somebody who was answered
        self._reply(passenger, fault.code, passenger.refused(fault))

    def _reply(self, passenger: Passenger, code: str, answer: Answer) -> None:
        self._ended(code, passenger)
        passenger.reply(answer)

    def _response(self, body_id: str, arrays: Arrays) -> InferenceResponse:
        return response(replace(self._template.request, id=body_id), self._version, arrays)

    def _ended(self, code: str, passenger: Passenger) -> None:
        """Count it; it has no part in this any more."""
        passenger.party = None
        self._count(code, (passenger,), (time.perf_counter() - passenger.arrived,))

    def _count(self, code: str, passengers: Sequence[Passenger], seconds: Sequence[float]) -> None:
        config, gate = self._version.config, self._plane.gate
        heads = [passenger.known for passenger in passengers]
        traces = [known.head.trace for known in heads]
        gate.report(
            Ended(
                "http",
                Exchange.route,
                config.name,
                config.version,
                code,
                seconds,
                [passenger.request_id for passenger in passengers],
                [known.caller.name if known.caller else "" for known in heads] if gate.guard.enabled else (),
                self._phases,
                self._template.work.rows,
                [known.body_length for known in heads],
                traces if any(traces) else (),
            )
        )
