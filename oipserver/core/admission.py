"""Who asks, and who is inside: every infer request is admitted once, before its body is read, and ends once.

Who may do what is decided by the `Guard`; the one here lets everybody do everything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from oipserver.core.errors import NotReady
from oipserver.core.model_config import ModelConfig
from oipserver.core.observer import Ended, Observer, Phases


class Right(Enum):
    """What a call needs of its caller.

    Attributes:
        INFER: to ask a model, or a route or service of the user's own.
        DESCRIBE: to see what one model is and whether it is ready.
        READ: to see the server: its models, statistics, documents.
        ADMIN: to change what it serves.
    """

    INFER = auto()
    DESCRIBE = auto()
    READ = auto()
    ADMIN = auto()


class Need(NamedTuple):
    """What a route or a call needs of its caller.

    Attributes:
        right: None: that of any known caller.
        part: of the server; configured as open, it needs no caller at all.
    """

    right: Right | None
    part: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """Who asks; this one may do everything, as often as it likes.

    Attributes:
        name: of its key, for logs and for fair sharing; "" for anybody.
    """

    name: str = ""

    def may(self, right: Right, target: str = "") -> bool:
        """Whether it has the right; `target` is a model's name, or the path of a user's own route."""
        return True

    def permit(self, right: Right, target: str = "") -> None:
        """As `may`.

        Raises:
            Forbidden: it has not.
        """

    def take(self) -> None:
        """Count one request; on the loop.

        Raises:
            RateLimited: it has asked too often, or for too many rows.
        """

    def try_take(self, requests: int, rows: int) -> int:
        """Count so many requests with so many rows each, up to the one where `take` would raise.

        Returns:
            How many were counted.
        """
        return requests

    def spend(self, rows: int) -> None:
        """Count the rows of a request that was taken; what is too much delays the next ones."""


ANONYMOUS = Caller()


class Guard:
    """Tells callers apart; this one takes everybody for `ANONYMOUS`.

    Attributes:
        enabled: callers need a key, so there is something to ask; it never changes.
        generation: grows when the keys change: what was found out about a caller is to be asked again.
        header: the lower-case name of the header (or metadata) that may carry a key besides `authorization`.
        open: what needs no key: "health", "metrics", "docs".
    """

    enabled = False
    generation = 0
    header = "x-api-key"
    open: frozenset[str] = frozenset()

    def identify(
        self, authorization: Sequence[str], keys: Sequence[str], subject: Callable[[], str]
    ) -> Caller:
        """Who asks.  Any thread may call.

        Args:
            authorization: every value of the header of that name.
            keys: every value of the header `header`.
            subject: finds that of the certificate that the peer has proved to own; "" without.

        Raises:
            Unauthorized: nobody that is known.
        """
        return ANONYMOUS


OPEN = Guard()


class Admission:
    """One infer request inside the server.

    Attributes:
        caller: who asks.
        idempotency: the caller's key for this very request; "" without.
        model, version: empty until `of`, so that no client text ever becomes a metric label.
        route, request_id, trace, size: for `Ended`; the front sets them as it learns of them.
        rows, phases: for `Ended`; the data plane sets them.
        decode, encode: seconds; the front measures them.
    """

    __slots__ = (
        "_front",
        "_gate",
        "_started",
        "caller",
        "decode",
        "encode",
        "idempotency",
        "model",
        "phases",
        "request_id",
        "route",
        "rows",
        "size",
        "trace",
        "version",
    )

    def __init__(self, gate: Gate, front: str, caller: Caller = ANONYMOUS) -> None:
        self.caller = caller
        self.idempotency = ""
        self.model = ""
        self.version = ""
        self._front = front
        self._gate: Gate | None = gate
        self.route = self.request_id = self.trace = ""
        self.rows = self.size = 0
        self.decode = self.encode = 0.0
        self.phases: Phases | None = None
        self._started = time.perf_counter()

    def of(self, config: ModelConfig) -> None:
        """The request is for a known model."""
        self.model = config.name
        self.version = config.version

    def brings(self, rows: int) -> None:
        """Its tensors are checked, and have so many rows; its caller pays for them once."""
        if not self.rows:
            self.caller.spend(rows)
        self.rows = rows

    def finish(self, code: str) -> None:
        """The answer is out, with "OK" or a fault's code; later calls do nothing."""
        gate, self._gate = self._gate, None
        if gate is not None:
            seconds = time.perf_counter() - self._started
            gate.report(self._ended(code, seconds))

    def _ended(self, code: str, seconds: float) -> Ended:
        phases, caller = self.phases, self.caller.name
        if phases is not None:
            phases.decode, phases.encode = self.decode, self.encode
        return Ended(
            self._front,
            self.route,
            self.model,
            self.version,
            code,
            (seconds,),
            (self.request_id,),
            (caller,) if caller else (),
            phases,
            self.rows,
            (self.size,),
            (self.trace,) if self.trace else (),
        )


class Gate:
    """Counts the requests inside and refuses new ones while draining.

    Loop-only, but for `draining`: a plain bool that any thread may read.

    Attributes:
        stopping: the end has begun: not ready any more, but requests are still taken (lame duck).
        draining: new requests are refused.
        guard: tells callers apart.
    """

    def __init__(self, observer: Observer, guard: Guard = OPEN) -> None:
        self.guard = guard
        self.stopping = False
        self.draining = False
        self.in_flight = 0
        self._observer = observer
        self._by_http = 0
        self._empty = asyncio.Event()

    def by_http(self) -> int:
        """How many requests by HTTP are over; whoever shares the loop with them looks whether it grows."""
        return self._by_http

    def admit(self, front: str, on_behalf: bool = False, caller: Caller = ANONYMOUS) -> Admission:
        """Let one request in.

        Args:
            caller: who asks.
            on_behalf: it comes from one that is inside already, which the drain waits for.

        Raises:
            NotReady: the server is draining.
        """
        if self.draining and not on_behalf:
            raise NotReady("the server is shutting down")
        self.in_flight += 1
        return Admission(self, front, caller)

    def admit_together(self, requests: int) -> None:
        """Let so many in, of which somebody else keeps account; each must be in one `report`.

        Raises:
            NotReady: the server is draining.
        """
        if self.draining:
            raise NotReady("the server is shutting down")
        self.in_flight += requests

    def report(self, ended: Ended) -> None:
        """Requests that ended alike have left."""
        over = len(ended.seconds)
        self.in_flight -= over
        if ended.front == "http":
            self._by_http += over
        self._observer.requests(ended)
        if self.draining and not self.in_flight:
            self._empty.set()

    def control(self, ended: Ended) -> None:
        """A request is over that asked for no inference, and was not counted."""
        self._observer.control(ended)

    async def drain(self) -> None:
        """Refuse new requests and wait until the last one inside has left."""
        self.stopping = self.draining = True
        if self.in_flight:
            await self._empty.wait()
