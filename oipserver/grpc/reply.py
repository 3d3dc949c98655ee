"""How the answer of an inference leaves, from the event loop.

What is small is encoded and sent there, see `Inside.end`; what is large, and everything where grpcio's
inside is not as expected, by a thread, because `send` waits until a message is written.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TypeAlias

import grpc

from oipserver.core.contract import nbytes_of
from oipserver.core.errors import Fault, InternalError
from oipserver.core.messages import InferenceResponse
from oipserver.grpc import errors, wire
from oipserver.grpc.handover import Turns

log = logging.getLogger(__name__)

# What is larger is encoded in a thread, so that the loop is never held up by a copy.
LARGE_BYTES = 2**16

# Ends a call: with a message and the status, or with None and the status that was set.
End: TypeAlias = Callable[[bytes | None], None]


class Replies:
    """Sends the answers of a server.

    Answers that are ready in the same turn of the loop leave together at its end: every one wakes a thread of
    grpcio's, which on a busy core would interrupt what makes the next.

    Args:
        pool: encodes and sends what is large.
        waits: `End` waits until a message is written.
        others: as for `Turns`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: ThreadPoolExecutor,
        waits: bool,
        others: Callable[[], int],
    ) -> None:
        self._loop = loop
        self._turns = Turns(others)
        self._pool = pool
        self._waits = waits
        self._outbox: deque[tuple[grpc.ServicerContext, End, bytes | None]] = deque()

    def send(
        self,
        context: grpc.ServicerContext,
        end: End,
        result: InferenceResponse | Fault,
        request_id: str,
        raw: bool,
    ) -> None:
        """End a call, on the loop; a peer that has left is no error.  Never raises."""
        try:
            if isinstance(result, InferenceResponse) and (self._waits or _is_large(result)):
                self._pool.submit(_send_alone, context, end, result, request_id, raw)
                return
            if not self._outbox:
                self._loop.call_soon(self._flush)
            self._outbox.append((context, end, _prepare(context, result, request_id, raw)))
        except Exception:
            _give_up(context)

    def _flush(self) -> None:
        outbox, until = self._outbox, self._turns.end()
        while outbox:
            _leave(*outbox.popleft())
            if perf_counter() > until and outbox:
                self._loop.call_soon(self._flush)
                return


def _send_alone(
    context: grpc.ServicerContext, end: End, result: InferenceResponse, request_id: str, raw: bool
) -> None:
    try:
        end(_prepare(context, result, request_id, raw))
    except Exception:
        _give_up(context)


def _prepare(
    context: grpc.ServicerContext, result: InferenceResponse | Fault, request_id: str, raw: bool
) -> bytes | None:
    """The message, or None and a status; what goes behind it is set."""
    answer = result if isinstance(result, Fault) else _encode(result, raw)
    if isinstance(answer, Fault):
        errors.set_status(context, answer, request_id)
        return None
    context.set_trailing_metadata(((errors.REQUEST_ID, request_id),))
    return answer


def _leave(context: grpc.ServicerContext, end: End, answer: bytes | None) -> None:
    try:
        end(answer)
    except Exception:
        _give_up(context)


def _give_up(context: grpc.ServicerContext) -> None:
    """Leave nobody waiting for an answer that cannot be sent; in an `except` block."""
    log.exception("an answer could not be sent")
    context.cancel()  # type: ignore[no-untyped-call]


def _encode(response: InferenceResponse, raw: bool) -> bytes | Fault:
    try:
        return wire.encode_response(response, raw)
    except Fault as fault:
        return fault
    except Exception:
        log.exception("an answer could not be encoded")
        return InternalError("internal error")


def _is_large(response: InferenceResponse) -> bool:
    # Pointers first: they bound how many elements of BYTES are measured on the loop.
    arrays = [output.data for output in response.outputs]
    return sum(array.nbytes for array in arrays) > LARGE_BYTES or sum(map(nbytes_of, arrays)) > LARGE_BYTES
