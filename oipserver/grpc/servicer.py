"""The protocol's seven calls, and which thread serves which.

Every behaviour takes and returns bytes, and is registered as if its request were a stream: on the wire that
is the same, but the thread decides itself when to read the message.  So a refusal is sent before the body
has arrived, and a caller who never sends a message can be given up.

An inference holds a thread while its message is read and decoded, not while it waits for the model.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import grpc

from oipserver.core.dataplane import DataPlane
from oipserver.core.errors import Fault, InternalError, NotFound, NotReady, Overloaded, Unsupported
from oipserver.core.ids import new_id, valid_request_id
from oipserver.core.messages import InferenceRequest, InferenceResponse
from oipserver.grpc import errors, wire
from oipserver.grpc._generated.open_inference_pb2 import (
    DESCRIPTOR,
    ModelMetadataRequest,
    ModelReadyRequest,
    ModelReadyResponse,
    ServerLiveResponse,
    ServerMetadataResponse,
    ServerReadyResponse,
)
from oipserver.grpc.call import Call, Desk
from oipserver.grpc.handover import Handover
from oipserver.grpc.patience import Patience
from oipserver.grpc.reply import Replies, Reply, Send
from oipserver.grpc.stream import MAX_STREAMS, StreamInfer
from oipserver.grpc.threads import Threads

log = logging.getLogger(__name__)

SERVICE: str = DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name

# Seconds that a peer may take to send its message (a tensor, or a name) and to read its answer.
TENSOR_SECONDS = 30.0
NAME_SECONDS = 1.0

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Messages: TypeAlias = Iterator[bytes]
Context: TypeAlias = grpc.ServicerContext
# A fault is returned or raised.
Behave: TypeAlias = Callable[[Messages, Context], bytes | Fault]


@dataclass(frozen=True, slots=True)
class Pools:
    """The server's threads; all but the first of each are started when calls come.

    Attributes:
        infer: read and decode inferences.
        send: encode and send large answers.
        instant: what never waits for the peer: refusals, the server's own state.
        control: what reads a small message.
        health: health checks and the first answer to a watcher, which nothing else may hold up.
        announce: tells watchers of changes.
        reflection: reflection, where a stream holds a thread.
        stream: read inferences from streams, one thread for each.
        stream_send: encode and send their answers, at most one thread for each.
    """

    infer: Threads
    send: Threads
    instant: Threads
    control: Threads
    health: Threads
    announce: Threads
    reflection: Threads
    stream: Threads
    stream_send: Threads


class Behaviour:
    """A behaviour that answers faults as statuses, in the threads of `pool` (grpcio reads the attribute)."""

    def __init__(self, behave: Behave, pool: ThreadPoolExecutor) -> None:
        self._behave = behave
        self.experimental_thread_pool = pool

    def __call__(self, messages: Messages, context: Context) -> bytes:
        request_id = _request_id(context)
        try:
            answer = self._behave(messages, context)
        except Fault as fault:
            answer = fault
        except grpc.RpcError:
            raise  # the call is over, grpcio expects its own exception back
        except Exception:
            log.exception("a gRPC call failed")
            answer = InternalError("internal error")
        if isinstance(answer, Fault):
            errors.abort(context, answer, request_id)
        context.set_trailing_metadata(((errors.REQUEST_ID, request_id),))
        return answer


def unary(behave: Behave, pool: ThreadPoolExecutor) -> Handler:
    """A unary call that reads its message, if at all, when it wants to."""
    return grpc.stream_unary_rpc_method_handler(Behaviour(behave, pool))


class Infer:
    """ModelInfer; grpcio reads the attributes: it returns at once and is answered later.

    Args:
        desk: its slot for the call was taken before, in `Servicer.service`.
        default_timeout: seconds; a caller may only shorten it.
    """

    experimental_non_blocking = True

    def __init__(
        self,
        desk: Desk,
        handover: Handover,
        patience: Patience,
        replies: Replies,
        pool: ThreadPoolExecutor,
        default_timeout: float,
    ) -> None:
        self.desk = desk
        self.handover = handover
        self.patience = patience
        self.replies = replies
        self.experimental_thread_pool = pool
        self._default_timeout = default_timeout

    def __call__(self, messages: Messages, context: Context, send: Send) -> None:
        try:
            rpc = _Rpc(self, context)
            given = errors.given_request_id(context)
            question, raw = self._read(messages, context, given or new_id())
            reply = Reply(context, send, given or _id_of(question), raw)
            call = Call(self.desk, question, partial(rpc.answer, reply))
            self.handover.post(call.start)
        except BaseException:
            self.desk.slots.release()
            raise
        rpc.watch(call)

    def _read(
        self, messages: Messages, context: Context, request_id: str
    ) -> tuple[InferenceRequest | Fault, bool]:
        """The request, or what is wrong with it: that is accounted for on the loop like everything else."""
        try:
            body = self.patience.receive(messages, context, TENSOR_SECONDS)
            now = time.monotonic()
            deadline = now + min(self._default_timeout, context.time_remaining())
            question = wire.decode_request(body, now, deadline, request_id)
        except Fault as fault:
            return fault, True
        except grpc.RpcError:
            raise
        except Exception:
            log.exception("a request could not be decoded")
            return InternalError("internal error"), True
        return question.request, question.raw


class _Rpc:
    """What the end of an RPC means for its call: at that time it may be unknown, waiting or answered."""

    __slots__ = ("_call", "_context", "_infer", "_over")

    def __init__(self, infer: Infer, context: Context) -> None:
        self._infer = infer
        self._context = context
        self._call: Call | None = None
        self._over = False
        if not context.add_callback(self._end):
            self._over = True

    def watch(self, call: Call) -> None:
        """Cancel the call when the RPC ends, or now when it has ended already."""
        self._call = call
        if self._over:
            self._cancel()

    def answer(self, reply: Reply, result: InferenceResponse | Fault) -> None:
        """Send the result; the peer has some time to read it."""
        patience = self._infer.patience
        patience.start(self._context, TENSOR_SECONDS)
        if self._over:
            patience.stop(self._context)
        self._infer.replies.send(reply, result)

    def _end(self) -> None:
        self._over = True
        self._infer.patience.stop(self._context)
        self._cancel()

    def _cancel(self) -> None:
        if self._call is not None and not self._call.settled:
            with suppress(NotReady):
                self._infer.handover.post(self._call.cancel)


class Servicer(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Finds the handler of a call; grpcio asks before it takes a thread."""

    def __init__(
        self,
        plane: DataPlane,
        handover: Handover,
        patience: Patience,
        infer: Infer,
        streams: StreamInfer,
        pools: Pools,
    ) -> None:
        self._plane = plane
        self._handover = handover
        self._patience = patience
        self._infer = infer
        self._infer_path = f"/{SERVICE}/ModelInfer"
        self._infer_handler = grpc.stream_stream_rpc_method_handler(infer)
        self._streams = streams
        self._stream_path = f"/{SERVICE}/ModelStreamInfer"
        self._stream_handler = grpc.stream_stream_rpc_method_handler(streams)
        self._draining = unary(_refuse_draining, pools.instant)
        self._overloaded = unary(self._refuse_overloaded, pools.instant)
        self._too_many_streams = unary(_refuse_streams, pools.instant)
        self._unknown = unary(_refuse_unknown, pools.instant)
        self._handlers = {
            f"/{SERVICE}/ServerLive": unary(self._server_live, pools.instant),
            f"/{SERVICE}/ServerReady": unary(self._server_ready, pools.instant),
            f"/{SERVICE}/ServerMetadata": unary(self._server_metadata, pools.instant),
            f"/{SERVICE}/ModelReady": unary(self._model_ready, pools.control),
            f"/{SERVICE}/ModelMetadata": unary(self._model_metadata, pools.control),
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """The handler of a call, None for a foreign one; runs in the one thread that reads all events."""
        path = handler_call_details.method
        if path == self._stream_path:
            return self._stream()
        if path != self._infer_path:
            ours = path.startswith(f"/{SERVICE}/")
            return self._handlers.get(path, self._unknown) if ours else None
        if self._plane.gate.draining:
            return self._draining
        return self._infer_handler if self._infer.desk.slots.acquire(blocking=False) else self._overloaded

    def _stream(self) -> Handler:
        if self._plane.gate.draining:
            return self._draining
        return self._stream_handler if self._streams.slots.acquire(blocking=False) else self._too_many_streams

    def _refuse_overloaded(self, messages: Messages, context: Context) -> Fault:
        fault = Overloaded("too many gRPC calls at the same time")
        self._handover.post(partial(self._infer.desk.account, fault))
        return fault

    def _server_live(self, messages: Messages, context: Context) -> bytes:
        return ServerLiveResponse(live=self._handover.ask(self._plane.live)).SerializeToString()

    def _server_ready(self, messages: Messages, context: Context) -> bytes:
        return ServerReadyResponse(ready=self._handover.ask(self._plane.ready)).SerializeToString()

    def _server_metadata(self, messages: Messages, context: Context) -> bytes:
        metadata = self._handover.ask(self._plane.server_metadata)
        return ServerMetadataResponse(
            name=metadata.name, version=metadata.version, extensions=metadata.extensions
        ).SerializeToString()

    def _model_ready(self, messages: Messages, context: Context) -> bytes:
        request = wire.parse(ModelReadyRequest, self._patience.receive(messages, context, NAME_SECONDS))
        ask = partial(self._plane.model_ready, request.name, request.version or None)
        try:
            ready = self._handover.ask(ask)
        except NotFound:
            ready = False  # clients poll "while not is_model_ready()", an error would end them
        return ModelReadyResponse(ready=ready).SerializeToString()

    def _model_metadata(self, messages: Messages, context: Context) -> bytes:
        request = wire.parse(ModelMetadataRequest, self._patience.receive(messages, context, NAME_SECONDS))
        ask = partial(self._plane.model_metadata, request.name, request.version or None)
        return wire.encode_metadata(self._handover.ask(ask))


def _refuse_draining(messages: Messages, context: Context) -> Fault:
    return NotReady("the server is shutting down")


def _refuse_streams(messages: Messages, context: Context) -> Fault:
    return Overloaded(f"{MAX_STREAMS} streams are open, no more are served at the same time")


def _refuse_unknown(messages: Messages, context: Context) -> Fault:
    return Unsupported("this server does not offer that call")


def _request_id(context: Context) -> str:
    """The caller's request id, else a new one."""
    return errors.given_request_id(context) or new_id()


def _id_of(question: InferenceRequest | Fault) -> str:
    """One id for the answer and for the logs: the message's own, where it is fit for both."""
    if isinstance(question, InferenceRequest) and valid_request_id(question.id):
        return question.id
    return new_id()
