"""ModelStreamInfer: many inferences over one call, each answered when it is ready.

A stream holds one thread, which reads and decodes its requests; the data plane computes them on the event
loop, together with everybody's; another thread encodes and sends their answers while there are any.  Both
come from pools of their own, as many as there may be streams, so that no stream ever holds up another call.

Rule: what is wrong with a request is an answer, and the stream goes on.  A caller who sends faster than it
is answered, or does not read, is not read from: `MAX_OUTSTANDING` requests of a stream are inside at most,
and a request is inside until its last answer was sent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

import grpc

from oipserver.core.admission import Admission, Caller, Right
from oipserver.core.dataplane import DataPlane
from oipserver.core.delivery import delivered_or_fault
from oipserver.core.errors import Fault, InternalError, NotReady
from oipserver.core.ids import new_id, valid_request_id
from oipserver.core.messages import Deliveries, InferenceRequest, InferenceResponse
from oipserver.core.streaming import Single, Stream
from oipserver.grpc import errors, wire
from oipserver.grpc.access import identify
from oipserver.grpc.handover import Handover
from oipserver.grpc.patience import Patience

log = logging.getLogger(__name__)

Send: TypeAlias = Callable[[bytes | None], None]

ROUTE = "ModelStreamInfer"
MAX_STREAMS = 32
MAX_OUTSTANDING = 64
# Seconds that a peer may take to read one answer.
READ_SECONDS = 30.0


class StreamInfer:
    """ModelStreamInfer; grpcio reads the attributes: the thread that reads is free when the caller is done.

    Attributes:
        slots: one for each stream, taken in `Servicer.service`.

    Args:
        default_timeout: seconds for each request; a caller may only shorten it.
    """

    experimental_non_blocking = True

    def __init__(
        self,
        plane: DataPlane,
        handover: Handover,
        patience: Patience,
        pool: ThreadPoolExecutor,
        senders: ThreadPoolExecutor,
        default_timeout: float,
    ) -> None:
        self.plane = plane
        self.handover = handover
        self.patience = patience
        self.experimental_thread_pool = pool
        self.senders = senders
        self.default_timeout = default_timeout
        self.slots = threading.BoundedSemaphore(MAX_STREAMS)
        self._open: set[_Channel] = set()

    def __call__(self, messages: Iterator[bytes], context: grpc.ServicerContext, send: Send) -> None:
        try:
            channel = _Channel(self, context, send)
        except Fault as fault:
            errors.set_status(context, fault, errors.given_request_id(context) or new_id())
            send(None)
            self.slots.release()
            return
        self._open.add(channel)
        channel.open()
        channel.read(messages)

    def forget(self, channel: _Channel) -> None:
        """A stream is over, and its reader too."""
        self._open.discard(channel)
        self.slots.release()

    def close(self) -> None:
        """The server stops: every stream ends when its answers are out; returns at once."""
        for channel in self._open.copy():
            channel.close()


class _Channel:
    """One call of ModelStreamInfer.  Threads: its reader, one sender at a time, the loop, grpcio's own.

    Attributes:
        over: the RPC has ended, nobody waits any more.
        request_id, trace: of the call.
    """

    def __init__(self, owner: StreamInfer, context: grpc.ServicerContext, send: Send) -> None:
        self.owner = owner
        self.over = False
        self._guard = guard = owner.plane.gate.guard
        self._generation = guard.generation
        self._caller = identify(guard, context)
        self._context = context
        self._send = send
        given, self.trace, _ = errors.given_labels(context)
        self.request_id = given or new_id()
        self._room = threading.Semaphore(MAX_OUTSTANDING)
        self._outbox: deque[_Item] = deque()
        self._inside: set[_Inference] = set()  # on the loop only
        self._lock = threading.Lock()
        # Under the lock.
        self._sending = False
        self._reading = True
        self._closing = False
        self._ended = False
        self._outstanding = 0

    # --- on the reader's thread ---

    def open(self) -> None:
        """Learn of the end of the RPC, whenever that is."""
        if not self._context.add_callback(self._on_end):
            self._on_end()

    def read(self, messages: Iterator[bytes]) -> None:
        """Take requests until the caller has no more, or is gone."""
        try:
            while (body := self._next_body(messages)) is not None:
                self._take(body)
        except grpc.RpcError:  # the call is over
            pass
        except Exception:
            log.exception("a stream failed")
            self._cancel()
        finally:
            self._stop_reading()

    def _next_body(self, messages: Iterator[bytes]) -> bytes | None:
        self._room.acquire()
        return None if self.over else next(messages, None)

    def _take(self, body: bytes) -> None:
        with self._lock:
            self._outstanding += 1
        inference = _Inference(self, self._decode(body))
        self.owner.handover.post(inference.start)

    def _decode(self, body: bytes) -> _Asked:
        made_id = new_id()
        now = time.monotonic()
        deadline = now + min(self.owner.default_timeout, self._context.time_remaining())
        try:
            asked = wire.decode_request(body, now, deadline, made_id, self.owner.plane.regions)
        except Fault as fault:
            return _Asked(wire.find_id(body) or made_id, fault)
        except Exception:
            log.exception("a request could not be decoded")
            return _Asked(wire.find_id(body) or made_id, InternalError("internal error"))
        return _Asked(asked.request.id, asked.request, asked.raw, asked.empty_final)

    def _stop_reading(self) -> None:
        with self._lock:
            self._reading = False
            forgotten = self.over
        self._end_when_done()
        if forgotten:
            self.owner.forget(self)

    # --- on the loop ---

    def enter(self, inference: _Inference) -> bool:
        """Take note of an inference that begins; False when nobody waits for it."""
        if self.over:
            return False
        self._inside.add(inference)
        return True

    def caller(self) -> Caller:
        """Who asks; a stream may last longer than its key is good.

        Raises:
            Unauthorized: it is not any more.
        """
        guard = self._guard
        if self._generation != guard.generation:
            self._caller = identify(guard, self._context)
            self._generation = guard.generation
        return self._caller

    def leave(self, inference: _Inference) -> None:
        """An inference has had its last answer."""
        self._inside.discard(inference)

    def put(self, item: _Item) -> None:
        """Have an answer sent; never waits."""
        self._outbox.append(item)
        with self._lock:
            idle = not self._sending
            self._sending = True
        if idle:
            self.owner.senders.submit(self._send_all)

    def _cancel_all(self) -> None:
        for inference in [*self._inside]:
            inference.cancel()

    # --- on a sender's thread ---

    def _send_all(self) -> None:
        while (item := self._next_item()) is not None:
            try:
                self._deliver(item)
            except Exception:
                log.exception("an answer could not be sent")
                self._cancel()

    def _next_item(self) -> _Item | None:
        with self._lock:
            if self._outbox:
                return self._outbox.popleft()
            self._sending = False
            return None

    def _deliver(self, item: _Item) -> None:
        message = None if self.over else item.encode()
        if message is not None:
            with self.owner.patience.limit(self._context, READ_SECONDS):
                self._send(message)
        if not item.final:
            item.inference.taken()
            return
        with self._lock:
            self._outstanding -= 1
        self._room.release()
        self._end_when_done()

    # --- the end ---

    def close(self) -> None:
        """End when nothing is outstanding, though the caller may have more to ask."""
        with self._lock:
            self._closing = True
        self._end_when_done()

    def _end_when_done(self) -> None:
        with self._lock:
            waits = self._outstanding or (self._reading and not self._closing)
            if waits or self._ended or self.over:
                return
            self._ended = True
            stopped = self._reading
        if stopped:
            errors.set_status(self._context, NotReady("the server is shutting down"), self.request_id)
        else:
            self._context.set_trailing_metadata(((errors.REQUEST_ID, self.request_id),))
        self._send(None)

    def _cancel(self) -> None:
        self._context.cancel()  # type: ignore[no-untyped-call]

    def _on_end(self) -> None:
        """Runs in grpcio's reading thread, where nothing may wait."""
        with self._lock:
            self.over = True
            forgotten = not self._reading
        self.owner.patience.stop(self._context)
        self._room.release()
        with suppress(NotReady):
            self.owner.handover.post(self._cancel_all)
        if forgotten:
            self.owner.forget(self)


class _Asked(NamedTuple):
    """A request, or what was wrong with it, and how it is to be answered."""

    id: str
    question: InferenceRequest | Fault
    raw: bool = True
    empty_final: bool = False


class _Inference:
    """One request of a stream; on the loop, but for `taken`."""

    __slots__ = ("_admission", "_channel", "_empty_final", "_handle", "_question", "_settled", "id", "raw")

    def __init__(self, channel: _Channel, asked: _Asked) -> None:
        self.id, self.raw, self._empty_final = asked.id, asked.raw, asked.empty_final
        self._channel = channel
        self._question: InferenceRequest | Fault | None = asked.question
        self._admission: Admission | None = None
        self._handle: Stream | Single | None = None
        self._settled = False

    def start(self) -> None:
        """Hand the request to the data plane."""
        if not self._channel.enter(self):
            return
        try:
            self._submit()
        except Fault as fault:
            self._came(fault, True)
        except Exception:
            log.exception("a request could not be submitted")
            self._came(InternalError("internal error"), True)

    def cancel(self) -> None:
        """Nobody waits for the answers."""
        if not self._settled:
            if self._handle is not None:
                self._handle.cancel()
            self._settle("CANCELLED")

    def taken(self) -> None:
        """An answer was sent: the next may be computed; any thread may call."""
        if self._handle is not None:
            self._handle.taken()

    def _submit(self) -> None:
        plane = self._channel.owner.plane
        question, self._question = self._question, None  # its tensors are not kept until it is answered
        self._admission = admission = plane.gate.admit("grpc")
        admission.caller = caller = self._channel.caller()
        caller.take()
        if not isinstance(question, InferenceRequest):
            raise question or InternalError("a request was started twice")
        caller.permit(Right.INFER, question.model_name)
        reply = partial(self._deliver, question.deliveries) if question.deliveries else self._came
        self._handle = plane.stream(question, reply, self._admission)

    def _deliver(self, deliveries: Deliveries, result: InferenceResponse | Fault | None, final: bool) -> None:
        """An answer that is to go elsewhere first; where it cannot, the request is over."""
        if isinstance(result, InferenceResponse):
            result = delivered_or_fault(result, deliveries)
            if isinstance(result, Fault) and not final and self._handle is not None:
                self._handle.cancel()
                final = True
        self._came(result, final)

    def _came(self, result: InferenceResponse | Fault | None, final: bool) -> None:
        if self._settled:
            return
        if result is None:
            result = self._empty_answer()
        if final:
            self._settle(result.code if isinstance(result, Fault) else "OK")
        self._channel.put(_Item(self, result, final))

    def _empty_answer(self) -> InferenceResponse | None:
        """What is sent behind the last answer, to those who want it."""
        admission = self._admission
        if not self._empty_final or admission is None:
            return None
        return InferenceResponse(admission.model, admission.version, self.id, ())

    def _settle(self, code: str) -> None:
        self._settled = True
        self._channel.leave(self)
        admission = self._admission
        if admission is not None:
            admission.route, admission.trace = ROUTE, self._channel.trace
            # The message's own id names the answer, but may not be fit for a log.
            admission.request_id = self.id if valid_request_id(self.id) else self._channel.request_id
            admission.finish(code)


@dataclass(frozen=True, slots=True)
class _Item:
    """An answer that waits to be sent; None ends a stream without a word."""

    inference: _Inference
    result: InferenceResponse | Fault | None
    final: bool

    def encode(self) -> bytes | None:
        """What goes over the wire."""
        if self.result is None:
            return None
        if isinstance(self.result, Fault):
            return wire.encode_stream_fault(self.result, self.inference.id)
        return wire.encode_stream_response(self.result, self.inference.raw, self.final)
