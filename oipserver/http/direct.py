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

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from oipserver.core.errors import Fault
from oipserver.core.memory import Memory
from oipserver.http.cycle import Cycle
from oipserver.http.door import Answer, Exchange, Head, compressed, parse_infer_path, read_head
from oipserver.http.errors import Headers
from oipserver.http.framing import Framing
from oipserver.http.limits import Connections
from oipserver.http.protocol import LimitedProtocol, Phase

OpenExchange: TypeAlias = Callable[[Head], Exchange]

# Heads kept, and bytes of one; a head with an id of its own is never seen again.
MAX_HEADS = 512
MAX_HEAD = 2048
_ELSEWHERE = frozenset((b"content-encoding", b"expect", b"upgrade"))


@lru_cache(maxsize=1024)
def _target(url: bytes) -> tuple[str, str | None] | None:
    """Model and version of a plain infer URL; None for everything that needs a closer look."""
    if not url.endswith(b"/infer") or b"%" in url or b"?" in url or b"#" in url:
        return None
    return parse_infer_path(url.decode("latin-1"))


class _Nobody:
    """In place of the event on which no application waits."""

    def set(self) -> None:
        return


class DirectCycle:
    """One infer request in its connection.  uvicorn's protocol class takes it for one of its cycles."""

    __slots__ = (
        "_body",
        "_exchange",
        "_protocol",
        "disconnected",
        "keep_alive",
        "more_body",
        "response_complete",
        "response_started",
        "target",
    )

    message_event: ClassVar[_Nobody] = _Nobody()

    def __init__(
        self,
        protocol: DirectProtocol,
        exchange: Exchange,
        target: tuple[str, str | None],
        keep_alive: bool,
        body: bytes | None = None,
    ) -> None:
        self.keep_alive = keep_alive
        self.more_body = body is None
        self.disconnected = False
        self.response_started = False
        self.response_complete = False
        self._protocol = protocol
        self._exchange: Exchange | None = exchange
        self.target = target
        self._body: bytes | bytearray | None = body or b""  # None when no more of it is wanted

    def begin(self) -> None:
        """Its turn in the connection has come; the body may be on its way, or here."""
        exchange = self._exchange
        if exchange is None:
            return
        refusal = exchange.try_admit(*self.target)
        if refusal is not None:
            self._body = None
            self.reply(refusal)
        elif self._body is None:
            self._refuse_size(exchange)
        elif not self.more_body:
            exchange.infer(self._whole(), self.reply)

    def feed(self, chunk: bytes) -> None:
        """A piece of the body; one too many is answered at once."""
        body, exchange = self._body, self._exchange
        if body is None or exchange is None:
            return
        if len(body) + len(chunk) > exchange.body_limit:
            self._body = None
            if exchange.admitted:
                self._refuse_size(exchange)
        elif not body:
            self._body = chunk
        elif isinstance(body, bytearray):
            body += chunk
        else:
            self._body = bytearray(body) + chunk

    def end(self) -> None:
        """The body is whole."""
        exchange = self._exchange
        if exchange is not None and exchange.admitted and self._body is not None:
            exchange.infer(self._whole(), self.reply)

    def lose(self) -> None:
        """The caller has left, or is not listened to any more."""
        exchange, self._exchange = self._exchange, None
        self._body = None
        self._protocol.when_writable = None
        if exchange is not None:
            self.disconnected = True
            exchange.cancel()

    def reply(self, answer: Answer) -> None:
        """Write the answer, when the peer reads."""
        protocol = self._protocol
        if answer.encoding is not None:
            protocol.compress(self, answer)
        elif protocol.flow.write_paused:
            protocol.when_writable = lambda: self.reply(answer)
        elif self._exchange is not None:
            self._exchange = None
            self._write(protocol, answer)

    def _refuse_size(self, exchange: Exchange) -> None:
        self.reply(exchange.refused(exchange.too_large()))

    def _whole(self) -> bytes:
        """The body, which is not kept any longer."""
        body, self._body = self._body, None
        return bytes(body or b"")

    def _write(self, protocol: DirectProtocol, answer: Answer) -> None:
        self.response_started = True
        keep_alive = self.keep_alive and not protocol.shared.closing
        if self.more_body and not protocol.rest_is_small():
            keep_alive = False
        protocol.outlet.write(_message(answer, protocol.server_state.default_headers, keep_alive))
        self.response_complete = True
        if not keep_alive:
            protocol.outlet.close()
        protocol.on_response_complete()


def _message(answer: Answer, defaults: Headers, keep_alive: bool) -> bytes:
    parts = [STATUS_LINE[answer.status]]
    for name, value in defaults:
        parts += (name, b": ", value, b"\r\n")
    for name, value in answer.headers:
        parts += (name, b": ", value, b"\r\n")
    if not keep_alive:
        parts.append(b"connection: close\r\n")
    parts += (b"content-length: %d\r\n\r\n" % len(answer.body), answer.body)
    return b"".join(parts)


@dataclass(slots=True)
class KnownHead:
    """What a head of an infer request says, once it was parsed and checked.

    Attributes:
        target: model and version.
        body_length: bytes behind the head.
    """

    head: Head
    target: tuple[str, str | None]
    body_length: int


@dataclass(slots=True, kw_only=True)
class InferConnections(Connections):
    """What all connections of a server share, with its infer door.

    Attributes:
        open_exchange: makes an `Exchange` for a request.
        heads: what their callers send again and again.
    """

    open_exchange: OpenExchange
    heads: Memory[KnownHead] = field(default_factory=lambda: Memory(MAX_HEADS))


class DirectProtocol(LimitedProtocol):
    """One connection, with a short way for infer.  Bind it with `limited_protocol` before use."""

    shared: ClassVar[InferConnections]

    when_writable: Callable[[], None] | None = None
    _compressing: asyncio.Task[Answer] | None = None
    _begun_after = 0
    _last_frame: Framing | None = None
    _last_head: Head | None = None

    def resume_writing(self) -> None:
        """The peer has caught up: an answer that waited for it goes out."""
        super().resume_writing()
        waiting, self.when_writable = self.when_writable, None
        if waiting is not None:
            waiting()

    def _feed(self, data: bytes | memoryview) -> None:
        """Parse; but a packet that is a known head and its body needs no parser.

        The parser, which stands between two messages, would say what it said of the same bytes before.
        """
        if type(data) is not bytes or self._phase is not Phase.BETWEEN or self._running or self._fruitless:
            super()._feed(data)
            return
        end = data.find(b"\r\n\r\n") + 4
        known = self.shared.heads.get(data[:end])
        if known is not None and len(data) - end == known.body_length:
            self._take(known, data[end:])
        else:
            before = self.cycle
            super()._feed(data)
            if self.cycle is not before:
                self._remember(data, end)

    def _take(self, known: KnownHead, body: bytes) -> None:
        exchange = self.shared.open_exchange(known.head)
        cycle = DirectCycle(self, exchange, known.target, keep_alive=True, body=body)
        self.cycle = cycle  # type: ignore[assignment]  # taken for one of uvicorn's
        self._begin(cycle)  # type: ignore[arg-type]

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
            self.shared.heads.add(data[:end], KnownHead(head, cycle.target, frame.body_length))

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

    def compress(self, cycle: DirectCycle, answer: Answer) -> None:
        """Compress an answer and write it then, on a thread where it is large."""
        self._compressing = self.loop.create_task(compressed(answer))
        self._compressing.add_done_callback(lambda done: self._compressed(cycle, done))

    def _compressed(self, cycle: DirectCycle, done: asyncio.Task[Answer]) -> None:
        self._compressing = None
        if not done.cancelled():
            cycle.reply(done.result())

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
