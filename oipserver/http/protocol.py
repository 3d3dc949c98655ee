"""HTTP/1.1 on a connection: uvicorn's httptools protocol, with limits where uvicorn has none.

Everything that is refused here is refused with the error body of every other route, in its turn among
pipelined answers, and nothing after it is read as a request.

What is relied upon in uvicorn 0.54, beyond public names (`tests/http/test_hooks.py` holds it to that):
- `HttpToolsProtocol`: the constructor's four arguments; `connection_made`, `connection_lost`,
  `data_received`, `on_*`, `pause_writing`, `resume_writing`, `shutdown`, `_start_asgi_task` are called as
  they are here; the attributes that its constructor and `on_message_begin` set.  Its keep-alive timer
  (`timeout_keep_alive`) and `limit_concurrency` are not used: `HttpLimits` says it here.
- `RequestResponseCycle`: its arguments; `transport` is only written to, closed and asked `is_closing`;
  a cycle that is `disconnected` writes nothing; `on_response` is called after the last byte was written.
- `FlowControl`: `read_paused`, `write_paused`, and the methods that change them.
- `server_state.default_headers` holds the cached Date; with `Config(server_header=False)` no Server.
- httptools keeps the exception of a callback as `__context__` of the error that `feed_data` raises.
"""

from __future__ import annotations

import asyncio
import logging
import urllib.parse
from enum import Enum, auto
from typing import Any, ClassVar, cast

import httptools
from uvicorn._types import HTTPScope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from oipserver.core.errors import (
    BadRequest,
    Fault,
    HeadersTooLarge,
    InternalError,
    Overloaded,
    RequestTimeout,
    UriTooLong,
    printable,
)
from oipserver.http.access import PEER_SUBJECT
from oipserver.http.alarm import Alarm
from oipserver.http.cycle import Cycle
from oipserver.http.errors import Headers, request_id_of
from oipserver.http.flow import Flow
from oipserver.http.framing import Framing, framing, lower
from oipserver.http.limits import Connections
from oipserver.http.outlet import Outlet
from oipserver.http.patience import Patience
from oipserver.http.refusal import ended, render, without_upgrade
from oipserver.tls import http_subject

__all__ = ["Connections", "LimitedProtocol", "limited_protocol"]

logger = logging.getLogger("oipserver.http")

# Bytes parsed at a time, so that one large read cannot put thousands of pipelined requests in line.
_PIECE = 8 * 1024
# Bytes that are read while requests stand in line; one read of the socket may bring more.
_READ_AHEAD = 64 * 1024
# Connections over the cap that may be told so at once; further ones are dropped without a word.
_OVER_CAP = 100


class Phase(Enum):
    """Where the parser is."""

    BETWEEN = auto()
    HEAD = auto()
    BODY = auto()


# Before Python 3.12 it takes long to look up the member of an enumeration, for what is done with each answer.
_BETWEEN = Phase.BETWEEN


class LimitedProtocol(HttpToolsProtocol):
    """One connection.  Bind it with `limited_protocol` before use."""

    shared: ClassVar[Connections]

    flow: Flow
    patience: Patience
    cycle: Cycle | None  # type: ignore[assignment]  # uvicorn says "never None" and starts with None
    outlet: Outlet

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # Whatever handlers its logger has: a target may hold what belongs in no log.
        self.access_log = False
        self._limits = self.shared.limits
        self._alarm = Alarm(self.loop, self._overdue)
        self._running: Cycle | None = None
        # Between two requests, with nothing left to be done: what comes next begins a request.
        self._quiet = False
        self._held = bytearray()
        self._refusal: bytes | None = None
        # The last head as it came, and what it said.
        self._came: tuple[str, Headers] | None = None
        self._framing: Framing
        # The request that is being read.
        self._phase = Phase.BETWEEN
        self._body_length: int | None = 0
        self._body_bytes = 0
        self._replay = False
        # Bytes in a row that were neither a whole head nor body.
        self._fruitless = 0
        self._idle_since = 0.0

    # --- the connection ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there; one too many is told so and sent away."""
        super().connection_made(transport)
        self.flow = Flow(transport, self.loop.time)
        self.patience = Patience(self.flow, self._limits)
        self.outlet = Outlet(self, transport, self.flow, self._alarm, self.shared)
        self._extensions = {"oipserver.connection": self.outlet}
        self._peer_subject = http_subject(transport).encode()
        over = len(self.connections) - self._limits.max_connections
        if over > _OVER_CAP:
            transport.abort()
        elif over > 0:
            self._refuse(Overloaded(f"the server has {self._limits.max_connections} connections, its limit"))
        else:
            self._quiet = True
            self._idle_since = self.loop.time()
            self._set_alarm(self._limits.keep_alive_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: every request of this connection that is not answered is lost."""
        self._alarm.stop()
        if self._running is not None:
            self._running.lose()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server stops: close at once when idle, else after the answer."""
        if self.outlet.lingering:
            self.outlet.end()
        elif self.cycle is None or self.cycle.response_complete:
            self.outlet.end()
            self._set_alarm(self._limits.linger_timeout)
        else:
            self.cycle.keep_alive = False

    def pause_writing(self) -> None:
        """The peer reads more slowly than we write: watch it."""
        super().pause_writing()
        self.outlet.watch()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        super().resume_writing()
        self.outlet.go_on()
        self._idle_since = self.loop.time()
        self._set_alarm(0)

    def data_received(self, data: bytes) -> None:
        """Parse, unless this connection has had its last request."""
        if self._refusal is not None or self.outlet.lingering:
            self.outlet.drop(len(data))
            return
        self._quiet = False
        self.patience.received += len(data)
        if self.pipeline or self._held:
            self._held += data
        elif len(data) <= _PIECE:
            self._feed(data)
        else:
            self._feed_pieces(memoryview(data))
        if self._phase is not Phase.BETWEEN:
            self._keep_time()
        if self.flow.read_paused:
            self._read_ahead()

    # --- reading -------------------------------------------------------------------------------------------

    def _feed_pieces(self, data: memoryview) -> None:
        start = 0
        while start < len(data) and not self._is_deaf():
            if self.pipeline:
                self._held += data[start:]
                return
            end = start + max(_PIECE, self._body_left())
            self._feed(data[start:end])
            start = end

    def _body_left(self) -> int:
        """Bytes of the body that are still to come, and can hold no other request; 0 where nobody knows."""
        if self._phase is not Phase.BODY or self._body_length is None:
            return 0
        return self._body_length - self._body_bytes

    def _feed(self, data: bytes | memoryview) -> None:
        self._fruitless += len(data)  # and back to 0 in the callbacks
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(bytes(data[upgrade.args[0] :]))
        except httptools.HttpParserError as error:
            self._refuse(_fault_of(error))
        else:
            if self._fruitless > self._limits.max_header_bytes:
                self._refuse(HeadersTooLarge(f"headers: more than {self._limits.max_header_bytes} bytes"))

    def on_message_begin(self) -> None:
        """A request line begins."""
        self.url = b""
        self.headers = []
        self._phase = Phase.HEAD
        self._body_bytes = 0
        self.patience.due = None

    def on_url(self, url: bytes) -> None:
        """The request target, or a part of it."""
        self.url += url
        if len(self.url) > self._limits.max_url_bytes:
            raise UriTooLong(f"request target: more than {self._limits.max_url_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header line; RFC 9110, 6.5.1: a trailer must not be merged into the headers, so it is dropped."""
        if self._phase is Phase.HEAD:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole: start the application, or get in line."""
        self._check_head_size()
        self._fruitless = 0
        frame = self._read_framing()
        self._body_length = frame.body_length
        if self.parser.should_upgrade():
            self._replay = True
            return
        self.cycle = cycle = self._new_cycle(frame)
        self._phase = Phase.BODY
        self.patience.due = None
        if frame.awaits_continue:
            # The client waits until somebody wants the body, and no clock may run meanwhile.
            self.flow.pause_reading()
        if self._running is None:
            self._begin(cycle)
        else:
            self.pipeline.appendleft((cycle, self.app))
            self.flow.hold()

    def _read_framing(self) -> Framing:
        """A client sends the same headers again and again: to compare them is cheaper than to read them."""
        came = self.parser.get_http_version(), self.headers
        if came != self._came:
            self._framing = framing(*came)
            if self._peer_subject:
                self._framing.headers.append((PEER_SUBJECT, self._peer_subject))
            self._came = came
        self.headers = self._framing.headers
        return self._framing

    def _check_head_size(self) -> None:
        limits = self._limits
        if len(self.headers) > limits.max_headers:
            raise HeadersTooLarge(f"headers: more than {limits.max_headers} lines")
        # No head is larger than what was read since the last fruit, plus the piece in which it began.
        if self._fruitless + _PIECE > limits.max_header_bytes:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > limits.max_header_bytes:
                raise HeadersTooLarge(f"headers: more than {limits.max_header_bytes} bytes")

    def on_body(self, body: bytes) -> None:
        """A piece of the body; dropped when nobody wants it any more."""
        self._count_body(body)
        super().on_body(body)

    def _count_body(self, body: bytes) -> None:
        self._fruitless = 0
        self._body_bytes += len(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._replay:
            return
        self._fruitless = 0
        self._phase = Phase.BETWEEN
        super().on_message_complete()
        if self._running is None:  # it was a rest that nobody wanted
            self._idle_since = self.loop.time()

    def _new_scope(self, version: str) -> HTTPScope:
        try:
            url = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError as error:
            text = printable(self.url.decode("latin-1"))
            raise BadRequest(f"request target: expected a path or a URL, got '{text}'") from error
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "method": self.parser.get_method().decode("ascii"),
            "root_path": self.root_path,
            "path": self.root_path + (urllib.parse.unquote(path) if "%" in path else path),
            "raw_path": self.root_path.encode("ascii") + raw_path,
            "query_string": url.query or b"",
            "headers": list(self.headers),
            "state": self.app_state.copy(),
            "extensions": self._extensions,  # type: ignore[typeddict-item]  # uvicorn expects plain data
        }

    def _new_cycle(self, frame: Framing) -> Cycle:
        return Cycle(
            scope=self._new_scope(frame.version),
            transport=self.outlet,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=frame.awaits_continue,
            keep_alive=frame.version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )

    def _ignore_upgrade(self, rest: bytes) -> None:
        """RFC 9110, 7.8: a server may ignore Upgrade; we do, as Java's clients ask for h2c in every POST.

        httptools takes such a request for one without a body, so that its body would be run as the next
        request.  The head is parsed again, without the headers that ask.
        """
        method = self.parser.get_method()
        if not self._replay or method == b"CONNECT":
            self._refuse(BadRequest(f"method {method.decode('ascii')} with an upgrade is not served here"))
            return
        parser = self.parser
        head = without_upgrade(
            method, self.url, parser.get_http_version(), self.headers, parser.should_keep_alive()
        )
        self._replay = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(head)
        if rest and not self._is_deaf():
            self._feed(rest)

    # --- answering -----------------------------------------------------------------------------------------

    def _begin(self, cycle: Cycle) -> None:
        self._running = cycle
        self.outlet.on_lost = None
        self._start_asgi_task(cycle, self.app)

    def on_response_complete(self) -> None:
        """An answer was written: the next in line, or the refusal at its end, or wait for a request."""
        self._running = None
        self._idle_since = self.loop.time()
        if self.outlet.lingering or self.transport.is_closing():
            self.pipeline.clear()
        elif self.pipeline:
            self._begin(cast(Cycle, self.pipeline.pop()[0]))
            self._listen()
        elif self._refusal is not None:
            self._hang_up(self._refusal)
        elif self._held or self.flow.read_paused or self._phase is not _BETWEEN:
            if self._phase is not _BETWEEN:
                self._set_alarm(0)  # its clock may have been started behind that of an idle connection
            if self._held or self.flow.read_paused:
                self._listen()
        else:
            self._quiet = True

    def _listen(self) -> None:
        """Nothing waits in line any more: take what was held, then read on."""
        if self.pipeline or self._refusal is not None:
            pass
        elif self._held:
            self.loop.call_soon(self._feed_held)
        else:
            self.flow.release()
        if self.flow.read_paused:
            self._read_ahead()

    def _read_ahead(self) -> None:
        """Requests stand in line, and nobody is listened to; but a caller who leaves must be noticed.

        So a little more is read, and kept.  The flow stays paused, for no clock may run meanwhile.
        """
        if (self.pipeline and len(self._held) < _READ_AHEAD) or self._refusal is not None:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def _feed_held(self) -> None:
        if self._is_deaf() or self.pipeline:
            return
        held, self._held = self._held, bytearray()
        self._feed_pieces(memoryview(held))
        if self._phase is not Phase.BETWEEN:
            self._keep_time()
        self._listen()

    def rest_is_small(self) -> bool:
        """Whether the body that is being read may be read to its end for the connection's sake."""
        length = self._body_length
        return length is not None and length - self._body_bytes <= self._limits.max_dropped_body

    def expects_more(self) -> bool:
        """Whether bytes of a request, or whole requests, may still be on their way or in line."""
        return (
            self._phase is not Phase.BETWEEN or bool(self.pipeline or self._held) or self._refusal is not None
        )

    def _refuse(self, fault: Fault) -> None:
        """Answer a request that the application never sees, or never sees whole, and hang up.

        The answer waits its turn behind those of earlier requests.  When the application had begun to
        answer already, there is nothing more to be said.
        """
        logger.debug("refused: %s", fault.message)
        broken = self.cycle if self._phase is Phase.BODY else None
        answer = b"" if broken is not None and broken.response_started else self._render(fault)
        if broken is not None:
            broken.lose()
            if self._running is not broken and self.pipeline:
                self.pipeline.popleft()
        if self._running in (None, broken):
            self._hang_up(answer)
        else:
            self._refusal = answer
            self.flow.hold()

    def _hang_up(self, answer: bytes) -> None:
        self._refusal = answer
        if answer:
            self.outlet.write(answer)
        self.outlet.close()

    def _render(self, fault: Fault) -> bytes:
        headers = [] if self._phase is Phase.BETWEEN else self.headers
        request_id = request_id_of(lower(headers))
        self.shared.report(ended(fault, request_id))
        return render(fault, request_id, self.server_state.default_headers)

    # --- time ----------------------------------------------------------------------------------------------

    def _is_deaf(self) -> bool:
        return self._refusal is not None or self.outlet.is_closing()

    def _set_alarm(self, seconds: float) -> None:
        self._alarm.set(self.loop.time() + seconds)

    def _keep_time(self) -> None:
        if self.patience.due is None and not self._is_deaf():
            self._set_alarm(self.patience.begin(self._phase is Phase.HEAD))

    def _overdue(self) -> None:
        """The alarm rang: who is waited for?

        It is set on every open connection, to `keep_alive_timeout` if to nothing else; so an answer need
        not set it, but only note the time.
        """
        busy = self._running is not None and not self.flow.write_paused and not self.outlet.is_closing()
        if self.outlet.has_untaken() and not busy:
            self.outlet.check()
        elif self.outlet.lingering:
            self.transport.close()
        elif self._phase is not Phase.BETWEEN and not self._is_deaf():
            self._check_sender()
        elif busy:
            self._set_alarm(self._limits.keep_alive_timeout)
        else:
            self._check_idle()

    def _check_idle(self) -> None:
        until = self._idle_since + self._limits.keep_alive_timeout
        if self.loop.time() < until:
            self._alarm.set(until)
        else:
            self.transport.close()

    def _check_sender(self) -> None:
        try:
            self._set_alarm(self.patience.check(self._phase is Phase.HEAD))
        except RequestTimeout as fault:
            self._refuse(fault)


def _fault_of(error: httptools.HttpParserError) -> Fault:
    """What the parser found, or what one of our callbacks raised through it."""
    cause = error.__context__
    if isinstance(cause, Fault):
        return cause
    if isinstance(error, httptools.HttpParserCallbackError):
        logger.error("a bug while a request was parsed", exc_info=cause)
        return InternalError("internal error")
    return BadRequest(f"not a valid HTTP request: {error}")


def limited_protocol(
    connections: Connections, base: type[LimitedProtocol] = LimitedProtocol
) -> type[LimitedProtocol]:
    """A protocol class for `uvicorn.Config(http=...)` whose connections share `connections`."""
    return type(base.__name__, (base,), {"shared": connections})
