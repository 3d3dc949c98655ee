"""One infer request in its connection, past ASGI: how its answer is written there, and how it is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from oipserver.http.door import Answer
from oipserver.http.errors import Headers
from oipserver.http.flow import Flow
from oipserver.http.limits import Connections
from oipserver.http.outlet import Outlet


class Connection(Protocol):
    """What a turn needs of its connection."""

    flow: Flow
    outlet: Outlet
    server_state: ServerState
    when_writable: Callable[[], None] | None

    @property
    def shared(self) -> Connections:
        """What all connections share."""

    def compress(self, turn: Turn, answer: Answer) -> None:
        """Compress an answer and reply it then."""

    def rest_is_small(self) -> bool:
        """Whether the rest of the body may be read for the connection's sake."""

    def on_response_complete(self) -> None:
        """The answer was written."""


class _Nobody:
    """In place of the event on which no application waits."""

    def set(self) -> None:
        return


class Turn:
    """One request and its answer.  uvicorn's protocol class takes it for one of its cycles.

    Attributes:
        connection: on which it came.
        over: there is nothing more to be written: it was, or the caller has left.
    """

    __slots__ = (
        "connection",
        "disconnected",
        "keep_alive",
        "more_body",
        "over",
        "response_complete",
        "response_started",
    )

    message_event: ClassVar[_Nobody] = _Nobody()

    def __init__(self, connection: Connection, keep_alive: bool, more_body: bool) -> None:
        self.connection = connection
        self.keep_alive = keep_alive
        self.more_body = more_body
        self.disconnected = False
        self.response_started = False
        self.response_complete = False
        self.over = False

    def lose(self) -> None:
        """The caller has left, or is not listened to any more."""
        self.connection.when_writable = None
        if not self.over:
            self.over = self.disconnected = True
            self.cancel()

    def cancel(self) -> None:
        """Give back what the request holds."""
        raise NotImplementedError

    def reply(self, answer: Answer) -> None:
        """Write the answer, when the peer reads."""
        connection = self.connection
        if answer.encoding is not None:
            connection.compress(self, answer)
        elif connection.flow.write_paused:
            connection.when_writable = lambda: self.reply(answer)
        elif not self.over:
            self.over = True
            self._write(connection, answer)

    def _write(self, connection: Connection, answer: Answer) -> None:
        self.response_started = True
        keep_alive = self.keep_alive and not connection.shared.closing
        if self.more_body and not connection.rest_is_small():
            keep_alive = False
        connection.outlet.write(_message(answer, connection.server_state.default_headers, keep_alive))
        self.response_complete = True
        if not keep_alive:
            connection.outlet.close()
        connection.on_response_complete()


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
