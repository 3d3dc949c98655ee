"""The services that gRPC tools expect of every server: health checking and reflection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2

from oipserver.core.errors import Fault, NotFound, printable
from oipserver.core.ids import new_id
from oipserver.grpc import errors, wire
from oipserver.grpc.access import REFLECTION
from oipserver.grpc.patience import Patience
from oipserver.grpc.servicer import NAME_SECONDS, SERVICE, Handler, unary
from oipserver.grpc.stream import Send
from oipserver.grpc.threads import Threads

Status: TypeAlias = "health_pb2.HealthCheckResponse.ServingStatus"

SERVICES = (SERVICE, health.SERVICE_NAME, REFLECTION)

REFLECTION_SECONDS = 30.0


class Streams:
    """The open streams, which would otherwise keep a stopping server waiting for all its grace."""

    def __init__(self) -> None:
        self._open: set[grpc.ServicerContext] = set()

    def add(self, context: grpc.ServicerContext) -> None:
        self._open.add(context)
        if not context.add_callback(lambda: self._open.discard(context)):
            self._open.discard(context)

    def cancel(self) -> None:
        for context in self._open.copy():
            context.cancel()  # type: ignore[no-untyped-call]


class Health(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """grpc.health.v1.Health for the server as a whole ("") and for the inference service.

    Args:
        pool: for Check, and for the first answer to a watcher; needs neither the event loop nor a lock.
        announce: sends changes to watchers, which may be slow to read them.
    """

    def __init__(self, patience: Patience, pool: Threads, announce: Threads, streams: Streams) -> None:
        self._patience = patience
        self._announce = announce
        self._streams = streams
        self._status = health_pb2.HealthCheckResponse.NOT_SERVING
        self._watchers: set[_Watcher] = set()
        self._handlers = {
            f"/{health.SERVICE_NAME}/Check": unary(self._check, pool),
            f"/{health.SERVICE_NAME}/Watch": grpc.stream_stream_rpc_method_handler(_Watch(self._watch, pool)),
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        return self._handlers.get(handler_call_details.method)

    def set_serving(self, serving: bool) -> None:
        """Change what is answered; returns at once."""
        response = health_pb2.HealthCheckResponse
        self._status = response.SERVING if serving else response.NOT_SERVING
        for watcher in self._watchers.copy():
            self._announce.submit(watcher.tell)

    def _receive(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> str:
        body = self._patience.receive(messages, context, NAME_SECONDS)
        service: str = wire.parse(health_pb2.HealthCheckRequest, body).service
        return service

    def _check(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        service = self._receive(messages, context)
        if service not in ("", SERVICE):
            raise NotFound(f"no service '{printable(service)}'")
        return _answer(self._status)

    def _watch(self, messages: Iterator[bytes], context: grpc.ServicerContext, send: Send) -> None:
        self._streams.add(context)
        service = self._receive(messages, context)

        def say(status: Status) -> None:
            with self._patience.limit(context, NAME_SECONDS):
                send(_answer(status))

        if service not in ("", SERVICE):
            # health.proto, Watch: SERVICE_UNKNOWN, and the call stays open; our services are always the same.
            say(health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            return
        watcher = _Watcher(lambda: self._status, say)
        self._watchers.add(watcher)
        # Runs in grpcio's reading thread, where nothing may wait.
        if not context.add_callback(lambda: self._watchers.discard(watcher)):
            self._watchers.discard(watcher)
        watcher.tell()


class _Watch:
    """Health.Watch; grpcio reads the attributes: the thread is free again after the first answer."""

    experimental_non_blocking = True

    def __init__(self, watch: Callable[..., None], pool: Threads) -> None:
        self._watch = watch
        self.experimental_thread_pool = pool

    def __call__(self, messages: Iterator[bytes], context: grpc.ServicerContext, send: Send) -> None:
        try:
            self._watch(messages, context, send)
        except Fault as fault:
            errors.abort(context, fault, new_id())


class _Watcher:
    """Tells one peer every status that differs from the one before; a quick change may be skipped.

    A call takes one message at a time, and writing it may last: so one thread writes, others leave the
    news to it, and the lock is not held meanwhile.
    """

    def __init__(self, status: Callable[[], Status], say: Callable[[Status], None]) -> None:
        self._status = status
        self._say = say
        self._lock = threading.Lock()
        self._told: Status | None = None
        self._busy = False

    def tell(self) -> None:
        """Send what the peer has not been told; waits until it is written."""
        with self._lock:
            if self._busy:
                return
            self._busy = True
        while (news := self._next()) is not None:
            self._say(news)

    def _next(self) -> Status | None:
        with self._lock:
            status = self._status()
            if status == self._told:
                self._busy = False
                return None
            self._told = status
            return status


def _answer(status: Status) -> bytes:
    body: bytes = health_pb2.HealthCheckResponse(status=status).SerializeToString()
    return body


class Reflection(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """grpc.reflection.v1alpha.ServerReflection; see `reflected`."""

    def __init__(self, patience: Patience, pool: Threads, streams: Streams) -> None:
        self._handler = grpc.stream_stream_rpc_method_handler(_Reflect(patience, pool, streams))

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        path = f"/{REFLECTION}/ServerReflectionInfo"
        return self._handler if handler_call_details.method == path else None


class _Reflect:
    """ServerReflectionInfo; a stream holds a thread, so it may not last."""

    def __init__(self, patience: Patience, pool: Threads, streams: Streams) -> None:
        self._patience = patience
        self._streams = streams
        self.experimental_thread_pool = pool

    def __call__(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        from oipserver.grpc.reflected import answers

        self._streams.add(context)
        with self._patience.limit(context, REFLECTION_SECONDS):
            try:
                yield from answers(SERVICES, requests, context)
            except Fault as fault:
                errors.abort(context, fault, new_id())
