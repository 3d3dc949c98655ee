"""A closed loop of callers, each asking again as soon as it is answered; what all load clients share.

The loop is a selector and sockets, no more: an event loop would cost the client more than the servers may.
"""

from __future__ import annotations

import gc
import selectors
import socket
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, TypeAlias

from benchmarks.questions import Right

# Callers that were not answered so long after the end are given up.
PATIENCE_SECONDS = 10.0
_CHUNK = 1 << 18
# Linux takes 1024 in one go.
_MOST_PIECES = 1000

# What is to be sent, in order; apart, so that what is large need not be copied.
Pieces: TypeAlias = Sequence[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class Span:
    """How long to load, in seconds; what is answered while warming up is not counted."""

    warm_up: float
    measured: float


class Tally:
    """The answers of one run.

    Attributes:
        latencies: seconds, of the right answers within the measured span; when nothing was answered in it,
            of the first right answer after it.
        answers: all that came, warming up included.
        errors: wrong answers, lost connections, callers given up.
    """

    def __init__(self, span: Span) -> None:
        self.latencies: list[float] = []
        self.answers = 0
        self.errors = 0
        self._begin = perf_counter() + span.warm_up
        self._end = self._last = self._begin + span.measured

    @property
    def rate(self) -> float:
        """Right answers per second."""
        return len(self.latencies) / (self._last - self._begin)

    def count(self, asked: float, now: float, right: bool) -> bool:
        """Take in one answer to a question asked at `asked`; whether the caller is to ask again."""
        self.answers += 1
        if not right:
            self.errors += 1
        elif self._begin <= now < self._end:
            self.latencies.append(now - asked)
        elif now >= self._end and not self.latencies:
            self.latencies.append(now - asked)
            self._last = now
        return right and now < self._end


class Judge:
    """Whether answers are right; one that equals the last right one is."""

    def __init__(self, right: Right) -> None:
        self._right = right
        self._known: bytes | None = None

    def __call__(self, answer: bytes) -> bool:
        if answer == self._known:
            return True
        try:
            right = self._right(answer)
        except Exception:  # whatever a strange answer makes of its reader
            return False
        if right:
            self._known = answer
        return right


class Caller(Protocol):
    """One connection's side of a conversation, without the connection."""

    over: bool

    def begin(self) -> Pieces:
        """What to send first."""

    def take(self, data: bytes) -> Pieces:
        """What to send after these bytes; the connection is closed when it is `over`."""

    def lost(self, unanswered: bool) -> None:
        """The server hung up, or the caller was given up."""


class _Line:
    """A caller with its socket."""

    def __init__(self, port: int, caller: Caller, selector: selectors.BaseSelector) -> None:
        self.caller = caller
        self._selector = selector
        self._unsent: list[bytes | memoryview] = []
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._receive = self._socket.recv
        selector.register(self._socket, selectors.EVENT_READ, self)

    def send(self, pieces: Pieces) -> None:
        """Send now what the system takes, the rest when it takes more."""
        if self._unsent:
            self._unsent += pieces
            return
        try:
            if len(pieces) > 1:
                sent = self._socket.sendmsg(pieces[:_MOST_PIECES])
            elif (sent := self._socket.send(pieces[0])) == len(pieces[0]):
                return
        except BlockingIOError:
            sent = 0
        self._unsent = _rest(pieces, sent)
        if self._unsent:
            self._selector.modify(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)

    def ready(self, events: int) -> None:
        """Read and answer; go on sending."""
        caller = self.caller
        try:
            if events & selectors.EVENT_READ:
                data = self._receive(_CHUNK)
                if not data:
                    caller.lost(unanswered=False)
                elif reply := caller.take(data):
                    self.send(reply)
            if events & selectors.EVENT_WRITE and not caller.over:
                self._go_on()
        except OSError:
            caller.lost(unanswered=False)
        if caller.over:
            self.close()

    def _go_on(self) -> None:
        rest, self._unsent = self._unsent, []
        self._selector.modify(self._socket, selectors.EVENT_READ, self)
        self.send(rest)

    def close(self) -> None:
        """Leave."""
        self._selector.unregister(self._socket)
        self._socket.close()


def _rest(pieces: Pieces, sent: int) -> list[bytes | memoryview]:
    """What is left of the pieces when so many bytes of them were sent."""
    for position, piece in enumerate(pieces):
        if sent < len(piece):
            return [memoryview(piece)[sent:], *pieces[position + 1 :]]
        sent -= len(piece)
    return []


def run(callers: Sequence[tuple[int, Caller]], span: Span) -> None:
    """Connect each caller to 127.0.0.1 at its port and let them ask until all are over or patience ends."""
    with closing(selectors.DefaultSelector()) as selector:
        given_up = perf_counter() + span.warm_up + span.measured + PATIENCE_SECONDS
        gc.disable()  # nothing here makes cycles
        try:
            for port, caller in callers:
                _open(port, caller, selector)
            while selector.get_map() and perf_counter() < given_up:
                for key, events in selector.select(PATIENCE_SECONDS):
                    key.data.ready(events)
        finally:
            gc.enable()
        for key in list(selector.get_map().values()):
            key.data.caller.lost(unanswered=True)
            key.data.close()


def _open(port: int, caller: Caller, selector: selectors.BaseSelector) -> None:
    try:
        _Line(port, caller, selector).send(caller.begin())
    except OSError:
        caller.lost(unanswered=False)
