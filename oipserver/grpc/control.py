"""Reports the calls that ask for no inference, but those that last: Watch and reflection."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health

from oipserver.core.admission import Gate
from oipserver.core.errors import NotReady
from oipserver.core.observer import Ended
from oipserver.grpc import errors
from oipserver.grpc._generated.open_inference_pb2 import DESCRIPTOR
from oipserver.grpc.access import asking
from oipserver.grpc.handover import Handover

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_SERVICE = DESCRIPTOR.services_by_name["GRPCInferenceService"]
_ROUTES = {f"/{_SERVICE.full_name}/{method.name}": method.name for method in _SERVICE.methods}
_ROUTES[f"/{health.SERVICE_NAME}/Check"] = "Check"
# They are reported by the data plane, answered or refused.
_INFERENCES = frozenset(("ModelInfer", "ModelStreamInfer"))


class Reported(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Our handlers, each of whose answers is reported."""

    def __init__(
        self, handlers: Sequence[grpc.GenericRpcHandler[Any, Any]], gate: Gate, handover: Handover
    ) -> None:
        self._handlers = handlers
        self._gate = gate
        self._handover = handover

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """The handler of a call, None for a foreign one; runs in the one thread that reads all events."""
        handler: Handler | None = None
        for each in self._handlers:
            if (handler := each.service(handler_call_details)) is not None:
                break
        route = _ROUTES.get(handler_call_details.method, "")
        if handler is None or handler.response_streaming or route in _INFERENCES:
            return handler
        return grpc.stream_unary_rpc_method_handler(
            _Behaviour(handler.stream_unary, partial(self._tell, route)),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _tell(self, route: str, context: grpc.ServicerContext, seconds: float) -> None:
        trailers = {key: str(value) for key, value in context.trailing_metadata() or ()}
        code = trailers.get(errors.ERROR_CODE, "OK" if errors.REQUEST_ID in trailers else "CANCELLED")
        ids, caller = (trailers.get(errors.REQUEST_ID, ""),), asking().name
        ended = Ended("grpc", route, "", "", code, (seconds,), ids, (caller,) if caller else ())
        with suppress(NotReady):  # the loop is closed
            self._handover.post(partial(self._gate.control, ended))


class _Behaviour:
    """A behaviour that tells of its end; grpcio reads the attribute."""

    def __init__(self, behave: Any, tell: Any) -> None:
        self._behave = behave
        self._tell = tell
        self.experimental_thread_pool = getattr(behave, "experimental_thread_pool", None)

    def __call__(self, messages: Any, context: grpc.ServicerContext) -> Any:
        started = time.perf_counter()
        try:
            return self._behave(messages, context)
        finally:
            self._tell(context, time.perf_counter() - started)
