"""How much a connection may ask for, and how long it may take; seconds and bytes throughout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from oipserver.core.observer import Ended

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The limits of the HTTP front.  The connection keeps all but the last two, which are the application's.

    Attributes:
        max_header_bytes: request line and headers together; also the trailers, and any run of chunk
            framing that brings no body.
        max_headers: how many header lines.
        max_url_bytes: the request target alone.
        header_timeout: from the first byte of a request to the end of its headers.
        body_timeout: the window in which a body that is still coming must bring at least
            `body_timeout * min_body_rate` bytes.  A body smaller than that has one window, so a small one
            must be here within `body_timeout`; a large one may take as long as its rate holds.  Windows,
            and not one deadline that grows with the bytes received, because there a fast start would buy
            hours of silence.  Time in which the server itself does not read is not counted.
        min_body_rate: bytes per second, for bodies coming in and, with `write_timeout`, for answers.
        keep_alive_timeout: how long a connection may wait with no request begun; then it is closed silently.
        write_timeout: the window in which a peer must take `write_timeout * min_body_rate` bytes of an
            answer that is waiting for it (or all of it); a peer that does not read is cut off.
        linger_timeout: how long a refused peer may go on sending while it has not read its answer.
        linger_bytes: how much of that is read and dropped.
        max_dropped_body: a request body up to this size that nobody wants is read and dropped, and the
            connection lives on; with more to come it closes after the answer.
        max_connections: open at once; one more is answered 503 and closed.
        max_body_bytes: a request body, before and after decompression.
        max_json_bytes: a JSON body, or the JSON part of a binary one: parsing it holds the interpreter.
    """

    max_header_bytes: int = 64 * 1024
    max_headers: int = 100
    max_url_bytes: int = 8 * 1024
    header_timeout: float = 10.0
    body_timeout: float = 30.0
    min_body_rate: float = 1000.0
    keep_alive_timeout: float = 75.0
    write_timeout: float = 60.0
    linger_timeout: float = 5.0
    linger_bytes: int = 64 * MIB
    max_dropped_body: int = 64 * 1024
    max_connections: int = 10_000
    max_body_bytes: int = 64 * MIB
    max_json_bytes: int = 32 * MIB


def _to_nobody(ended: Ended) -> None:
    return


@dataclass(slots=True)
class Connections:
    """What all connections of a server share.

    Attributes:
        limits: for each of them.
        closing: the server is about to stop: every answer says `Connection: close` from now on.  Idle
            connections stay until the server calls `shutdown` on them.
        report: told of each request that is refused before there is anybody to ask.
    """

    limits: HttpLimits
    closing: bool = False
    report: Callable[[Ended], None] = _to_nobody
