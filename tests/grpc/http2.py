"""A client of HTTP/2 that sends frames as it likes (RFC 9113)."""

from __future__ import annotations

import socket
import struct
from enum import IntEnum

import hpack

from tests.support import PATIENCE

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ENHANCE_YOUR_CALM = 11


class Kind(IntEnum):
    """Types of frames, 6."""

    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


ACK, END_HEADERS = 1, 4


def frame(kind: Kind, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def call_headers(path: str) -> bytes:
    """The header block of a call of gRPC; the same on every stream, for it leaves no trace in the table."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    return bytes(encoder.encode([hpack.NeverIndexedHeaderTuple(*field) for field in fields]))


class Http2:
    """One connection."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._file = self._sock.makefile("rb")
        self.send(PREFACE + frame(Kind.SETTINGS, 0, 0))

    def __enter__(self) -> Http2:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._sock.close()

    def send(self, data: bytes) -> bool:
        """Send everything; false when the server has closed."""
        try:
            self._sock.sendall(data)
        except ConnectionError:
            return False
        return True

    def read(self) -> tuple[int, int, bytes] | None:
        """Type, stream and payload of the next frame; None at the end of the connection.

        Pings are answered, for a server that says goodbye waits for that.
        """
        try:
            head = self._file.read(9)
            if len(head) < 9:
                return None
            payload = self._file.read(int.from_bytes(head[:3]))
        except ConnectionError:
            return None
        if head[3] == Kind.PING and not head[4] & ACK:
            self.send(frame(Kind.PING, ACK, 0, payload))
        return head[3], int.from_bytes(head[5:]), payload

    def goaway(self) -> int | None:
        """The error code with which the server ends the connection; None when it says nothing.  Waits."""
        code = None
        while (found := self.read()) is not None:
            if found[0] == Kind.GOAWAY and code is None:
                code = int.from_bytes(found[2][4:8])
        return code

    def wait_for(self, kind: Kind) -> bytes:
        """The payload of the next frame of a type."""
        while (found := self.read()) is not None:
            if found[0] == kind:
                return found[2]
        raise AssertionError(f"the connection ended without {kind.name}")
