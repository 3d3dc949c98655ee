"""ModelInfer over an HTTP/2 of our own, to see what grpcio costs.  An experiment: never put it on a network.

It reads real HTTP/2 (RFC 9113) from a correct client, headers by the `hpack` library, and asks the real data
plane.  It knows one method, unary, without TLS.  What it lacks is listed in docs/grpc-front.md; each entry
of that list is a way to hang it, to fill its memory or to keep its core busy.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

import hpack

from oipserver.core.admission import Admission
from oipserver.core.dataplane import DataPlane, Handle
from oipserver.core.errors import BadRequest, Fault, PayloadTooLarge, Unsupported
from oipserver.core.ids import new_id, valid_request_id
from oipserver.core.messages import InferenceResponse
from oipserver.grpc import wire
from oipserver.grpc.errors import STATUS, details
from oipserver.grpc.template import learn, recognize

PATH = "/inference.GRPCInferenceService/ModelInfer"

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME = struct.Struct(">IBI")  # length (24 bits) and type, flags, stream
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = (
    *(0, 1, 3, 4, 6, 7, 8, 9),
)
_ACK = _END_STREAM = 0x1
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
_MAX_FRAME = 16_384
_WINDOW = 2**22
_MAX_STREAMS = 512
_MAX_BLOCKS = 256
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
# No header table, at most so many streams, windows for 4 MiB, header lists of 16 KiB.
_OUR_SETTINGS = struct.pack(">HIHIHIHI", 1, 0, 3, _MAX_STREAMS, 4, _WINDOW, 6, 16_384)


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return _FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """A header field without indexing or Huffman coding (RFC 7541, 6.2.2)."""
    sized = (text.encode() for text in (name, value))
    return b"\x00" + b"".join(_integer(len(text)) + text for text in sized)


def _integer(value: int) -> bytes:
    """RFC 7541, 5.1, with a prefix of seven bits."""
    if value < 0x7F:
        return bytes([value])
    value -= 0x7F
    encoded = bytearray(b"\x7f")
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(encoded) + bytes([value])


_HEAD = b"\x88" + _literal("content-type", "application/grpc")  # :status 200
_OK = _literal("grpc-status", "0")


class _Call:
    """One stream: what came of its request, and what became of it."""

    __slots__ = ("admission", "body", "id", "raw", "request_id", "ticket", "timeout")

    def __init__(self, number: int, headers: dict[str, str], admission: Admission) -> None:
        given = headers.get("x-request-id", "")
        text = headers.get("grpc-timeout", "")
        self.id = number
        self.admission = admission
        self.body = b""
        self.raw = True
        self.request_id = given if valid_request_id(given) else ""
        self.ticket: Handle | None = None
        self.timeout = float(text[:-1]) * _SECONDS[text[-1]] if text else 60.0


class Endpoint(asyncio.Protocol):
    """One connection."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._loop = asyncio.get_running_loop()
        self._decoder = hpack.Decoder(max_header_list_size=16_384)
        self._decoder.max_allowed_table_size = 4096
        self._blocks: dict[bytes, dict[str, str]] = {}
        self._received = b""
        self._greeted = False
        self._calls: dict[int, _Call] = {}
        self._output: list[bytes] = []
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._credit = 65_535
        self._stream_window = 65_535
        self._taken = 0
        self._transport: asyncio.Transport
        self._kinds: dict[int, Callable[[int, int, bytes], None]] = {
            _DATA: self._data,
            _HEADERS: self._headers,
            _RST_STREAM: self._reset,
            _SETTINGS: self._settings,
            _PING: self._ping,
            _WINDOW_UPDATE: self._widen,
            _CONTINUATION: self._refuse_connection,
        }

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Greet."""
        self._transport = transport
        self._put(_frame(_SETTINGS, 0, 0, _OUR_SETTINGS))
        self._put(_frame(_WINDOW_UPDATE, 0, 0, (_WINDOW - 65_535).to_bytes(4, "big")))

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more."""
        for call in [*self._calls.values()]:
            self._reset(0, call.id, b"")

    def data_received(self, data: bytes) -> None:
        """Take every whole frame."""
        received = self._received + data
        position = 0
        if not self._greeted:
            if len(received) < len(_PREFACE):
                self._received = received
                return
            self._greeted, position = True, len(_PREFACE)
            if not received.startswith(_PREFACE):
                self._transport.abort()
        while len(received) - position >= _FRAME.size:
            size, flags, stream = _FRAME.unpack_from(received, position)
            start = position + _FRAME.size
            position = start + (size >> 8)
            if size >> 8 > _MAX_FRAME:
                self._refuse_connection()
                return
            if position > len(received):
                position = start - _FRAME.size
                break
            take = self._kinds.get(size & 0xFF)
            if take is not None:
                take(flags, stream, received[start:position])
        self._received = received[position:]

    # --- frames ---

    def _headers(self, flags: int, stream: int, block: bytes) -> None:
        if flags & _PADDED:
            block = block[1 : len(block) - block[0]]
        if flags & _PRIORITY:
            block = block[5:]
        if not flags & _END_HEADERS or len(self._calls) >= _MAX_STREAMS:
            self._refuse_connection()
            return
        headers = self._decoded(block)
        try:
            call = _Call(stream, headers, self._plane.gate.admit("grpc"))
        except Fault as fault:
            self._end(stream, b"", _status(fault, new_id()))
            return
        self._calls[stream] = call
        if headers.get(":path") != PATH:
            self._answer(call, Unsupported("this server does not offer that call"))
        elif flags & _END_STREAM:
            self._answer(call, BadRequest("the call brought no message"))

    def _decoded(self, block: bytes) -> dict[str, str]:
        """A block means the same again only while it neither made nor used an entry of the table."""
        stateless = not self._decoder.header_table.dynamic_entries
        known = self._blocks.get(block) if stateless else None
        if known is None:
            known = {str(name): str(value) for name, value in self._decoder.decode(block)}
            if not self._decoder.header_table.dynamic_entries and len(self._blocks) < _MAX_BLOCKS:
                self._blocks[block] = known
        return known

    def _data(self, flags: int, stream: int, data: bytes) -> None:
        self._taken += len(data)
        if self._taken > _WINDOW // 2:
            self._put(_frame(_WINDOW_UPDATE, 0, 0, self._taken.to_bytes(4, "big")))
            self._taken = 0
        call = self._calls.get(stream)
        if call is None:
            return
        call.body += data[1 : len(data) - data[0]] if flags & _PADDED else data
        if len(call.body) > _WINDOW:
            self._answer(call, PayloadTooLarge("the message is too large"))
        elif flags & _END_STREAM:
            self._ask(call)

    def _reset(self, flags: int, stream: int, payload: bytes) -> None:
        call = self._calls.pop(stream, None)
        if call is not None:
            if call.ticket is not None:
                call.ticket.cancel()
            call.admission.finish("CANCELLED")

    def _settings(self, flags: int, stream: int, payload: bytes) -> None:
        if not flags & _ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == 4:
                    self._stream_window = value
            self._put(_frame(_SETTINGS, _ACK, 0))

    def _ping(self, flags: int, stream: int, payload: bytes) -> None:
        if not flags & _ACK:
            self._put(_frame(_PING, _ACK, 0, payload))

    def _widen(self, flags: int, stream: int, payload: bytes) -> None:
        if not stream:
            self._credit += int.from_bytes(payload, "big")
            while self._waiting and self._waiting[0][0] <= self._credit:
                self._send(*self._waiting.popleft())

    def _refuse_connection(self, *_: object) -> None:
        self._transport.write(_frame(_GOAWAY, 0, 0, struct.pack(">II", 0, 1)))
        self._transport.close()

    # --- calls ---

    def _ask(self, call: _Call) -> None:
        try:
            self._submit(call)
        except Fault as fault:
            self._answer(call, fault)

    def _submit(self, call: _Call) -> None:
        compressed, size = struct.unpack_from(">BI", call.body) if len(call.body) >= 5 else (0, -1)
        body, call.body = call.body[5:], b""
        if compressed or size != len(body):
            raise BadRequest("exactly one message that is not compressed is expected")
        now = time.monotonic()
        deadline, made_id = now + min(60.0, call.timeout), call.request_id or new_id()
        known = recognize(body, self._plane)
        if known is not None:
            version = known.version
            call.admission.of(version.config)
            request, work = known.read(now, deadline, made_id)
        else:
            question = wire.decode_request(body, now, deadline, made_id)
            request, call.raw = question.request, question.raw
            version = self._plane.serving(request.model_name, request.model_version, call.admission)
            work = version.contract.check(request)
            learn(body, question, work, version.contract)
        if not call.request_id:
            call.request_id = request.id if valid_request_id(request.id) else made_id
        call.ticket = self._plane.enqueue(request, work, version, partial(self._answer, call))

    def _answer(self, call: _Call, result: InferenceResponse | Fault) -> None:
        if self._calls.pop(call.id, None) is None:
            return
        call.admission.finish(result.code if isinstance(result, Fault) else "OK")
        request_id = call.request_id or new_id()
        if isinstance(result, Fault):
            self._end(call.id, b"", _status(result, request_id))
            return
        message = wire.encode_response(result, call.raw)
        if len(message) + 5 > self._stream_window:
            too_large = PayloadTooLarge("the answer is larger than the caller's window")
            self._end(call.id, b"", _status(too_large, request_id))
        else:
            data = struct.pack(">BI", 0, len(message)) + message
            self._end(call.id, data, _OK + _literal("x-request-id", request_id))

    def _end(self, stream: int, data: bytes, trailers: bytes) -> None:
        """Send an answer, or queue it until the peer has room for it."""
        if not data:
            self._put(_frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, _HEAD + trailers))
            return
        pieces = (data[start : start + _MAX_FRAME] for start in range(0, len(data), _MAX_FRAME))
        frames = b"".join(_frame(_DATA, 0, stream, piece) for piece in pieces)
        head = _frame(_HEADERS, _END_HEADERS, stream, _HEAD)
        answer = len(data), head + frames + _frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, trailers)
        if self._waiting or len(data) > self._credit:
            self._waiting.append(answer)
        else:
            self._send(*answer)

    def _send(self, size: int, frames: bytes) -> None:
        self._credit -= size
        self._put(frames)

    def _put(self, frames: bytes) -> None:
        """Whatever is sent in one turn of the loop leaves in one write."""
        if not self._output:
            self._loop.call_soon(self._flush)
        self._output.append(frames)

    def _flush(self) -> None:
        output, self._output = self._output, []
        self._transport.write(b"".join(output))


def _status(fault: Fault, request_id: str) -> bytes:
    fields = {
        "grpc-status": str(STATUS[fault.code].value[0]),
        "grpc-message": quote(details(fault)),
        "error-code": fault.code,
        "x-request-id": request_id,
    }
    return b"".join(_literal(name, value) for name, value in fields.items())
