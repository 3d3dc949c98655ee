"""How an inference comes in and its answer leaves without waking a thread of ours.

grpcio's public calls take a thread for each call that waits for its message, and another one (`send`) that
waits until an answer is written; on the way a call changes threads six times.  Its inside needs none of
that: the thread that reads all events can ask for the message of a call and be told when it is there
(`grpc._server._receive_message`), and a message and its status can go out together
(`grpc._server._status`, in which every unary call of grpcio ends).

Both are private, so everything that is relied on is looked at when the server starts.  Where a version of
grpcio is not as expected, the public calls are used: two to three times as dear, otherwise the same.
"""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeAlias

import grpc

from oipserver.grpc.call import Call, Desk
from oipserver.grpc.reply import End
from oipserver.grpc.threads import Threads

log = logging.getLogger(__name__)

# What grpcio calls an event and a state of an RPC.
Event: TypeAlias = Any
State: TypeAlias = Any
# Takes the message, or None when there is none, in the thread that reads all events.
Arrived: TypeAlias = Callable[[bytes | None], None]

_PARAMETERS = {
    "_stream_response_in_pool": (
        "rpc_event",
        "state",
        "behavior",
        "argument_thunk",
        "request_deserializer",
        "response_serializer",
    ),
    "_Context": ("rpc_event", "state", "request_deserializer"),
    "_receive_message": ("state", "call", "request_deserializer"),
    "_status": ("rpc_event", "state", "serialized_response"),
}
_STATE = {"condition", "due", "request", "trailing_metadata", "callbacks", "code", "details"}
_NO_FLAGS = 0


class Inside:
    """The part of grpcio's `grpc._server` that is relied on; see `find_inside`."""

    def __init__(self, server: Any, cygrpc: Any) -> None:
        self.in_pool = server._stream_response_in_pool
        self._status = server._status
        self._context = server._Context
        self._receive_message = server._receive_message
        self._token = server._RECEIVE_MESSAGE_TOKEN
        self._operation = cygrpc.ReceiveMessageOperation

    def context(self, event: Event, state: State) -> grpc.ServicerContext:
        """The context of a call, as grpcio makes it for a behaviour."""
        context: grpc.ServicerContext = self._context(event, state, None)
        return context

    def end(self, event: Event, state: State) -> End:
        """What ends a call with a message and its status; any thread may call it."""
        return partial(self._status, event, state)

    def receive(self, event: Event, state: State, arrived: Arrived) -> None:
        """Have `arrived` called with the message of a call, once, before the callbacks of its end."""
        take = self._receive_message(state, event.call, None)

        def came(receive_event: object) -> object:
            done = take(receive_event)
            message, state.request = state.request, None
            arrived(message)
            return done

        with state.condition:
            event.call.start_server_batch((self._operation(_NO_FLAGS),), came)
            state.due.add(self._token)


class Arrivals(Threads):
    """A pool that takes no thread for an inference, but has its message brought.

    Args:
        desk: its slot for a call was taken before the call comes here.
    """

    def __init__(self, name: str, inside: Inside, desk: Desk) -> None:
        super().__init__(1, name)
        self._inside = inside
        self._desk = desk
        self._begun: Future[Any] = Future()
        self._begun.set_result(None)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Begin the call that grpcio wants to have run in a thread; nothing raises."""
        inside = self._inside
        if len(args) < 3 or args[0] is not inside.in_pool:
            return super().submit(fn, *args, **kwargs)
        event, state = args[1:3]
        try:
            call = Call(self._desk, inside.context(event, state), inside.end(event, state))
        except Exception:
            log.exception("a call could not be begun")
            self._desk.slots.release()
            event.call.cancel()
            return self._begun
        try:
            call.open()
            inside.receive(event, state, call.arrived)
        except Exception:
            log.exception("the message of a call could not be asked for")
            call.failed()
        return self._begun


def find_inside() -> Inside | None:
    """What is needed of grpcio's inside; None where it is not as expected."""
    server = importlib.import_module("grpc._server")
    cygrpc = importlib.import_module("grpc._cython.cygrpc")
    try:
        same = all(
            tuple(inspect.signature(getattr(server, name)).parameters) == expected
            for name, expected in _PARAMETERS.items()
        )
        known = set(vars(server._RPCState())) >= _STATE
        started = callable(cygrpc.Call.start_server_batch)
        return Inside(server, cygrpc) if same and known and started else None
    except (AttributeError, TypeError, ValueError):
        return None
