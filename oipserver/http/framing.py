"""Where a request ends, told from its headers: what llhttp lets pass and RFC 9112 does not.

Two readers of one byte stream that disagree on where a request ends are a request smuggler's tool, so
everything that is open to two readings is refused.  llhttp already refuses Content-Length beside
Transfer-Encoding, repeated, signed or listed lengths, folded lines, bare CR or LF, NUL and blanks in names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from oipserver.core.errors import BadRequest, printable
from oipserver.http.errors import Headers

_TELLING = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})


@dataclass(slots=True)
class Framing:
    """What a head says of the bytes around it.

    Attributes:
        version: "1.1" or "1.0".
        headers: names in lower case, values without blanks around them.
        body_length: bytes of the body to come, 0 without one and None when only the chunks tell.
        awaits_continue: the client sends none of them before our 100 Continue.
    """

    version: str
    headers: Headers
    body_length: int | None
    awaits_continue: bool


def lower(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Headers as the parser gave them, with names in lower case and no blanks behind a value."""
    return [(name.lower(), value.rstrip(b" \t")) for name, value in headers]


def framing(version: str, headers: Iterable[tuple[bytes, bytes]]) -> Framing:
    """Check the headers that tell where a request ends, and read them.

    Args:
        headers: as they came; a Content-Length has been checked by the parser.

    Raises:
        BadRequest: another HTTP version; no Host or two; a transfer coding that is not `chunked`.
    """
    if version not in ("1.1", "1.0"):
        raise BadRequest(f"HTTP version: expected 1.1 or 1.0, got {printable(version)}")
    headers = lower(headers)
    hosts = 0
    length: int | None = 0
    awaits_continue = False
    for name, value in headers:
        if name not in _TELLING:
            continue
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            _check_coding(version, value)
            length = None
        else:
            # RFC 9110, 10.1.1: an expectation in an HTTP/1.0 request must be ignored.
            awaits_continue = version == "1.1" and value.lower() == b"100-continue"
    # RFC 9112, 3.2: 400 to an HTTP/1.1 request without Host, and to any request with more than one.
    if hosts != 1 and (hosts > 1 or version == "1.1"):
        raise BadRequest(f"header Host: expected once, got {hosts} times")
    return Framing(version, headers, length, awaits_continue)


def _check_coding(version: str, value: bytes) -> None:
    # RFC 9112, 6.1: a Transfer-Encoding in an HTTP/1.0 message is faulty framing.
    if version == "1.0":
        raise BadRequest("header Transfer-Encoding: not allowed in an HTTP/1.0 request")
    if value.lower() != b"chunked":
        text = printable(value.decode("latin-1"))
        raise BadRequest(f"header Transfer-Encoding: expected 'chunked', got '{text}'")
