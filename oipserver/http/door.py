"""One infer request over HTTP, without ASGI: headers in, body in, answer out.

Every way into the HTTP front goes through an `Exchange`: `admit` before a body is read, `infer` with the
body, `cancel` when the caller leaves.  The order of the checks is method and route (before), draining, model,
size, content, tensors, queue.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from oipserver.core.admission import Admission
from oipserver.core.dataplane import DataPlane
from oipserver.core.errors import (
    BadRequest,
    Fault,
    InternalError,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from oipserver.core.ids import new_id, valid_request_id
from oipserver.core.messages import InferenceResponse
from oipserver.core.scheduler import Ticket
from oipserver.http import compression
from oipserver.http.errors import Headers, error_response
from oipserver.http.wire import Envelope, Plan, decode_raw_request, decode_request, encode_response

logger = logging.getLogger("oipserver.http")

COMPRESS_FROM = 1024
# Smaller answers are compressed on the event loop: a thread costs more than it saves.
COMPRESS_INLINE = 32768

_WANTED = frozenset(
    (
        b"accept-encoding",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"inference-header-content-length",
        b"x-request-id",
    )
)


@dataclass(slots=True)
class Answer:
    """What goes back on the wire.

    Attributes:
        encoding: the content coding that the body should still get, or None.
    """

    status: int
    headers: Headers
    body: bytes
    encoding: str | None = None


Reply: TypeAlias = Callable[[Answer], None]


@dataclass(frozen=True, slots=True)
class InferSettings:
    """Limits of one infer request: bytes of a JSON body, of a binary body, and seconds until the deadline."""

    max_json_bytes: int
    max_body_bytes: int
    default_timeout: float


def parse_infer_path(path: str) -> tuple[str, str | None] | None:
    """Model and version of an infer path; None when it is no such path."""
    parts = path.split("/")
    if parts[:3] != ["", "v2", "models"]:
        return None
    if len(parts) == 5:
        return parts[3], None
    if len(parts) == 7 and parts[4] == "versions":
        return parts[3], parts[5]
    return None


async def compressed(answer: Answer) -> Answer:
    """The answer in the coding that was negotiated for it; on a thread where that takes its time."""
    if answer.encoding is None:
        return answer
    if len(answer.body) <= COMPRESS_INLINE:
        answer.body = compression.compress(answer.body, answer.encoding)
    else:
        answer.body = await asyncio.to_thread(compression.compress, answer.body, answer.encoding)
    answer.headers += [(b"content-encoding", answer.encoding.encode()), (b"vary", b"accept-encoding")]
    return answer


class Exchange:
    """One request and its answer.

    Attributes:
        request_id: for headers, error bodies and logs.
        encoding: the request's Content-Encoding; "" for none.
        admitted: `admit` had nothing against it.
    """

    def __init__(
        self, plane: DataPlane, settings: InferSettings, headers: Iterable[tuple[bytes, bytes]]
    ) -> None:
        self._plane = plane
        self._settings = settings
        self._headers = _wanted(headers)
        given = self._headers.get(b"x-request-id", "")
        self._has_own_id = valid_request_id(given)
        self.request_id = given if self._has_own_id else new_id()
        encoding = self._headers.get(b"content-encoding", "").lower()
        self.encoding = "" if encoding == "identity" else encoding
        self.admitted = False
        self._admission: Admission | None = None
        self._ticket: Ticket | None = None
        self._envelope: Envelope
        self._plan: Plan
        self._reply: Reply

    @property
    def body_limit(self) -> int:
        """Bytes that the body may have, before and after decompression."""
        binary = b"inference-header-content-length" in self._headers
        return self._settings.max_body_bytes if binary else self._settings.max_json_bytes

    @property
    def content_length(self) -> int | None:
        """The announced body size; None when it is not announced (chunked)."""
        length = self._headers.get(b"content-length")
        return int(length) if length is not None and length.isdecimal() else None

    def admit(self, model: str, version: str | None) -> None:
        """Everything that can be refused before a body is read.

        Raises:
            Fault: draining, unknown model, not ready, too large, a content that is not read here.
        """
        self._admission = self._plane.gate.admit("http")
        self._admission.model, self._admission.version = self._plane.serving(model, version)
        self._envelope = Envelope(model, version, self.request_id, self._settings.default_timeout)
        self.check_size(self.content_length or 0)
        self._check_json_size()
        if self.encoding:
            compression.check_encoding(self.encoding)
        content_type = self._headers.get(b"content-type", "").lower()
        if content_type.startswith("multipart/"):
            raise UnsupportedMediaType("multipart bodies are not read here; send JSON or binary tensor data")
        self.admitted = True

    def try_admit(self, model: str, version: str | None) -> Answer | None:
        """As `admit`, with the refusal as an answer; None when there is none."""
        try:
            self.admit(model, version)
        except Fault as fault:
            return self.refused(fault)
        except Exception:
            logger.exception("request %s failed", self.request_id)
            return self.refused(InternalError("internal error"))
        return None

    def check_size(self, size: int) -> None:
        """PayloadTooLarge when a body of `size` bytes is over the limit."""
        if size > self.body_limit:
            raise PayloadTooLarge(f"the body has more than {self.body_limit} bytes")

    def _check_json_size(self) -> None:
        """The JSON in front of binary data has the limit of a JSON body: parsing holds the interpreter."""
        length, limit = (
            self._headers.get(b"inference-header-content-length", ""),
            self._settings.max_json_bytes,
        )
        if length.isdecimal() and len(length) < 20 and int(length) > limit:
            raise PayloadTooLarge(f"the JSON in front of the binary data has more than {limit} bytes")

    def decompress(self, body: bytes) -> bytes:
        """The body without its Content-Encoding; takes its time, so not for the event loop.

        Raises:
            BadRequest: corrupt or truncated.
            PayloadTooLarge: larger than the limit when inflated.
        """
        return compression.decompress(body, self.encoding, self.body_limit)

    def infer(self, body: bytes, reply: Reply) -> None:
        """Decode, queue, and hand the answer to `reply`, at once when the request is refused."""
        self._reply = reply
        try:
            self._submit(body)
        except Fault as fault:
            reply(self.refused(fault))
        except Exception:
            logger.exception("request %s failed", self.request_id)
            reply(self.refused(InternalError("internal error")))

    def cancel(self) -> None:
        """The caller has left: free its place, answer nobody."""
        if self._ticket is not None:
            self._ticket.cancel()
        self._finish("CANCELLED")

    def refused(self, fault: Fault) -> Answer:
        """The answer that says what was wrong."""
        self._finish(fault.code)
        return Answer(*error_response(fault, self.request_id))

    def _submit(self, body: bytes) -> None:
        header_length = self._headers.get(b"inference-header-content-length")
        if header_length == "0" and body:
            inputs = self._plane.model_metadata(
                self._envelope.model_name, self._envelope.model_version
            ).inputs
            request, self._plan = decode_raw_request(body, inputs, self._envelope)
        else:
            request, self._plan = decode_request(body, header_length, self._envelope)
        if not self._has_own_id and valid_request_id(request.id):
            self.request_id = request.id
        self._ticket = self._plane.submit(request, self._answered, self._admission)

    def _answered(self, result: InferenceResponse | Fault) -> None:
        try:
            answer = self.refused(result) if isinstance(result, Fault) else self._encoded(result)
        except BadRequest as fault:  # an output that JSON cannot carry
            answer = self.refused(fault)
        except Exception:
            logger.exception("the answer to request %s could not be encoded", self.request_id)
            answer = self.refused(InternalError("internal error"))
        self._reply(answer)

    def _encoded(self, response: InferenceResponse) -> Answer:
        body = encode_response(response, self._plan)
        headers: Headers = [
            (b"content-type", body.content_type),
            (b"x-request-id", self.request_id.encode()),
        ]
        if body.header_length is not None:
            headers.append((b"inference-header-content-length", b"%d" % body.header_length))
        encoding = None
        if len(body.data) >= COMPRESS_FROM and b"accept-encoding" in self._headers:
            encoding = compression.negotiate(self._headers[b"accept-encoding"])
        self._finish("OK")
        return Answer(200, headers, body.data, encoding)

    def _finish(self, code: str) -> None:
        if self._admission is not None:
            self._admission.finish(code)


def _wanted(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, str]:
    """The headers that an infer request is read by; RFC 9110, 5.3: one that comes twice is a list."""
    found: dict[bytes, str] = {}
    for name, value in headers:
        if name in _WANTED:
            text = value.decode("latin-1").strip()
            found[name] = f"{found[name]}, {text}" if name in found else text
    return found
