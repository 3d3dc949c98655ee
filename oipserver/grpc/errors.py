"""Faults as gRPC statuses: the one table of this front, and what goes with a status.

Every status that this server sends, good or bad, has the trailer `x-request-id`; a failure also has
`error-code`, the symbolic code that is the same over HTTP.
"""

from __future__ import annotations

from typing import NoReturn

import grpc

from oipserver.core.errors import Fault
from oipserver.core.ids import valid_request_id, valid_traceparent

REQUEST_ID = "x-request-id"
TRACEPARENT = "traceparent"
ERROR_CODE = "error-code"
IDEMPOTENCY_KEY = "idempotency-key"
# A status travels in a header of 16 kB, percent-encoded (at most threefold).
MAX_DETAILS = 1024

STATUS: dict[str, grpc.StatusCode] = {
    "BAD_REQUEST": grpc.StatusCode.INVALID_ARGUMENT,
    "UNPROCESSABLE": grpc.StatusCode.INVALID_ARGUMENT,
    "UNSUPPORTED": grpc.StatusCode.UNIMPLEMENTED,
    "UNAUTHORIZED": grpc.StatusCode.UNAUTHENTICATED,
    "FORBIDDEN": grpc.StatusCode.PERMISSION_DENIED,
    "NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "METHOD_NOT_ALLOWED": grpc.StatusCode.UNIMPLEMENTED,
    "REQUEST_TIMEOUT": grpc.StatusCode.DEADLINE_EXCEEDED,
    "CONFLICT": grpc.StatusCode.FAILED_PRECONDITION,
    "ALREADY_EXISTS": grpc.StatusCode.ALREADY_EXISTS,
    "RATE_LIMIT": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "PAYLOAD_TOO_LARGE": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "URI_TOO_LONG": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "HEADERS_TOO_LARGE": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "UNSUPPORTED_MEDIA_TYPE": grpc.StatusCode.UNIMPLEMENTED,
    "NOT_READY": grpc.StatusCode.UNAVAILABLE,
    "OVERLOADED": grpc.StatusCode.UNAVAILABLE,
    "TIMEOUT": grpc.StatusCode.DEADLINE_EXCEEDED,
    "CANCELLED": grpc.StatusCode.CANCELLED,
    "INFERENCE_FAILED": grpc.StatusCode.INTERNAL,
    "INTERNAL": grpc.StatusCode.INTERNAL,
}


def given_request_id(context: grpc.ServicerContext) -> str:
    """The caller's request id where it is fit to be sent back, else nothing."""
    return given_labels(context)[0]


def given_labels(context: grpc.ServicerContext) -> tuple[str, str, str | None]:
    """As `given_request_id`, and `traceparent`, "" for what there is not, and the idempotency key."""
    request_id = trace = ""
    idempotency = None
    for key, value in context.invocation_metadata():
        if key == REQUEST_ID and not request_id and isinstance(value, str) and valid_request_id(value):
            request_id = value
        elif key == TRACEPARENT and isinstance(value, str):
            trace = valid_traceparent(value)
        elif key == IDEMPOTENCY_KEY:
            idempotency = str(value)
    return request_id, trace, idempotency


def set_status(context: grpc.ServicerContext, fault: Fault, request_id: str) -> None:
    """Prepare the fault's status for a call that is ended elsewhere."""
    context.set_trailing_metadata(((ERROR_CODE, fault.code), (REQUEST_ID, request_id)))
    context.set_code(STATUS[fault.code])
    context.set_details(details(fault))


def abort(context: grpc.ServicerContext, fault: Fault, request_id: str) -> NoReturn:
    """End the call with the fault's status; raises, as `ServicerContext.abort` does."""
    set_status(context, fault, request_id)
    context.abort(STATUS[fault.code], details(fault))


def details(fault: Fault) -> str:
    """The fault's message in at most MAX_DETAILS bytes."""
    return fault.message.encode()[:MAX_DETAILS].decode(errors="ignore")
