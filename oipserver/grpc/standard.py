"""The services that gRPC tools expect of every server: health checking and reflection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from oipserver.core.errors import NotFound, printable
from oipserver.grpc import wire
from oipserver.grpc._generated.open_inference_pb2 import DESCRIPTOR
from oipserver.grpc.patience import Patience
from oipserver.grpc.servicer import NAME_SECONDS, SERVICE, Handler, unary

SERVICES = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)

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
        check_pool: for Check, which is answered without a lock or the event loop.
        watch_pool: sends changes to watchers, which may be slow to read them.
    """

    def __init__(
        self,
        patience: Patience,
        check_pool: ThreadPoolExecutor,
        watch_pool: ThreadPoolExecutor,
        streams: Streams,
    ) -> None:
        self._patience = patience
        self._watch_pool = watch_pool
        self._status = health_pb2.HealthCheckResponse.NOT_SERVING
        self._watchers = health.HealthServicer()
        self._announce(self._status)
        self._handlers = {
            f"/{health.SERVICE_NAME}/Check": unary(self._check, check_pool),
            f"/{health.SERVICE_NAME}/Watch": grpc.unary_stream_rpc_method_handler(
                _Watch(self._watchers, watch_pool, streams),
                request_deserializer=health_pb2.HealthCheckRequest.FromString,
                response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
            ),
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        return self._handlers.get(handler_call_details.method)

    def set_serving(self, serving: bool) -> None:
        """Change what is answered; returns at once."""
        response = health_pb2.HealthCheckResponse
        self._status = response.SERVING if serving else response.NOT_SERVING
        self._watch_pool.submit(self._announce, self._status)

    def _announce(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        self._watchers.set("", status)
        self._watchers.set(SERVICE, status)

    def _check(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        request = wire.parse(
            health_pb2.HealthCheckRequest, self._patience.receive(messages, context, NAME_SECONDS)
        )
        if request.service not in ("", SERVICE):
            raise NotFound(f"no service '{printable(request.service)}'")
        body: bytes = health_pb2.HealthCheckResponse(status=self._status).SerializeToString()
        return body


class _Watch:
    """Health.Watch; grpcio reads the attributes: the thread is free again after the first answer."""

    experimental_non_blocking = True

    def __init__(self, servicer: health.HealthServicer, pool: ThreadPoolExecutor, streams: Streams) -> None:
        self._servicer = servicer
        self._streams = streams
        self.experimental_thread_pool = pool

    def __call__(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext, send: Callable[..., None]
    ) -> None:
        self._streams.add(context)
        self._servicer.Watch(request, context, send)


class Reflection(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """grpc.reflection.v1alpha.ServerReflection, over the private pool in which the messages live."""

    def __init__(self, patience: Patience, pool: ThreadPoolExecutor, streams: Streams) -> None:
        for descriptor in (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
            _add(descriptor)
        self._handler = grpc.stream_stream_rpc_method_handler(
            _Reflect(reflection.ReflectionServicer(SERVICES, DESCRIPTOR.pool), patience, pool, streams),
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        path = f"/{reflection.SERVICE_NAME}/ServerReflectionInfo"
        return self._handler if handler_call_details.method == path else None


class _Reflect:
    """ServerReflectionInfo; a stream holds a thread, so it may not last."""

    def __init__(
        self,
        servicer: reflection.ReflectionServicer,
        patience: Patience,
        pool: ThreadPoolExecutor,
        streams: Streams,
    ) -> None:
        self._servicer = servicer
        self._patience = patience
        self._streams = streams
        self.experimental_thread_pool = pool

    def __call__(
        self,
        requests: Iterator[reflection_pb2.ServerReflectionRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[reflection_pb2.ServerReflectionResponse]:
        self._streams.add(context)
        with self._patience.limit(context, REFLECTION_SECONDS):
            # The stubs do not know that it yields.
            yield from self._servicer.ServerReflectionInfo(requests, context)  # type: ignore[misc,func-returns-value]


def _add(descriptor: FileDescriptor) -> None:
    """Make a file of protobuf's default pool known to the private one; adding it again changes nothing."""
    file = descriptor_pb2.FileDescriptorProto()
    descriptor.CopyToProto(file)
    DESCRIPTOR.pool.AddSerializedFile(file.SerializeToString())
