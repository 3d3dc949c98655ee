"""The infer door inside the protocol class: from the parser to the data plane and back, without ASGI.

uvicorn's cycle, its task, its event and two messages cost more than everything else that an infer request
needs.  A plain `POST /v2/models/{model}[/versions/{version}]/infer` goes past them; whatever is out of the
ordinary (an encoded body, Expect, an escaped path, a query) takes the ASGI door, to the same answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar, TypeAlias

from oipserver.core.errors import Fault
from oipserver.core.memory import Memory
from oipserver.http.cycle import Cycle
from oipserver.http.door import Answer, Exchange, Head, compressed, parse_infer_path, read_head
from oipserver.http.express import Express
from oipserver.http.framing import Framing
from oipserver.http.limits import Connections
from oipserver.http.passenger import KnownHead, Passenger
from oipserver.http.protocol import LimitedProtocol, Phase
from oipserver.http.turn import Connection, Turn

OpenExchange: TypeAlias = Callable[[Head], Exchange]

# Heads kept, and bytes of one; a head with an id of its own is never seen again.
MAX_HEADS = 512
MAX_HEAD = 2048
# Bytes of a piece of a body that is kept as it came.
_LARGE_PIECE = 4096
_ELSEWHERE = frozenset((b"content-encoding", b"expect", b"idempotency-key", b"upgrade"))


@lru_cache(maxsize=1024)
def _target(url: bytes) -> tuple[str, str | None] | None:
    """Model and version of a plain infer URL; None for everything that needs a closer look."""
    if not url.endswith(b"/infer") or b"%" in url or b"?" in url or b"#" in url:
        return None
    return parse_infer_path(url.decode("latin-1"))


class DirectCycle(Turn):
    """One infer request as it is read, from its head on."""

    __slots__ = ("_exchange", "_pieces", "_size", "target")

    connection: DirectProtocol

    def __init__(
        self,
        connection: DirectProtocol,
        exchange: Exchange,
        target: tuple[str, str | None],
        keep_alive: bool,
        body: bytes | None = None,
    ) -> None:
        super().__init__(connection, keep_alive, more_body=body is None)
        self._exchange = exchange
        self.target = target
        # What has come of the body; None when no more of it is wanted.
        self._pieces: list[bytes | bytearray] | None = [body] if body else []
        self._size = 0

    def begin(self) -> None:
        """Its turn in the connection has come; the body may be on its way, or here."""
        if self.over:
            return
        exchange = self._exchange
        refusal = exchange.try_admit(*self.target)
        if refusal is not None:
            self._pieces = None
            self.reply(refusal)
        elif self._pieces is None:
            self._refuse_size()
        elif not self.more_body:
            exchange.infer(self._whole(), self.reply)

    def feed(self, chunk: bytes) -> None:
        """A piece of the body; one too many is answered at once."""
        pieces = self._pieces
        if pieces is None or self.over:
            return
        exchange = self._exchange
        self._size += len(chunk)
        if self._size > exchange.body_limit:
            self._pieces = None
            if exchange.admitted:
                self._refuse_size()
        else:
            _add(pieces, chunk)

    def end(self) -> None:
        """The body is whole."""
        if not self.over and self._exchange.admitted and self._pieces is not None:
            self._exchange.infer(self._whole(), self.reply)

    def cancel(self) -> None:
        """The caller has left."""
        self._pieces = None
        self._exchange.cancel()

    def _write(self, connection: Connection, answer: Answer) -> None:
        super()._write(connection, answer)
        del self._exchange  # its tensors and its model may go while the connection stays
        self.connection.shared.express.look_out()

    def _refuse_size(self) -> None:
        self.reply(self._exchange.refused(self._exchange.too_large()))

    def _whole(self) -> bytes:
        """The body, which is not kept any longer."""
        pieces, self._pieces = self._pieces, None
        return b"".join(pieces or ())


def _add(pieces: list[bytes | bytearray], chunk: bytes) -> None:
    """Large pieces are copied once, when all are there; small ones melt, or each would cost an object."""
    if not pieces or len(chunk) >= _LARGE_PIECE:
        pieces.append(chunk)
    elif isinstance(last := pieces[-1], bytearray):
        last += chunk
    else:
        pieces.append(bytearray(chunk))


@dataclass(slots=True, kw_only=True)
class InferConnections(Connections):
    """What all connections of a server share, with its infer door.

    Attributes:
        open_exchange: makes an `Exchange` for a request.
        express: takes those whose head is known.
        good_head: of a good JSON answer, up to its request id.
        heads: what their callers send again and again.
    """

    open_exchange: OpenExchange
    express: Express
    good_head: bytes = b""
    heads: Memory[KnownHead] = field(default_factory=lambda: Memory(MAX_HEADS))


class DirectProtocol(LimitedProtocol):
    """One connection, with a short way for infer.  Bind it with `limited_protocol` before use."""

    shared: ClassVar[InferConnections]

    @property
    def good_head(self) -> bytes:
        """The head of a good JSON answer up to its request id."""
        return self.shared.good_head

    when_writable: Callable[[], None] | None = None
    _compressing: asyncio.Task[Answer] | None = None
    _begun_after = 0
    _known: KnownHead | None = None  # of the last packet
    _last_frame: Framing | None = None
    _last_head: Head | None = None

    def resume_writing(self) -> None:
        """The peer has caught up: an answer that waited for it goes out."""
        super().resume_writing()
        waiting, self.when_writable = self.when_writable, None
        if waiting is not None:
            waiting()

    def data_received(self, data: bytes) -> None:
        """Parse; but a packet that is a known head and its body needs no parser.

        The parser, which stands between two messages, would say what it said of the same bytes before.
        """
        if self._quiet:
            known = self._known
            if known is None or len(data) != known.packet_length or not data.startswith(known.text):
                known = self._known = self._recall(data)
            if known is not None:
                self._quiet = False
                self.patience.received += len(data)
                passenger = Passenger(self, known, data[len(known.text) :])
                self._running = self.cycle = passenger  # type: ignore[assignment]  # taken for one of uvicorn's
                self.shared.express.add(passenger, alone=len(self.connections) == 1)
                return
        LimitedProtocol.data_received(self, data)

    def _recall(self, data: bytes) -> KnownHead | None:
        """The head of a packet, if it is known and has its body behind it."""
        end = data.find(b"\r\n\r\n") + 4
        known = self.shared.heads.get(data[:end] + self._peer_subject)
        return known if known is not None and len(data) == known.packet_length else None

    def _feed(self, data: bytes | memoryview) -> None:
        """Parse, and remember the head of a request that came whole and alone."""
        before, fresh = self.cycle, self._phase is Phase.BETWEEN and not self._fruitless
        super()._feed(data)
        if fresh and self.cycle is not before and type(data) is bytes:
            self._remember(data, data.find(b"\r\n\r\n") + 4)

    def ride_alone(self, passenger: Passenger) -> None:
        """Answer a request with a known head by itself."""
        known = passenger.known
        exchange = self.shared.open_exchange(known.head)
        cycle = DirectCycle(self, exchange, known.target, keep_alive=True, body=passenger.body)
        if self.cycle is passenger:  # type: ignore[comparison-overlap]  # nothing has come behind it
            self.cycle = cycle  # type: ignore[assignment]  # taken for one of uvicorn's
        self._running = cycle  # type: ignore[assignment]
        cycle.begin()

    def _remember(self, data: bytes, end: int) -> None:
        """Keep the head of an infer request that came whole, alone and in one packet."""
        cycle, frame, head = self.cycle, self._framing, self._last_head
        if (
            isinstance(cycle, DirectCycle)
            and self._phase is Phase.BETWEEN
            and head is not None
            and cycle.keep_alive
            and frame.body_length == len(data) - end
            and end <= MAX_HEAD
            and self.shared.heads.wants_more()
        ):
            plain = head.header_length is None and not head.content_type.startswith("multipart/")
            known = KnownHead(data[:end], frame.body_length, head, cycle.target, plain)
            # Behind the head: in front of it, a client without a certificate could send a name itself.
            self.shared.heads.add(known.text + self._peer_subject, known)

    def on_body(self, body: bytes) -> None:
        """A piece of the body, for whoever reads it."""
        cycle = self.cycle
        if isinstance(cycle, DirectCycle):
            self._count_body(body)
            cycle.feed(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        cycle = self.cycle
        LimitedProtocol.on_message_complete(self)  # `super()` costs a little, with every request
        if isinstance(cycle, DirectCycle):
            cycle.end()

    def compress(self, turn: Turn, answer: Answer) -> None:
        """Compress an answer and write it then, on a thread where it is large."""
        self._compressing = self.loop.create_task(compressed(answer))
        self._compressing.add_done_callback(lambda done: self._compressed(turn, done))

    def _compressed(self, turn: Turn, done: asyncio.Task[Answer]) -> None:
        self._compressing = None
        if not done.cancelled():
            turn.reply(done.result())

    def _new_cycle(self, frame: Framing) -> Cycle:
        target = _target(self.url) if self.parser.get_method() == b"POST" else None
        head = self._plain_head(frame) if target is not None else None
        if target is None or head is None:
            return super()._new_cycle(frame)
        keep_alive = frame.version != "1.0" and self.parser.should_keep_alive()
        exchange = self.shared.open_exchange(head)
        return DirectCycle(self, exchange, target, keep_alive)  # type: ignore[return-value]  # taken for one

    def _plain_head(self, frame: Framing) -> Head | None:
        """The head of a request that this door can answer; read once for equal headers."""
        if frame is not self._last_frame:
            self._last_frame = frame
            plain = all(name not in _ELSEWHERE for name, _ in frame.headers)
            self._last_head = read_head(frame.headers) if plain else None
        return self._last_head

    def _begin(self, cycle: Cycle) -> None:
        if self.outlet.is_closing():  # the request before it, in the same packet, had the last answer
            self.flow.release()
        elif not isinstance(cycle, DirectCycle):
            super()._begin(cycle)
        else:
            self._running = cycle
            if self._begun_after != self.patience.received:
                self._begun_after = self.patience.received
                cycle.begin()
            else:  # one per packet at once: a packet full of refused requests would hold up everybody else
                self.loop.call_soon(cycle.begin)

    def _refuse(self, fault: Fault) -> None:
        # Nothing is said after the last answer, which may have gone out while its packet was parsed.
        if not self.outlet.is_closing():
            super()._refuse(fault)
