"""Every way in which a request can fail, named by whose fault it is.

The core says *what* is wrong; each front owns one table from these codes to its own numbers
(`oipserver/http/errors.py`, `oipserver/grpc/errors.py`).  No status number may appear in this file.

    Fault
    ├── BadRequest             the caller's bytes, shapes, names or types
    │   ├── Unprocessable      well-formed, but a value breaks the model's contract
    │   │   └── InvalidInput   the same, raised by a runtime
    │   ├── Unsupported        an extension that this server does not offer
    │   ├── Unauthorized       nobody that is known
    │   ├── Forbidden          a known caller without the right
    │   ├── NotFound           no such model, version or route
    │   ├── MethodNotAllowed
    │   ├── PayloadTooLarge · UriTooLong · HeadersTooLarge
    │   ├── UnsupportedMediaType
    │   ├── AlreadyExists      a name that is taken
    │   ├── Conflict           an idempotency key that stands for another request
    │   └── RequestTimeout     the caller was too slow to send
    ├── RateLimited            this caller asks too often
    ├── NotReady · Overloaded  refused before any work: safe to retry
    ├── DeadlineExceeded       the caller's time is over
    ├── Cancelled              the caller left; logged, never sent
    ├── InferenceFailed        the model raised or broke its own contract
    └── InternalError          a bug of ours
"""

from __future__ import annotations

from typing import ClassVar

MAX_MESSAGE = 1024
MAX_REFLECTED = 128


def printable(value: object, limit: int = MAX_REFLECTED) -> str:
    """Client text as it may stand in a message or a log line: printable characters, at most `limit`."""
    text = value if isinstance(value, str) else _written(value)
    cut = text[:limit]
    safe = "".join(character if character.isprintable() else "?" for character in cut)
    return safe + "…" if len(text) > limit else safe


def _written(value: object) -> str:
    """A scalar as text; of anything else only what it is, for it may be deep, large or slow to write."""
    if isinstance(value, (float, type(None))) or (isinstance(value, int) and value.bit_length() < 1024):
        return str(value)
    return f"a {type(value).__name__}"


class Fault(Exception):
    """A failure with a symbolic code; `message` is fit to be sent to the caller.

    Attributes:
        code: the symbolic name, equal on every front.
        retry_after: seconds after which a retry makes sense, or None when it does not.
    """

    code: ClassVar[str] = "INTERNAL"
    retry_after: int | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = printable(message, MAX_MESSAGE)


class BadRequest(Fault):
    """Malformed bytes, or tensors that are not this model's: shape, datatype, count, names."""

    code = "BAD_REQUEST"


class Unprocessable(BadRequest):
    """Well-formed tensors with a value that breaks the model's declared contract."""

    code = "UNPROCESSABLE"


class InvalidInput(Unprocessable):
    """Raised by a runtime when the data, not the model, is at fault."""


class Unsupported(BadRequest):
    """A protocol extension that this server does not offer, or that is switched off."""

    code = "UNSUPPORTED"


class Unauthorized(BadRequest):
    """The caller has not said who it is, or is nobody that is known."""

    code = "UNAUTHORIZED"


class Forbidden(BadRequest):
    """The caller is known, and may not do this."""

    code = "FORBIDDEN"


class NotFound(BadRequest):
    """No such model, version or route."""

    code = "NOT_FOUND"


class MethodNotAllowed(BadRequest):
    """The route exists, the method does not."""

    code = "METHOD_NOT_ALLOWED"


class RequestTimeout(BadRequest):
    """The caller was too slow to send its request."""

    code = "REQUEST_TIMEOUT"


class PayloadTooLarge(BadRequest):
    """A body over its limit, before or after decompression."""

    code = "PAYLOAD_TOO_LARGE"


class UriTooLong(BadRequest):
    """A request target over its limit."""

    code = "URI_TOO_LONG"


class HeadersTooLarge(BadRequest):
    """Header bytes or a header count over their limits."""

    code = "HEADERS_TOO_LARGE"


class UnsupportedMediaType(BadRequest):
    """A content type or content encoding that this server does not read."""

    code = "UNSUPPORTED_MEDIA_TYPE"


class AlreadyExists(BadRequest):
    """A name that is to be given to something new, and is taken."""

    code = "ALREADY_EXISTS"


class Conflict(BadRequest):
    """An idempotency key that was used before, for another request."""

    code = "CONFLICT"


class RateLimited(Fault):
    """The caller asks more often than it may; nothing was done.

    Args:
        retry_after: whole seconds, at least 1.
    """

    code = "RATE_LIMIT"
    retry_after = 1

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotReady(Fault):
    """The server or the model does not serve now; nothing was done, a retry is safe."""

    code = "NOT_READY"
    retry_after = 1


class Overloaded(Fault):
    """A bounded queue is full; nothing was done, a retry is safe."""

    code = "OVERLOADED"
    retry_after = 1


class DeadlineExceeded(Fault):
    """The request's deadline passed before its answer was there."""

    code = "TIMEOUT"


class Cancelled(Fault):
    """The caller left before its answer was there."""

    code = "CANCELLED"


class InferenceFailed(Fault):
    """The model raised, or answered something that is not what it announces."""

    code = "INFERENCE_FAILED"


class InternalError(Fault):
    """A bug of this server."""

    code = "INTERNAL"
