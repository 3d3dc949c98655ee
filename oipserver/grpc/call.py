"""One inference on the event loop.

Rule: it is settled once, by what comes first: answer, refusal, or the end of the RPC.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

from oipserver.core.admission import Admission
from oipserver.core.dataplane import DataPlane
from oipserver.core.errors import Cancelled, Fault, InternalError, Overloaded, printable
from oipserver.core.messages import InferenceRequest, InferenceResponse
from oipserver.core.scheduler import Ticket

log = logging.getLogger(__name__)

Answer: TypeAlias = Callable[[InferenceResponse | Fault], None]


class Desk:
    """Where the calls of one server are run; loop-only, but for `slots`.

    Attributes:
        slots: one for each call inside, from before its message is read until it is settled.

    Args:
        max_calls: how many may be inside; one model may have 7/8 of them, so that a slow one leaves room
            for the others.
    """

    def __init__(self, plane: DataPlane, max_calls: int) -> None:
        self.plane = plane
        self.slots = threading.BoundedSemaphore(max_calls)
        self._share = max(1, max_calls * 7 // 8)
        self._inside: Counter[str] = Counter()

    def enter(self, model: str) -> None:
        """Count one call in; Overloaded when the model has its share."""
        if self._inside[model] >= self._share:
            raise Overloaded(f"model '{printable(model)}' has {self._share} gRPC calls inside already")
        self._inside[model] += 1

    def leave(self, model: str) -> None:
        """Count one call out; nothing is kept of names that are not in use."""
        self._inside[model] -= 1
        if not self._inside[model]:
            del self._inside[model]

    def account(self, fault: Fault) -> None:
        """Report a request that was refused before it came here."""
        try:
            self.plane.gate.admit("grpc").finish(fault.code)
        except Fault:
            return


class Call:
    """A request on its way through the data plane.

    It lives until the RPC is over, which may be long after the answer, so it lets go of everything then.

    Args:
        question: the request, or what was wrong with it.
        answer: called once, unless the caller leaves first.
    """

    __slots__ = ("_admission", "_answer", "_desk", "_model", "_question", "_ticket", "settled")

    def __init__(self, desk: Desk, question: InferenceRequest | Fault, answer: Answer) -> None:
        self.settled = False
        self._desk = desk
        self._question: InferenceRequest | Fault | None = question
        self._answer: Answer | None = answer
        self._admission: Admission | None = None
        self._ticket: Ticket | None = None
        self._model: str | None = None

    def start(self) -> None:
        """Hand the request to the data plane."""
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
            self._answer = None
            self._settle(Cancelled("the caller left"))

    def _submit(self) -> None:
        self._admission = self._desk.plane.gate.admit("grpc")
        question = self._question
        if not isinstance(question, InferenceRequest):
            raise question or InternalError("a call was started twice")
        self._desk.enter(question.model_name)
        self._model = question.model_name
        self._ticket = self._desk.plane.submit(question, self._settle, self._admission)

    def _settle(self, result: InferenceResponse | Fault) -> None:
        if self.settled:
            return
        self.settled = True
        answer, self._answer = self._answer, None
        self._question = self._ticket = None
        self._desk.slots.release()
        if self._model is not None:
            self._desk.leave(self._model)
        if self._admission is not None:
            self._admission.finish(result.code if isinstance(result, Fault) else "OK")
        if answer is not None:
            answer(result)
