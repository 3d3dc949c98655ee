"""One infer request whose head is known, from its packet to its answer."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from oipserver.core.admission import ANONYMOUS, Caller, Guard, Right
from oipserver.core.errors import Fault
from oipserver.core.ids import new_id
from oipserver.core.memory import Memory
from oipserver.http.access import identify
from oipserver.http.door import Answer, Head, ok_answer
from oipserver.http.errors import error_response
from oipserver.http.likeness import Likeness, likeness
from oipserver.http.turn import Connection, Turn
from oipserver.http.wire import Body

if TYPE_CHECKING:
    from oipserver.http.party import Party

logger = logging.getLogger("oipserver.http")

Target: TypeAlias = tuple[str, str | None]


@dataclass(slots=True, eq=False)
class KnownHead:
    """What a head of an infer request says, once it was parsed and checked.

    Attributes:
        text: the head itself.
        body_length: bytes behind it.
        packet_length: of both together.
        target: model and version.
        plain: they are JSON, and no more of it than is read.
        caller: who sends it and may ask the model, as far as was known at `generation`; None for nobody.
    """

    text: bytes
    body_length: int
    head: Head
    target: Target
    plain: bool
    caller: Caller | None = ANONYMOUS
    generation: int = 0
    packet_length: int = field(init=False)

    def __post_init__(self) -> None:
        self.packet_length = len(self.text) + self.body_length

    def asked_by(self, guard: Guard) -> Caller | None:
        """Who sends it and may ask the model; None where the door for one has to say what is wrong."""
        if self.generation != guard.generation:
            self.generation = guard.generation
            try:
                self.caller = identify(guard, self.head.headers)
                self.caller.permit(Right.INFER, self.target[0])
            except Fault:
                self.caller = None
        return self.caller


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
        body_id, numbers: of its body, where that is like others; from `take_names` on, the answer's id.
        request_id: the one in the answer's headers; `header_id` its bytes.
    """

    __slots__ = (
        "arrived",
        "body",
        "body_id",
        "header_id",
        "known",
        "numbers",
        "party",
        "request_id",
    )

    connection: Platform
    numbers: bytes
    body_id: bytes
    header_id: bytes
    request_id: str

    def __init__(self, connection: Platform, known: KnownHead, body: bytes) -> None:
        self.connection = connection
        self.known = known
        self.body = body
        self.arrived = time.perf_counter()
        self.party: Party | None = None
        self.response_started = self.response_complete = self.disconnected = self.over = False
        self.keep_alive = True
        self.more_body = False

    @property
    def begun(self) -> bool:
        """Whether a party has taken it, which sees to its answer."""
        return hasattr(self, "request_id")

    def boards(self, like: Likeness) -> bool:
        """Whether its body is written like others; its id and its numbers are taken out of it then."""
        parts = like.parts(self.body)
        if parts is None:
            return False
        self.body_id, self.numbers = parts
        return True

    def likeness(self, memory: Memory[Any]) -> Likeness | None:
        """How its body is written, if it may go together with others like it."""
        try:
            return likeness(self.body, memory)
        except Exception:
            logger.exception("a request could not be recognized")
            return None

    def take_names(self) -> None:
        """Ids as the other door gives them: each of body and header takes the other's where it has none."""
        from_head, from_body = self.known.head.request_id, self.body_id
        if from_head:
            self.request_id, self.header_id = from_head, from_head.encode()
        elif from_body:
            self.request_id, self.header_id = from_body.decode(), from_body
        else:
            self.request_id = new = new_id()
            self.header_id = new.encode()
        self.body_id = from_body or self.header_id

    def cancel(self) -> None:
        """The caller has left."""
        if self.party is not None:
            self.party.drop(self)

    def answer(self, body: Body, timing: bytes) -> Answer:
        """A good answer."""
        return ok_answer(body, self.request_id, self.known.head.accept_encoding, timing)

    def refused(self, fault: Fault) -> Answer:
        """The answer that says what was wrong."""
        return Answer(*error_response(fault, self.request_id))
