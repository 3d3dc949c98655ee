"""Faults as HTTP: one table from code to status, one body, and the headers that go with it.

Every answer that is not 2xx has the body that `error_body` writes, whoever refused: the parser, the router,
the data plane or the model.
"""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from oipserver.core.errors import Fault, Unauthorized, UnsupportedMediaType
from oipserver.core.ids import new_id, valid_request_id

STATUS: dict[str, int] = {
    "BAD_REQUEST": 400,
    "UNPROCESSABLE": 422,
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "REQUEST_TIMEOUT": 408,
    "CONFLICT": 409,
    "ALREADY_EXISTS": 400,
    "UNSUPPORTED": 400,
    "PAYLOAD_TOO_LARGE": 413,
    "URI_TOO_LONG": 414,
    "HEADERS_TOO_LARGE": 431,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "RATE_LIMIT": 429,
    "CANCELLED": 499,  # in the log only: nobody is there to read it
    "INFERENCE_FAILED": 500,
    "INTERNAL": 500,
    "NOT_READY": 503,
    "OVERLOADED": 503,
    "TIMEOUT": 504,
}

ACCEPT_ENCODING = b"gzip, deflate, zstd"
# RFC 9110, 11.6.1: a 401 must say how to authenticate; RFC 6750, 3: with a bearer token.
WWW_AUTHENTICATE = b'Bearer realm="oipserver"'

Headers = list[tuple[bytes, bytes]]


class UnsupportedEncoding(UnsupportedMediaType):
    """A Content-Encoding that this server does not undo; the answer lists those that it does."""


def error_body(code: str, message: str, request_id: str) -> bytes:
    """The JSON body of an error; `error` is what clients of the protocol read, `message` says the same."""
    return orjson.dumps({"error": message, "error_code": code, "message": message, "request_id": request_id})


def error_headers(fault: Fault, request_id: str) -> Headers:
    """The headers of an error's answer, but Content-Length, and Allow, which only the router knows.

    Args:
        fault: what is wrong.
        request_id: ours, or the client's after `valid_request_id`.
    """
    headers = [(b"content-type", b"application/json"), (b"x-request-id", request_id.encode("ascii"))]
    if fault.retry_after is not None:
        headers.append((b"retry-after", b"%d" % fault.retry_after))
    if isinstance(fault, Unauthorized):
        headers.append((b"www-authenticate", WWW_AUTHENTICATE))
    if isinstance(fault, UnsupportedEncoding):
        # RFC 9110, 15.5.16: the response ought to carry Accept-Encoding when the coding was the cause.
        headers.append((b"accept-encoding", ACCEPT_ENCODING))
    return headers


def error_response(fault: Fault, request_id: str) -> tuple[int, Headers, bytes]:
    """Status, headers (but Content-Length) and body of the answer that says what was wrong."""
    body = error_body(fault.code, fault.message, request_id)
    return STATUS[fault.code], error_headers(fault, request_id), body


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The caller's X-Request-Id when it is fit for headers and logs, else a new one."""
    for name, value in headers:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            return text if valid_request_id(text) else new_id()
    return new_id()
