"""One infer request over HTTP, without ASGI: headers in, body in, answer out.

Every way into the HTTP front goes through an `Exchange`: `admit` before a body is read, `infer` with the
body, `cancel` when the caller leaves.  The order of the checks is method and route (before), draining,
caller, model, size, content, tensors, queue.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from oipserver.core.admission import Admission, Caller, Right
from oipserver.core.contract import Work
from oipserver.core.dataplane import DataPlane, Handle
from oipserver.core.errors import (
    BadRequest,
    Fault,
    InternalError,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from oipserver.core.idempotency import check_key
from oipserver.core.ids import new_id, valid_request_id, valid_traceparent
from oipserver.core.messages import InferenceRequest, InferenceResponse
from oipserver.core.registry import Version
from oipserver.http import compression
from oipserver.http.access import identify
from oipserver.http.errors import Headers, error_response
from oipserver.http.template import read_json
from oipserver.http.timing import SERVER_TIMING, server_timing
from oipserver.http.wire import Body, Envelope, Plan, decode_raw_request, decode_request, encode_response

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
        b"idempotency-key",
        b"inference-header-content-length",
        b"traceparent",
        b"x-request-id",
    )
)


@dataclass(slots=True)
class Head:
    """What the headers of an infer request say.

    Attributes:
        request_id: the caller's, when it may enter a header again; "" for none.
        encoding: Content-Encoding; "" for none.
        header_length: the value of Inference-Header-Content-Length; None when the body is JSON alone.
        headers: all, as they came.
        idempotency: the value of Idempotency-Key; None without.
        content_length: the announced body size in bytes; None when it is not announced (chunked).
        trace: the caller's `traceparent`; "" for none.
    """

    request_id: str
    encoding: str
    accept_encoding: str
    content_type: str
    header_length: str | None
    content_length: int | None
    trace: str = ""
    headers: Iterable[tuple[bytes, bytes]] = ()
    idempotency: str | None = None


def read_head(headers: Sequence[tuple[bytes, bytes]]) -> Head:
    """Read the headers once; names are lower case.  RFC 9110, 5.3: one that comes twice is a list."""
    found: dict[bytes, str] = {}
    for name, value in headers:
        if name in _WANTED:
            text = value.decode("latin-1").strip()
            found[name] = f"{found[name]}, {text}" if name in found else text
    request_id = found.get(b"x-request-id", "")
    encoding = found.get(b"content-encoding", "").lower()
    length = found.get(b"content-length", "")
    return Head(
        request_id=request_id if valid_request_id(request_id) else "",
        encoding="" if encoding == "identity" else encoding,
        accept_encoding=found.get(b"accept-encoding", ""),
        content_type=found.get(b"content-type", "").lower(),
        header_length=found.get(b"inference-header-content-length"),
        content_length=int(length) if length.isdecimal() else None,
        trace=valid_traceparent(found.get(b"traceparent", "")),
        headers=headers,
        idempotency=found.get(b"idempotency-key"),
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
    """Limits of one infer request: bytes of a JSON body, of a binary body, and seconds until the deadline.

    Attributes:
        server_timing: good answers say where their time went.
        busy_poll: seconds that the loop looks for the next request before it sleeps; see `BusyPoll`.
    """

    max_json_bytes: int
    max_body_bytes: int
    default_timeout: float
    server_timing: bool = False
    busy_poll: float = 0.0


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
    """The answer in the coding that was negotiated for it; on a thread where that takes its time.

    An answer that cannot be compressed stays as it is: every client reads it.
    """
    encoding, answer.encoding = answer.encoding, None
    if encoding is None:
        return answer
    try:
        if len(answer.body) <= COMPRESS_INLINE and compression.loaded(encoding):
            answer.body = compression.compress(answer.body, encoding)
        else:
            answer.body = await asyncio.to_thread(compression.compress, answer.body, encoding)
    except Exception:
        logger.exception("an answer could not be compressed")
        return answer
    answer.headers += [(b"content-encoding", encoding.encode()), (b"vary", b"accept-encoding")]
    return answer


def ok_answer(body: Body, request_id: str, accept_encoding: str, timing: bytes = b"") -> Answer:
    """The answer with an encoded response, in the best coding that its caller takes.

    Args:
        timing: for Server-Timing, unless it is empty.
    """
    headers: Headers = [(b"content-type", body.content_type), (b"x-request-id", request_id.encode())]
    if timing:
        headers.append((SERVER_TIMING, timing))
    if body.header_length is not None:
        headers.append((b"inference-header-content-length", b"%d" % body.header_length))
    encoding = None
    if len(body.data) >= COMPRESS_FROM and accept_encoding:
        encoding = compression.negotiate(accept_encoding)
    return Answer(200, headers, body.data, encoding)


class Exchange:
    """One request and its answer.

    Attributes:
        request_id: for headers, error bodies and logs.
        body_limit: bytes that the body may have, before and after decompression.
        admitted: `admit` had nothing against it.
        route: for the log.
    """

    route: ClassVar[str] = "/v2/models/{model}/infer"

    __slots__ = (
        "_admission",
        "_envelope",
        "_plan",
        "_plane",
        "_reply",
        "_settings",
        "_ticket",
        "_version",
        "admitted",
        "body_limit",
        "head",
        "request_id",
    )

    _envelope: Envelope
    _plan: Plan
    _version: Version

    def __init__(self, plane: DataPlane, settings: InferSettings, head: Head) -> None:
        self._plane = plane
        self._settings = settings
        self.head = head
        self.request_id = head.request_id or new_id()
        json_alone = head.header_length is None
        self.body_limit = settings.max_json_bytes if json_alone else settings.max_body_bytes
        self.admitted = False
        self._admission: Admission | None = None
        self._reply: Reply | None = None
        self._ticket: Handle | None = None

    def admit(self, model: str, version: str | None) -> None:
        """Everything that can be refused before a body is read.

        Raises:
            Fault: draining, a caller that may not, or too often, unknown model, not ready, too large, a
                content that is not read here.
        """
        head, plane = self.head, self._plane
        self._admission = admission = plane.gate.admit("http")
        admission.caller = caller = identify(plane.gate.guard, head.headers)
        model = self._named(model, caller)
        caller.permit(Right.INFER, model)
        caller.take()
        if head.idempotency is not None:
            admission.idempotency = check_key(head.idempotency)
        self._version = plane.serving(model, version, admission)
        seconds = self._settings.default_timeout
        self._envelope = Envelope(model, version, self.request_id, seconds, plane.regions)
        if head.content_length is not None:
            self.check_size(head.content_length)
        if head.header_length is not None:
            self._check_json_size(head.header_length)
        if head.encoding:
            compression.check_encoding(head.encoding)
        if head.content_type.startswith("multipart/"):
            raise UnsupportedMediaType("multipart bodies are not read here; send JSON or binary tensor data")
        self.admitted = True

    def _named(self, model: str, caller: Caller) -> str:
        """The model that is meant; doors without one in their path find it here."""
        return model

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
            raise self.too_large()

    def too_large(self) -> PayloadTooLarge:
        """What is wrong with a body over the limit."""
        return PayloadTooLarge(f"the body has more than {self.body_limit} bytes")

    def _check_json_size(self, length: str) -> None:
        """The JSON in front of binary data has the limit of a JSON body: parsing holds the interpreter."""
        limit = self._settings.max_json_bytes
        if length.isdecimal() and len(length) < 20 and int(length) > limit:
            raise PayloadTooLarge(f"the JSON in front of the binary data has more than {limit} bytes")

    def decompress(self, body: bytes) -> bytes:
        """The body without its Content-Encoding; takes its time, so not for the event loop.

        Raises:
            BadRequest: corrupt or truncated.
            PayloadTooLarge: larger than the limit when inflated.
        """
        return compression.decompress(body, self.head.encoding, self.body_limit)

    def infer(self, body: bytes, reply: Reply) -> None:
        """Decode, queue, and hand the answer to `reply`, at once when the request is refused."""
        self._reply = reply
        if self._admission is not None:
            self._admission.size = len(body)
        try:
            self._submit(body)
        except Fault as fault:
            self._hand_over(self.refused(fault))
        except Exception:
            logger.exception("request %s failed", self.request_id)
            self._hand_over(self.refused(InternalError("internal error")))

    def cancel(self) -> None:
        """The caller has left: free its place, answer nobody."""
        if self._ticket is not None:
            self._ticket.cancel()
        self._reply = None
        self._finish("CANCELLED")

    def refused(self, fault: Fault) -> Answer:
        """The answer that says what was wrong."""
        self._finish(fault.code)
        return Answer(*error_response(fault, self.request_id))

    def _submit(self, body: bytes) -> None:
        began, admission = time.perf_counter(), self._admission
        request, self._plan, work = self._read(body)
        if admission is not None:
            admission.decode = time.perf_counter() - began
        if request.id != self.request_id and not self.head.request_id and valid_request_id(request.id):
            self.request_id = request.id
        self._ticket = self._plane.enqueue(request, work, self._version, self._answered, admission)

    def _read(self, body: bytes) -> tuple[InferenceRequest, Plan, Work]:
        contract, length, envelope = self._version.contract, self.head.header_length, self._envelope
        if length is None:
            return read_json(body, envelope, contract)
        if length == "0" and body:
            request, plan = decode_raw_request(body, contract.model.inputs, envelope)
        else:
            request, plan = decode_request(body, length, envelope)
        return request, plan, contract.check(request)

    def _answered(self, result: InferenceResponse | Fault) -> None:
        try:
            answer = self.refused(result) if isinstance(result, Fault) else self._encoded(result)
        except BadRequest as fault:  # an output that JSON cannot carry
            answer = self.refused(fault)
        except Exception:
            logger.exception("the answer to request %s could not be encoded", self.request_id)
            answer = self.refused(InternalError("internal error"))
        self._hand_over(answer)

    def _hand_over(self, answer: Answer) -> None:
        """Once, and not kept: whoever takes it may hold on to this exchange."""
        reply, self._reply = self._reply, None
        if reply is not None:
            reply(answer)

    def _encoded(self, response: InferenceResponse) -> Answer:
        began, admission = time.perf_counter(), self._admission
        body = encode_response(response, self._plan)
        if admission is not None:
            admission.encode = time.perf_counter() - began
        self._finish("OK")
        return ok_answer(body, self.request_id, self.head.accept_encoding, self._timing())

    def _timing(self) -> bytes:
        """The value of Server-Timing; nothing where it is not wanted.  For finished requests."""
        admission = self._admission
        if not self._settings.server_timing or admission is None or admission.phases is None:
            return b""
        return server_timing(admission.phases)

    def _finish(self, code: str) -> None:
        admission = self._admission
        if admission is not None:
            admission.route, admission.request_id = self.route, self.request_id
            admission.trace = self.head.trace
            admission.finish(code)
