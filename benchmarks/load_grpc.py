"""gRPC load over one connection: the calls of a question in turn, every answer judged.

`load_grpc` is a load generator only, not a client: the least HTTP/2 (RFC 9113) that a gRPC server needs to
see.  grpcio's own client costs more per call than the servers measured here; `load_grpc_aio.py` uses it for
a cross-check.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from itertools import cycle
from time import perf_counter

from benchmarks.load import Judge, Pieces, Span, Tally, run
from benchmarks.questions import GRPC_PATH, GrpcQuestion

_PREFIX_BYTES = 5
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME = struct.Struct(">IBI")  # length (24 bits) and type, flags, stream
_HEADER_BYTES = _FRAME.size
_ACK = _END_STREAM = 0x1
_END_HEADERS = 0x4
_FIRST_WINDOW = 65_535
_FIRST_FRAME_BYTES = 16_384
_INITIAL_WINDOW_SIZE = 4
_MAX_FRAME_SIZE = 5
# No run receives as much as this, so windows are opened once and never again.
_WIDE_WINDOW = 2**30


class Kind(IntEnum):
    """Frame types that matter here."""

    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8


# Without a header table the server writes its trailers as plain literals.
_SETTINGS = struct.pack(">HIHIHI", 0x1, 0, 0x2, 0, 0x4, _WIDE_WINDOW)
_STATUS_OK = b"\x0bgrpc-status\x010"


def _frame(kind: Kind, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return _FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """A header field without indexing or Huffman coding (RFC 7541, 6.2.2); lengths below 127."""
    return b"\x00" + b"".join(bytes([len(text)]) + text.encode("ascii") for text in (name, value))


def _head(path: str) -> bytes:
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "127.0.0.1",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    return b"".join(_literal(name, value) for name, value in fields.items())


def _prefixed(message: bytes) -> bytes:
    """A gRPC message on the wire: not compressed, and its length."""
    return b"\x00" + len(message).to_bytes(4, "big") + message


class GrpcCaller:
    """One connection with `callers` calls at a time."""

    def __init__(self, path: str, question: GrpcQuestion, callers: int, tally: Tally) -> None:
        self.over = False
        self._head = _head(path)
        self._next = cycle(
            [memoryview(_prefixed(message)) for message in (question.message, *question.others)]
        ).__next__
        self._judge = Judge(question.right)
        self._to_ask = callers
        self._tally = tally
        self._stream = -1
        self._window = _FIRST_WINDOW
        self._frame_bytes = _FIRST_FRAME_BYTES
        self._credit = _FIRST_WINDOW
        self._credits: dict[int, int] = {}
        self._unsent: dict[int, memoryview] = {}
        self._asked: dict[int, float] = {}
        self._answers: dict[int, list[bytes]] = {}
        self._received = b""
        self._output: list[bytes | memoryview] = []

    def begin(self) -> Pieces:
        """Open the connection and every call."""
        widened = (_WIDE_WINDOW - _FIRST_WINDOW).to_bytes(4, "big")
        self._output = [
            _PREFACE,
            _frame(Kind.SETTINGS, 0, 0, _SETTINGS),
            _frame(Kind.WINDOW_UPDATE, 0, 0, widened),
        ]
        return self._ask()

    def take(self, data: bytes) -> Pieces:
        """Take every whole frame, then ask again for every call that was answered."""
        received = self._received + data
        position, end = 0, len(received)
        while end - position >= _HEADER_BYTES:
            size, flags, stream = _FRAME.unpack_from(received, position)
            start = position + _HEADER_BYTES
            after = start + (size >> 8)
            if after > end:
                break
            self._take(size & 0xFF, flags, stream, received[start:after])
            position = after
        self._received = received[position:]
        return () if self.over else self._ask()

    def lost(self, unanswered: bool) -> None:
        """An error of each open call, and of the connection if it ended by itself."""
        self._tally.errors += len(self._asked) + (not unanswered)
        self.over = True

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == Kind.DATA:
            self._answers.setdefault(stream, []).append(payload)
        elif kind == Kind.HEADERS:
            if flags & _END_STREAM:
                self._end(stream, _STATUS_OK in payload)
        elif kind == Kind.WINDOW_UPDATE:
            self._widen(stream, int.from_bytes(payload, "big"))
        elif kind in (Kind.SETTINGS, Kind.PING):
            if not flags & _ACK:
                self._output.append(_frame(Kind(kind), _ACK, 0, payload if kind == Kind.PING else b""))
                if kind == Kind.SETTINGS:
                    self._set(payload)
        elif kind == Kind.RST_STREAM:
            self._end(stream, ok=False)
        elif kind == Kind.GOAWAY:
            self.lost(unanswered=False)

    def _set(self, settings: bytes) -> None:
        """The window that a stream has at first counts for those already open as well (RFC 9113, 6.9.2)."""
        for name, value in struct.iter_unpack(">HI", settings):
            if name == _INITIAL_WINDOW_SIZE:
                for stream in self._credits:
                    self._credits[stream] += value - self._window
                self._window = value
            elif name == _MAX_FRAME_SIZE:
                self._frame_bytes = value

    def _widen(self, stream: int, size: int) -> None:
        if not stream:
            self._credit += size
        elif stream in self._credits:
            self._credits[stream] += size

    def _end(self, stream: int, ok: bool) -> None:
        asked = self._asked.pop(stream, None)
        answer = b"".join(self._answers.pop(stream, ()))
        self._unsent.pop(stream, None)
        self._credits.pop(stream, None)
        # grpcio resets a stream, without an error, after its trailers if we have not closed our side yet.
        if asked is not None:
            right = ok and self._judge(answer[_PREFIX_BYTES:])
            self._to_ask += self._tally.count(asked, perf_counter(), right)

    def _ask(self) -> Pieces:
        """Open the calls that are due, and write as much as the server's windows let through."""
        for _ in range(self._to_ask):
            self._stream += 2
            self._asked[self._stream] = perf_counter()
            self._output.append(_frame(Kind.HEADERS, _END_HEADERS, self._stream, self._head))
            self._credits[self._stream] = self._window
            self._unsent[self._stream] = self._next()
        self._to_ask = 0
        for stream in list(self._unsent):
            self._send(stream)
        self.over = not self._asked
        written, self._output = self._output, []
        return written

    def _send(self, stream: int) -> None:
        data, position = self._unsent[stream], 0
        while (size := min(len(data) - position, self._credit, self._credits[stream], self._frame_bytes)) > 0:
            piece = data[position : position + size]
            position += size
            self._credit -= size
            self._credits[stream] -= size
            flags = _END_STREAM if position == len(data) else 0
            self._output += (_FRAME.pack(size << 8 | Kind.DATA, flags, stream), piece)
        if position == len(data):
            del self._unsent[stream]
        else:
            self._unsent[stream] = data[position:]


def load_grpc(port: int, question: GrpcQuestion, callers: int, span: Span) -> Tally:
    """Load 127.0.0.1:`port` with `callers` calls at a time."""
    tally = Tally(span)
    run([(port, GrpcCaller(GRPC_PATH, question, callers, tally))], span)
    return tally
