"""How the answer of an inference leaves, from the event loop, without waking a thread.

grpcio lets a behaviour return at once and answer later (`experimental_non_blocking`, as its own health
service does).  Its `send` ends a call without a message at once, but waits until a message is written, so
from the loop the message and the status go out together through `grpc._server._status`, which every unary
call of grpcio ends in.  Where a version of grpcio has no such function, threads wait in `send`: slower by
half, otherwise the same.
"""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import grpc

from oipserver.core.contract import nbytes_of
from oipserver.core.errors import Fault, InternalError
from oipserver.core.messages import InferenceResponse
from oipserver.grpc import errors, wire

log = logging.getLogger(__name__)

# What is larger is encoded in a thread, so that the loop is never held up by a copy.
LARGE_BYTES = 2**16

Send: TypeAlias = Callable[[bytes | None], None]
Finish: TypeAlias = Callable[[Any, Any, bytes], None]


def find_finish() -> Finish | None:
    """grpcio's function that sends message and status at once; None where it is not as expected."""
    server = importlib.import_module("grpc._server")
    finish: Finish | None = getattr(server, "_status", None)
    context = getattr(server, "_Context", None)
    if finish is None or context is None:
        return None
    wanted = {"rpc_event", "state", "serialized_response"}
    if set(inspect.signature(finish).parameters) != wanted:
        return None
    return finish if {"rpc_event", "state"} <= set(inspect.signature(context).parameters) else None


class Replies:
    """What all replies of a server share.

    Args:
        pool: encodes and sends what is large.
        finish: see `find_finish`.
    """

    def __init__(self, pool: ThreadPoolExecutor, finish: Finish | None) -> None:
        self._pool = pool
        self._finish = finish

    def send(self, reply: Reply, result: InferenceResponse | Fault) -> None:
        """Send a reply; on the loop."""
        if isinstance(result, InferenceResponse) and (self._finish is None or _is_large(result)):
            self._pool.submit(reply.send, result, self._finish)
        else:
            reply.send(result, self._finish)


class Reply:
    """The way back of one call."""

    __slots__ = ("_context", "_raw", "_request_id", "_send")

    def __init__(self, context: grpc.ServicerContext, send: Send, request_id: str, raw: bool) -> None:
        self._context = context
        self._send = send
        self._request_id = request_id
        self._raw = raw

    def send(self, result: InferenceResponse | Fault, finish: Finish | None) -> None:
        """Encode and send; a peer that has left is no error.  Never raises."""
        try:
            self._leave(result, finish)
        except Exception:
            log.exception("an answer could not be sent")
            self._context.cancel()  # type: ignore[no-untyped-call]

    def _leave(self, result: InferenceResponse | Fault, finish: Finish | None) -> None:
        answer = result if isinstance(result, Fault) else self._encode(result)
        context = self._context
        if isinstance(answer, Fault):
            errors.set_status(context, answer, self._request_id)
            self._send(None)
            return
        context.set_trailing_metadata(((errors.REQUEST_ID, self._request_id),))
        if finish is not None:
            finish(context._rpc_event, context._state, answer)  # type: ignore[attr-defined]
        else:
            self._send(answer)
            self._send(None)

    def _encode(self, response: InferenceResponse) -> bytes | Fault:
        try:
            return wire.encode_response(response, self._raw)
        except Fault as fault:
            return fault
        except Exception:
            log.exception("an answer could not be encoded")
            return InternalError("internal error")


def _is_large(response: InferenceResponse) -> bool:
    # Pointers first: they bound how many elements of BYTES are measured on the loop.
    arrays = [output.data for output in response.outputs]
    return sum(array.nbytes for array in arrays) > LARGE_BYTES or sum(map(nbytes_of, arrays)) > LARGE_BYTES
