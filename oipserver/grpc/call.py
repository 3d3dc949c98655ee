"""One inference, from its arrival to the end of the RPC.

Rule: it is settled once, on the event loop, by what comes first: answer, refusal, or the end of the RPC.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import TypeAlias

import grpc

from oipserver.core.admission import ANONYMOUS, Admission, Right
from oipserver.core.contract import Work
from oipserver.core.dataplane import DataPlane, Handle
from oipserver.core.delivery import delivered_or_fault
from oipserver.core.errors import (
    BadRequest,
    Cancelled,
    Fault,
    InternalError,
    NotReady,
    Overloaded,
    printable,
)
from oipserver.core.idempotency import check_key
from oipserver.core.ids import new_id, valid_request_id
from oipserver.core.messages import Deliveries, InferenceRequest, InferenceResponse
from oipserver.core.registry import Version
from oipserver.grpc import errors, wire
from oipserver.grpc.access import identify
from oipserver.grpc.handover import Handover
from oipserver.grpc.patience import Patience
from oipserver.grpc.reply import End, Replies
from oipserver.grpc.template import Known, learn, recognize
from oipserver.grpc.threads import Threads

log = logging.getLogger(__name__)

Checked: TypeAlias = tuple[InferenceRequest, Work, Version]

# Seconds that a peer may take to send its tensors, and to read its answer.
TENSOR_SECONDS = 30.0
ROUTE = "ModelInfer"
# A larger message is decoded in a thread, so that the loop is never held up by it.
LARGE_BYTES = 2**14


class Desk:
    """What the calls of one server share.

    Attributes:
        slots: one for each call inside, from before its message is read until it is settled.

    Args:
        pool: decodes what is large.
        max_calls: how many may be inside; one model may have 7/8 of them, so that a slow one leaves room
            for the others.
        default_timeout: seconds; a caller may only shorten it.
    """

    def __init__(
        self,
        plane: DataPlane,
        handover: Handover,
        patience: Patience,
        replies: Replies,
        pool: Threads,
        max_calls: int,
        default_timeout: float,
    ) -> None:
        self.plane = plane
        self.handover = handover
        self.patience = patience
        self.replies = replies
        self.pool = pool
        self.default_timeout = default_timeout
        self.slots = threading.BoundedSemaphore(max_calls)
        self._share = max(1, max_calls * 7 // 8)
        self._inside: Counter[str] = Counter()

    def enter(self, model: str) -> None:
        """Count one call in, on the loop; Overloaded when the model has its share."""
        if self._inside[model] >= self._share:
            raise Overloaded(f"model '{printable(model)}' has {self._share} gRPC calls inside already")
        self._inside[model] += 1

    def leave(self, model: str) -> None:
        """Count one call out, on the loop; nothing is kept of names that are not in use."""
        self._inside[model] -= 1
        if not self._inside[model]:
            del self._inside[model]

    def account(self, fault: Fault) -> None:
        """Report a request that was refused before it came here; on the loop."""
        try:
            self.plane.gate.admit("grpc").finish(fault.code)
        except Fault:
            return


class Call:
    """A request on its way through the data plane.

    It lives until the RPC is over, which may be long after the answer, so it lets go of everything then.

    Args:
        desk: one of its slots was taken for the call.
        end: called once, unless the caller leaves first.

    Attributes:
        settled: it has its answer, or never gets one.
    """

    __slots__ = (
        "_admission",
        "_body",
        "_caller",
        "_context",
        "_desk",
        "_finish",
        "_idempotency",
        "_model",
        "_over",
        "_question",
        "_raw",
        "_refused",
        "_request_id",
        "_size",
        "_ticket",
        "_trace",
        "settled",
    )

    def __init__(self, desk: Desk, context: grpc.ServicerContext, end: End) -> None:
        self.settled = False
        self._desk = desk
        self._context = context
        self._finish: End | None = end
        self._request_id, self._trace, self._idempotency = errors.given_labels(context)
        self._raw = True
        self._size = 0
        self._over = False
        self._body: bytes | None = None
        self._question: wire.Question | Fault | None = None
        self._caller = ANONYMOUS
        self._refused: Fault | None = None
        self._admission: Admission | None = None
        self._ticket: Handle | None = None
        self._model: str | None = None

    # --- in a thread of grpcio's ---

    def open(self) -> None:
        """Wait for the message, for a while, and for the end of the RPC, whenever that is."""
        self._desk.patience.start(self._context, TENSOR_SECONDS)
        if not self._context.add_callback(self._end):
            self._over = True
        try:
            self._caller = identify(self._desk.plane.gate.guard, self._context)
        except Fault as fault:  # its message is not waited for
            self._refused = fault
            self._hand_over()

    def arrived(self, body: bytes | None) -> None:
        """Take the message, None being none at all; never raises."""
        desk = self._desk
        if self._refused is not None:
            return
        desk.patience.stop(self._context)
        self._body = body
        self._size = 0 if body is None else len(body)
        if body is not None and len(body) > LARGE_BYTES:
            desk.pool.submit(self._decode_large, body)
        else:
            self._hand_over()

    def failed(self) -> None:
        """There is no way to the message; never raises."""
        self._desk.patience.stop(self._context)
        self._question = InternalError("internal error")
        self._hand_over()

    def _hand_over(self) -> None:
        try:
            self._desk.handover.post(self.start)
        except NotReady:  # the loop is closed: nobody will answer
            self._desk.slots.release()
            self._context.cancel()  # type: ignore[no-untyped-call]

    def _end(self) -> None:
        self._over = True
        self._desk.patience.stop(self._context)
        if not self.settled:
            with suppress(NotReady):
                self._desk.handover.post(self.cancel)

    def _decode_large(self, body: bytes) -> None:
        self._body = None
        try:
            self._question = self._decode(body)
        except Fault as fault:
            self._question = fault
        except Exception:
            log.exception("a request could not be decoded")
            self._question = InternalError("internal error")
        self._hand_over()

    # --- on the loop ---

    def start(self) -> None:
        """Hand the request to the data plane."""
        if self.settled:
            return
        try:
            self._submit()
        except Fault as fault:
            self._settle(fault)
        except Exception:
            log.exception("a request could not be submitted")
            self._settle(InternalError("internal error"))

    def cancel(self) -> None:
        """The RPC is over, nobody waits for the answer."""
        if not self.settled:
            if self._ticket is not None:
                self._ticket.cancel()
            self._settle(Cancelled("the caller left"))

    def _submit(self) -> None:
        plane, body = self._desk.plane, self._body
        admission = self._admission = plane.gate.admit("grpc", caller=self._caller)
        admission.route, admission.size, admission.trace = ROUTE, self._size, self._trace
        if self._refused is not None:
            raise self._refused
        self._caller.take()  # in front of all that costs something: what cannot be read counts, too
        if self._idempotency is not None:
            admission.idempotency = check_key(self._idempotency)
        began = time.perf_counter()
        known = recognize(body, plane) if body is not None else None
        checked = self._check_new(admission) if known is None else self._check(known, admission)
        admission.decode = time.perf_counter() - began
        self._body = self._question = None
        deliveries = checked[0].deliveries
        reply = partial(self._deliver, deliveries) if deliveries else self._settle
        self._ticket = plane.enqueue(*checked, reply, admission)

    def _check(self, known: Known, admission: Admission) -> Checked:
        self._label(known.id)
        self._enter(known.version.config.name)
        admission.of(known.version.config)
        return *known.read(*self._times(), self._request_id), known.version

    def _check_new(self, admission: Admission) -> Checked:
        body, question = self._body, self._question
        if body is not None:
            question = self._decode(body)
        if not isinstance(question, wire.Question):
            raise question or self._no_message()
        request, self._raw = question.request, question.raw
        self._label(request.id)
        self._enter(request.model_name)
        version = self._desk.plane.serving(request.model_name, request.model_version, admission)
        work = version.contract.check(request)
        if body is not None and not request.deliveries:
            learn(body, question, work, version.contract)
        return request, work, version

    def _no_message(self) -> Fault:
        if not self._context.is_active():
            return Cancelled("the caller left")
        return BadRequest("the call brought no message")

    def _enter(self, model: str) -> None:
        self._caller.permit(Right.INFER, model)
        self._desk.enter(model)
        self._model = model

    def _times(self) -> tuple[float, float]:
        now = time.monotonic()
        return now, now + min(self._desk.default_timeout, self._context.time_remaining())

    def _decode(self, body: bytes) -> wire.Question:
        request_id = self._request_id or new_id()
        return wire.decode_request(body, *self._times(), request_id, self._desk.plane.regions)

    def _label(self, message_id: str) -> None:
        """One id for the answer and for the logs: the message's own, where it is fit for both."""
        if not self._request_id:
            self._request_id = message_id if valid_request_id(message_id) else new_id()

    def _deliver(self, deliveries: Deliveries, result: InferenceResponse | Fault) -> None:
        self._settle(result if isinstance(result, Fault) else delivered_or_fault(result, deliveries))

    def _settle(self, result: InferenceResponse | Fault) -> None:
        if self.settled:
            return
        self.settled = True
        desk = self._desk
        self._body = self._question = self._ticket = None
        desk.slots.release()
        if self._model is not None:
            desk.leave(self._model)
        began = time.perf_counter()
        self._answer(result)
        if (admission := self._admission) is not None:
            admission.encode = time.perf_counter() - began
            admission.request_id = self._request_id
            admission.finish(result.code if isinstance(result, Fault) else "OK")

    def _answer(self, result: InferenceResponse | Fault) -> None:
        """Send the result; the peer has some time to read it."""
        desk = self._desk
        end, self._finish = self._finish, None
        desk.patience.start(self._context, TENSOR_SECONDS)
        if self._over:
            desk.patience.stop(self._context)
        elif end is not None:
            if not self._request_id:
                self._request_id = new_id()
            desk.replies.send(self._context, end, result, self._request_id, self._raw)
