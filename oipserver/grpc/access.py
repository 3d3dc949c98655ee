"""Who asks over gRPC, and what each of our calls needs of its caller.

What stands in no table here needs an administrator's key: a call that somebody forgot is closed, not open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health

from oipserver.core.admission import ANONYMOUS, Caller, Guard, Need, Right
from oipserver.core.errors import Fault
from oipserver.core.ids import new_id
from oipserver.grpc import errors
from oipserver.grpc._generated.open_inference_pb2 import DESCRIPTOR
from oipserver.grpc.handover import Handover
from oipserver.tls import grpc_subject

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_SERVICE: str = DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
# Its library knows it, and is imported when somebody asks for it: see `reflected`.
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"

_HEALTH = Need(None, "health")
_CLOSED = Need(Right.ADMIN)

NEEDS = {
    f"/{health.SERVICE_NAME}/Check": _HEALTH,
    f"/{health.SERVICE_NAME}/Watch": _HEALTH,
    f"/{REFLECTION}/ServerReflectionInfo": Need(Right.READ),
    f"/{_SERVICE}/ServerLive": _HEALTH,
    f"/{_SERVICE}/ServerReady": _HEALTH,
    f"/{_SERVICE}/ServerMetadata": Need(None),
    f"/{_SERVICE}/ModelReady": Need(Right.DESCRIBE),
    f"/{_SERVICE}/ModelMetadata": Need(Right.DESCRIBE),
    f"/{_SERVICE}/ModelConfig": Need(Right.DESCRIBE),
    f"/{_SERVICE}/ModelStatistics": Need(Right.READ),
    f"/{_SERVICE}/RepositoryIndex": Need(Right.READ),
}
# Their requests are refused one by one, each when its model is known.
_INFERENCES = frozenset((f"/{_SERVICE}/ModelInfer", f"/{_SERVICE}/ModelStreamInfer"))


class Guarded(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Our handlers, each behind a check of its caller."""

    def __init__(
        self, handlers: Sequence[grpc.GenericRpcHandler[Any, Any]], guard: Guard, handover: Handover
    ) -> None:
        self._handlers = handlers
        self._guard = guard
        self._handover = handover

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """The handler of a call, None for a foreign one; runs in the one thread that reads all events."""
        path = handler_call_details.method
        found = (handler.service(handler_call_details) for handler in self._handlers)
        handler = next((handler for handler in found if handler is not None), None)
        need = NEEDS.get(path, _CLOSED)
        if handler is None or path in _INFERENCES or need.part in self._guard.open:
            return handler
        return _checked(handler, Check(self._guard, self._handover, need.right))


class Check:
    """Finds out who asks, in the thread of the call, before its message is read."""

    def __init__(self, guard: Guard, handover: Handover, right: Right | None) -> None:
        self._guard = guard
        self._handover = handover
        self._right = right

    def __call__(self, context: grpc.ServicerContext) -> None:
        """Make the caller known to `asking`.

        Raises:
            Fault: it may not, or too often.
        """
        caller = identify(self._guard, context)
        _ASKING.set(caller)  # grpcio runs each call in a context of its own
        if self._right is not None:
            caller.permit(self._right)
        self._handover.ask(caller.take)


class _Behaviour:
    """A behaviour behind a check; grpcio reads the attributes."""

    def __init__(self, behave: Callable[..., Any], check: Check) -> None:
        self._behave = behave
        self._check = check
        self.experimental_non_blocking = getattr(behave, "experimental_non_blocking", False)
        self.experimental_thread_pool = getattr(behave, "experimental_thread_pool", None)

    def __call__(self, messages: Any, context: grpc.ServicerContext, *send: Any) -> Any:
        try:
            self._check(context)
        except Fault as fault:
            errors.abort(context, fault, errors.given_request_id(context) or new_id())
        return self._behave(messages, context, *send)


_ASKING: ContextVar[Caller] = ContextVar("ASKING", default=ANONYMOUS)


def asking() -> Caller:
    """Who asks, in the thread of a call that was checked."""
    return _ASKING.get()


def identify(guard: Guard, context: grpc.ServicerContext) -> Caller:
    """Who asks; any thread may call.

    Raises:
        Unauthorized: nobody that is known.
    """
    if not guard.enabled:
        return ANONYMOUS
    authorization, keys = [], []
    for name, value in context.invocation_metadata():
        if name == "authorization":
            authorization.append(str(value))
        elif name == guard.header:
            keys.append(str(value))
    return guard.identify(authorization, keys, lambda: _subject(context))


def _subject(context: grpc.ServicerContext) -> str:
    proven: Any = context.auth_context()  # the stubs are wrong: each property may have several values
    return grpc_subject(proven)


def _checked(handler: Handler, check: Check) -> Handler:
    """The handler with a check in front; all of ours take a stream, see `servicer`."""
    behave: Any = handler.stream_stream if handler.response_streaming else handler.stream_unary
    register: Any = (
        grpc.stream_stream_rpc_method_handler
        if handler.response_streaming
        else grpc.stream_unary_rpc_method_handler
    )
    checked: Handler = register(
        _Behaviour(behave, check), handler.request_deserializer, handler.response_serializer
    )
    return checked
