"""Answers and heads as raw bytes, for what happens before there is an application to ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from http import HTTPStatus

from oipserver.core.errors import Fault
from oipserver.core.observer import Ended
from oipserver.http.errors import error_response

_ASK_FOR_UPGRADE = frozenset((b"connection", b"upgrade", b"http2-settings"))


def render(fault: Fault, request_id: str, default_headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The whole answer that refuses a request and says that the connection ends."""
    status, headers, body = error_response(fault, request_id)
    ending = ((b"content-length", b"%d" % len(body)), (b"connection", b"close"))
    start = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode("ascii")
    return _head(start, (*default_headers, *headers, *ending)) + body


def ended(fault: Fault, request_id: str) -> Ended:
    """What is reported of it: it was no request, or had no right to become one."""
    return Ended("http", "", "", "", fault.code, (0.0,), (request_id,))


def without_upgrade(
    method: bytes, url: bytes, version: str, headers: Iterable[tuple[bytes, bytes]], keep_alive: bool
) -> bytes:
    """The head of a request again, less what asks for another protocol."""
    kept = [header for header in headers if header[0] not in _ASK_FOR_UPGRADE]
    kept.append((b"connection", b"keep-alive" if keep_alive else b"close"))
    return _head(b"%b %b HTTP/%b" % (method, url, version.encode("ascii")), kept)


def _head(start: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"\r\n".join((start, *_lines(headers), b"", b""))


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    return (b"%b: %b" % header for header in headers)
