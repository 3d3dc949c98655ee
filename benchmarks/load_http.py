"""HTTP/1.1 load: one connection per caller, the requests of a question in turn, every answer judged.

A load generator only, not a client: it reads answers that have a Content-Length or come in chunks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from time import perf_counter

from benchmarks.load import Judge, Pieces, Span, Tally, run
from benchmarks.questions import HttpQuestion

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_LAST_CHUNK = b"0\r\n\r\n"
_OK = b"HTTP/1.1 200 "
_HEAD_END = b"\r\n\r\n"


class HttpCaller:
    """One connection."""

    def __init__(self, requests: Iterable[bytes], tally: Tally, judge: Judge) -> None:
        self.over = False
        self._next = iter(requests).__next__
        self._judge = judge
        self._tally = tally
        self._pieces: list[bytes] = []
        self._missing = 0
        self._asked = 0.0
        # The last right answer from the end of its head on.  An id or a time in the head of each answer shall
        # not keep the client busy, or it would measure itself.
        self._last: bytes | None = None

    def begin(self) -> Pieces:
        """Ask for the first time."""
        self._asked = perf_counter()
        return (self._next(),)

    def take(self, data: bytes) -> Pieces:
        """Judge a whole answer, and ask again."""
        right = self._is_as_before(data)
        if not right:
            answer = self._whole(data)
            if answer is None:
                return ()
            right = self._right(answer)
        now = perf_counter()
        self.over = not self._tally.count(self._asked, now, right)
        self._asked = now
        return () if self.over else (self._next(),)

    def lost(self, unanswered: bool) -> None:
        """An error, early as it is."""
        self._tally.errors += 1
        self.over = True

    def _is_as_before(self, data: bytes) -> bool:
        """Whether this is a whole answer that is like the last right one behind its head."""
        last = self._last
        return (
            last is not None
            and data.endswith(last)
            and data.startswith(_OK)
            and data.find(_HEAD_END) + len(last) == len(data)
            and not self._pieces
        )

    def _whole(self, data: bytes) -> bytes | None:
        """The answer, when its last piece is there."""
        if self._missing > 0:
            self._pieces.append(data)
            self._missing -= len(data)
        else:
            data = b"".join((*self._pieces, data))
            self._pieces = [data]
            end = data.find(_HEAD_END) + len(_HEAD_END)
            if end < len(_HEAD_END):
                return None
            length = _LENGTH.search(data, 0, end)
            self._missing = end + int(length[1]) - len(data) if length else 0
            if not length and _CHUNKED.search(data, 0, end) and not data.endswith(_LAST_CHUNK):
                return None
        if self._missing > 0:
            return None
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)

    def _right(self, answer: bytes) -> bool:
        right = answer.startswith(_OK) and self._judge(_body(answer))
        self._last = answer[answer.find(_HEAD_END) :] if right else None
        return right


def _body(answer: bytes) -> bytes:
    head, _, body = answer.partition(_HEAD_END)
    if not _CHUNKED.search(head):
        return body
    pieces, position = [], 0
    while size := int(body[position : (line := body.index(b"\r\n", position))], 16):
        pieces.append(body[line + 2 : line + 2 + size])
        position = line + 2 + size + 2
    return b"".join(pieces)


def http_callers(question: HttpQuestion, callers: int, tally: Tally) -> list[HttpCaller]:
    """So many connections with one question."""
    judge, requests = Judge(question.right), question.requests
    return [HttpCaller(_in_turn(requests, number), tally, judge) for number in range(callers)]


def _in_turn(requests: Sequence[bytes], number: int) -> Iterator[bytes]:
    """All of them again and again, from that number on."""
    start = number % len(requests)
    return cycle([*requests[start:], *requests[:start]])


def load_http(port: int, question: HttpQuestion, callers: int, span: Span) -> Tally:
    """Load 127.0.0.1:`port` with `callers` connections."""
    tally = Tally(span)
    run([(port, caller) for caller in http_callers(question, callers, tally)], span)
    return tally
