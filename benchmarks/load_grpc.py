"""gRPC load over one connection: the same unary call over and over, every answer compared.

`load_grpc` is a load generator only, not a client: the least HTTP/2 (RFC 9113) that a gRPC server needs to
see.  grpcio's own client costs more per call than the servers measured here; `load_grpc_aio` uses it for a
cross-check.
"""

from __future__ import annotations

import asyncio
import struct
from enum import IntEnum
from time import perf_counter

import grpc

from benchmarks.load import PATIENCE_SECONDS, Span, Tally

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME = struct.Struct(">IBI")  # length (24 bits) and type, flags, stream
_HEADER_BYTES = _FRAME.size
_ACK = _END_STREAM = 0x1
_END_HEADERS = 0x4
_FIRST_WINDOW = 65_535
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


class Caller(asyncio.Protocol):
    """One connection with `callers` calls at a time.

    Args:
        message: of every call; smaller than 16 KiB.
        answer: the right message to come back, with status OK.
    """

    def __init__(self, path: str, message: bytes, answer: bytes, callers: int, tally: Tally) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._head = _head(path)
        self._data = _prefixed(message)
        self._answer = _prefixed(answer)
        self._to_ask = callers
        self._tally = tally
        self._stream = -1
        self._credit = _FIRST_WINDOW
        self._asked: dict[int, float] = {}
        self._answers: dict[int, bytes] = {}
        self._received = b""
        self._output: list[bytes] = []
        self._over = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Open the connection and every call."""
        self._transport = transport
        widened = (_WIDE_WINDOW - _FIRST_WINDOW).to_bytes(4, "big")
        self._output = [
            _PREFACE,
            _frame(Kind.SETTINGS, 0, 0, _SETTINGS),
            _frame(Kind.WINDOW_UPDATE, 0, 0, widened),
        ]
        self._ask()

    def data_received(self, data: bytes) -> None:
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
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end; too early, it is an error of each call."""
        if not self._over:
            self._tally.errors += 1 + len(self._asked)
        if not self.done.done():
            self.done.set_result(None)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == Kind.DATA:
            self._answers[stream] = self._answers.get(stream, b"") + payload
        elif kind == Kind.HEADERS:
            if flags & _END_STREAM:
                self._end(stream, _STATUS_OK in payload)
        elif kind == Kind.WINDOW_UPDATE:
            if not stream:
                self._credit += int.from_bytes(payload, "big")
        elif kind in (Kind.SETTINGS, Kind.PING):
            if not flags & _ACK:
                self._output.append(_frame(Kind(kind), _ACK, 0, payload if kind == Kind.PING else b""))
        elif kind == Kind.RST_STREAM:
            self._end(stream, ok=False)
        elif kind == Kind.GOAWAY:
            self._transport.abort()

    def _end(self, stream: int, ok: bool) -> None:
        asked = self._asked.pop(stream, None)
        answer = self._answers.pop(stream, None)
        # grpcio resets a stream, without an error, after its trailers if we have not closed our side yet.
        if asked is not None and self._tally.count(asked, ok and answer == self._answer):
            self._to_ask += 1

    def _ask(self) -> None:
        """Open the calls that are due, as far as the server's window goes, and write everything at once."""
        while self._to_ask and self._credit >= len(self._data):
            self._to_ask -= 1
            self._credit -= len(self._data)
            self._stream += 2
            self._asked[self._stream] = perf_counter()
            self._output += (
                _frame(Kind.HEADERS, _END_HEADERS, self._stream, self._head),
                _frame(Kind.DATA, _END_STREAM, self._stream, self._data),
            )
        if self._output:
            self._transport.write(b"".join(self._output))
            self._output.clear()
        if not self._asked and not self._to_ask:
            self._over = True
            self._transport.close()


async def load_grpc(port: int, path: str, message: bytes, answer: bytes, callers: int, span: Span) -> Tally:
    """Load 127.0.0.1:`port` with `callers` calls at a time."""
    tally = Tally(span)
    _, caller = await asyncio.get_running_loop().create_connection(
        lambda: Caller(path, message, answer, callers, tally), "127.0.0.1", port
    )
    _, late = await asyncio.wait([caller.done], timeout=span.warm_up + span.measured + PATIENCE_SECONDS)
    tally.errors += len(late)
    return tally


async def load_grpc_aio(
    port: int, path: str, message: bytes, answer: bytes, callers: int, span: Span
) -> Tally:
    """The same with grpcio's asyncio client."""
    tally = Tally(span)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(path, None, None)  # without serializers: bytes in, bytes out

        async def ask_again_and_again() -> None:
            again = True
            while again:
                asked = perf_counter()
                again = tally.count(asked, await call(message, timeout=PATIENCE_SECONDS) == answer)

        ends = await asyncio.gather(*(ask_again_and_again() for _ in range(callers)), return_exceptions=True)
    tally.errors += sum(end is not None for end in ends)
    return tally
