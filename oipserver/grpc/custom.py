"""The user's gRPC services beside ours: in threads of their own, with our trailers and our error contract.

Every method is registered as a stream of bytes, like our own calls: the thread decides itself when to read
the message, so a peer that never sends one can be given up, and what cannot be parsed is refused in words.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeAlias

import grpc

from oipserver.apps.caller import CALLER, Caller
from oipserver.apps.claims import RESERVED_PACKAGES
from oipserver.apps.services import Services
from oipserver.core.admission import Admission, Gate, Right
from oipserver.core.errors import (
    BadRequest,
    Cancelled,
    Fault,
    InternalError,
    NotReady,
    Overloaded,
    Unsupported,
)
from oipserver.core.ids import new_id
from oipserver.grpc import errors
from oipserver.grpc.access import identify
from oipserver.grpc.call import TENSOR_SECONDS
from oipserver.grpc.handover import Handover
from oipserver.grpc.patience import Patience
from oipserver.grpc.servicer import unary
from oipserver.grpc.threads import Threads

log = logging.getLogger(__name__)

FRONT = "app-grpc"
THREADS = 32

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Messages: TypeAlias = Iterator[bytes]
Context: TypeAlias = grpc.ServicerContext

_RESERVED = tuple(f"/{package}." for package in RESERVED_PACKAGES)


class Custom(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Finds the user's handler of a call, and guards it.

    Args:
        instant: refuses.
        max_calls: calls inside, those that wait for a thread among them; one more is refused.
    """

    def __init__(
        self,
        services: Services,
        gate: Gate,
        handover: Handover,
        patience: Patience,
        instant: Threads,
        max_calls: int,
    ) -> None:
        self.pool = Threads(THREADS, "grpc-app")
        self._services = services
        self._gate = gate
        self._handover = handover
        self._patience = patience
        self._slots = threading.BoundedSemaphore(max_calls)
        self._overloaded = unary(_refuse_overloaded, instant)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """The guarded handler of a call, None for an unknown one; in the thread that reads all events."""
        if handler_call_details.method.startswith(_RESERVED):
            return None
        try:
            found = self._find(handler_call_details)
        except Exception:
            log.exception("a gRPC service of the user's failed to look up a method")
            return None
        if found is None:
            return None
        if not self._slots.acquire(blocking=False):
            return self._overloaded
        return _register(found.response_streaming, _Guarded(self, found, handler_call_details.method))

    def _find(self, details: grpc.HandlerCallDetails) -> Handler | None:
        handlers = (handler.service(details) for handler in self._services.handlers)
        return next((handler for handler in handlers if handler is not None), None)

    def admit(self, path: str, context: Context) -> Admission:
        """Let one call in, for which the drain waits; on the loop."""
        admission = self._gate.admit(FRONT)
        try:
            admission.caller = asking = identify(self._gate.guard, context)
            asking.permit(Right.INFER, path)
            asking.take()
        except Fault as fault:
            admission.finish(fault.code)
            raise
        if reason := self._services.reason():
            admission.finish(NotReady.code)
            raise NotReady(reason)
        return admission

    def call(self, path: str, method: Handler, messages: Messages, context: Context) -> bytes:
        """The one answer of a method."""
        with self._guard(path, context):
            behave = method.stream_unary if method.request_streaming else method.unary_unary
            answer = _called(behave)(self._request(method, messages, context), context)
            return _encode(method, answer)
        raise AssertionError  # the guard lets nothing pass that it caught

    def stream(self, path: str, method: Handler, messages: Messages, context: Context) -> Iterator[bytes]:
        """The answers of a method, each of which the peer has to read within its time."""
        with self._guard(path, context):
            behave = method.stream_stream if method.request_streaming else method.unary_stream
            for answer in _called(behave)(self._request(method, messages, context), context):
                piece = _encode(method, answer)
                with self._patience.limit(context, TENSOR_SECONDS):
                    yield piece

    def release(self) -> None:
        """A call is over."""
        self._slots.release()

    def _request(self, method: Handler, messages: Messages, context: Context) -> Any:
        if method.request_streaming:
            return (_decode(method, message) for message in messages)
        return _decode(method, self._patience.receive(messages, context, TENSOR_SECONDS))

    @contextmanager
    def _guard(self, path: str, context: Context) -> Iterator[None]:
        """Counts a call in and out, tells its deadline to the models, and ends it with our trailers."""
        request_id = errors.given_request_id(context) or new_id()
        code = InternalError.code
        admission: Admission | None = None
        try:
            admission = self._handover.ask(partial(self.admit, path, context))
            admission.request_id = request_id
            caller = Caller(time.monotonic() + context.time_remaining())
            if not context.add_callback(caller.leave):
                raise Cancelled("the caller left")
            CALLER.set(caller)  # grpcio runs each call in a context of its own
            yield
            code = _own_code(context) or "OK"
            _add_trailers(context, (errors.REQUEST_ID, request_id))
        except GeneratorExit:
            code = Cancelled.code
            raise
        except grpc.RpcError:
            code = Cancelled.code
            raise  # the call is over, grpcio expects its own exception back
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            own = None if isinstance(error, Fault) else _own_code(context)
            if own is None:
                fault = _fault_of(error, request_id)
                code = fault.code
                errors.abort(context, fault, request_id)
            code = own
            # As the handler itself wanted it: it has called `abort`, or `set_code` before it raised.
            _add_trailers(context, (errors.ERROR_CODE, code), (errors.REQUEST_ID, request_id))
            context.abort(context.code(), _text(context))  # type: ignore[attr-defined]
        finally:
            if admission is not None:
                with suppress(NotReady):
                    self._handover.post(partial(admission.finish, code))


class _Guarded:
    """A method of the user's; grpcio reads the attribute.  Its slot is free when the call is over."""

    def __init__(self, custom: Custom, method: Handler, path: str) -> None:
        self._custom = custom
        self._path = path
        self._method = method
        self.experimental_thread_pool = custom.pool

    def __call__(self, messages: Messages, context: Context) -> bytes | Iterator[bytes]:
        if not context.add_callback(self._custom.release):
            self._custom.release()
        serve = self._custom.stream if self._method.response_streaming else self._custom.call
        return serve(self._path, self._method, messages, context)


def _register(streaming: bool, behave: Callable[..., Any]) -> Handler:
    if streaming:
        return grpc.stream_stream_rpc_method_handler(behave)
    return grpc.stream_unary_rpc_method_handler(behave)


def _refuse_overloaded(messages: Messages, context: Context) -> Fault:
    return Overloaded("too many calls of custom services at the same time")


def _called(behave: Callable[..., Any] | None) -> Callable[..., Any]:
    if behave is None:
        raise Unsupported("the method is not implemented")
    return behave


def _decode(method: Handler, message: bytes) -> Any:
    try:
        return message if method.request_deserializer is None else method.request_deserializer(message)
    except Exception as error:
        raise BadRequest("the message cannot be parsed") from error


def _encode(method: Handler, answer: Any) -> bytes:
    encoded = answer if method.response_serializer is None else method.response_serializer(answer)
    if not isinstance(encoded, bytes):
        raise TypeError(f"expected a message, the handler returned a {type(answer).__name__}")
    return encoded


def _fault_of(error: BaseException, request_id: str) -> Fault:
    if isinstance(error, Fault) and error.code in errors.STATUS:
        return error
    log.error("gRPC call %s failed", request_id, exc_info=error)
    return InternalError("internal error")


def _own_code(context: Context) -> str | None:
    """The symbolic code of the status that the handler has set; None when it has set none."""
    status = context.code()  # type: ignore[attr-defined]  # the stubs do not know it
    if status in (None, grpc.StatusCode.OK):
        return None
    return next((code for code, known in errors.STATUS.items() if known is status), InternalError.code)


def _text(context: Context) -> str:
    details = context.details()  # type: ignore[attr-defined]
    return details.decode(errors="replace") if isinstance(details, bytes) else str(details or "")


def _add_trailers(context: Context, *trailers: tuple[str, str]) -> None:
    given = context.trailing_metadata() or ()
    context.set_trailing_metadata((*given, *trailers))
