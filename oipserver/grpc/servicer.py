"""The protocol's seven calls, and which thread serves which.

Every behaviour takes and returns bytes, and is registered as if its request were a stream: on the wire that
is the same, but the thread decides itself when to read the message.  So a refusal is sent before the body
has arrived, and a caller who never sends a message can be given up.

An inference holds no thread, see `inside`; without that, one until its message is there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import grpc

from oipserver.core.admission import Right
from oipserver.core.dataplane import DataPlane
from oipserver.core.errors import Fault, InternalError, NotFound, NotReady, Overloaded, Unsupported
from oipserver.core.ids import new_id
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
from oipserver.grpc.access import asking
from oipserver.grpc.call import Call, Desk
from oipserver.grpc.handover import Handover
from oipserver.grpc.patience import Patience
from oipserver.grpc.stream import MAX_STREAMS, Send, StreamInfer
from oipserver.grpc.threads import Threads

log = logging.getLogger(__name__)

SERVICE: str = DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name

# Seconds that a peer may take to send a message with a name.
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
        infer: bring the messages of inferences.
        decode: decode large ones.
        send: encode and send large answers.
        instant: what never waits for the peer: refusals, the server's own state.
        control: what reads a small message.
        health: health checks and the first answer to a watcher, which nothing else may hold up.
        announce: tells watchers of changes.
        reflection: reflection, where a stream holds a thread.
        repository: loads and unloads, which last.
        stream: read inferences from streams, one thread for each.
        stream_send: encode and send their answers, at most one thread for each.
    """

    infer: Threads
    decode: Threads
    send: Threads
    instant: Threads
    control: Threads
    health: Threads
    announce: Threads
    reflection: Threads
    repository: Threads
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

    With `Arrivals` as its pool it is never run: they bring the message to the call without a thread.

    Args:
        desk: its slot for the call was taken before, in `Servicer.service`.
    """

    experimental_non_blocking = True

    def __init__(self, desk: Desk, pool: ThreadPoolExecutor) -> None:
        self.desk = desk
        self.experimental_thread_pool = pool

    def __call__(self, messages: Messages, context: Context, send: Send) -> None:
        call = Call(self.desk, context, partial(_end, send))
        call.open()
        body: bytes | None = None
        try:
            body = next(messages, None)
        finally:
            call.arrived(body)


def _end(send: Send, message: bytes | None) -> None:
    """`End` by grpcio's public calls."""
    if message is not None:
        send(message)
    send(None)


class Servicer(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Finds the handler of a call; grpcio asks before it takes a thread.

    Args:
        more: handlers of the protocol's extensions, by path.
    """

    def __init__(
        self,
        plane: DataPlane,
        handover: Handover,
        patience: Patience,
        infer: Infer,
        streams: StreamInfer,
        pools: Pools,
        more: Mapping[str, Handler] = MappingProxyType({}),
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
            **more,
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
        asking().permit(Right.DESCRIBE, request.name)
        ask = partial(self._plane.model_ready, request.name, request.version or None)
        try:
            ready = self._handover.ask(ask)
        except NotFound:
            ready = False  # clients poll "while not is_model_ready()", an error would end them
        return ModelReadyResponse(ready=ready).SerializeToString()

    def _model_metadata(self, messages: Messages, context: Context) -> bytes:
        request = wire.parse(ModelMetadataRequest, self._patience.receive(messages, context, NAME_SECONDS))
        asking().permit(Right.DESCRIBE, request.name)
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
