"""An echo on grpcio's C core without grpcio's Python server, to see what that costs.  An experiment.

`grpc._cython.cygrpc` is private and has no documentation: nothing of ours may depend on it like this.  One
thread reads all events; every call is answered from an event loop, as our server does.

`python http2_experiment_core.py` reads the answer from stdin and says on which port it is ready.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from functools import partial
from typing import Any

import uvloop
from grpc._cython import cygrpc  # type: ignore[attr-defined]

_NEW_CALL = "a new call"
_TRAILERS = (("x-request-id", "00000000-0000-4000-8000-000000000000"),)


class Core:
    """A server of one answer."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._loop = uvloop.new_event_loop()
        self._ready: deque[Any] = deque()
        self._awake = False
        self._queue = cygrpc.CompletionQueue()
        self._server = cygrpc.Server((("grpc.so_reuseport", 0),), False)
        self._server.register_completion_queue(self._queue)

    def run(self) -> None:
        """Serve for ever."""
        port = self._server.add_http2_port(b"127.0.0.1:0")
        self._server.start()
        self._server.request_call(self._queue, self._queue, _NEW_CALL)
        threading.Thread(target=self._read, daemon=True).start()
        print(f"ready: port {port}", flush=True)
        self._loop.run_forever()

    def _read(self) -> None:
        while True:
            event = self._queue.poll(time.time() + 1.0)
            if event.completion_type == cygrpc.CompletionType.queue_timeout:
                continue
            if event.tag is _NEW_CALL:
                self._begin(event.call)
            else:
                event.tag(event)

    def _begin(self, call: Any) -> None:
        call.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(0),), _nothing)
        call.start_server_batch((cygrpc.ReceiveMessageOperation(0),), partial(self._arrived, call))
        self._server.request_call(self._queue, self._queue, _NEW_CALL)

    def _arrived(self, call: Any, event: Any) -> None:
        event.batch_operations[0].message()
        self._ready.append(call)
        if not self._awake:
            self._awake = True
            self._loop.call_soon_threadsafe(self._send_all)

    def _send_all(self) -> None:
        self._awake = False
        while self._ready:
            operations = (
                cygrpc.SendInitialMetadataOperation(None, 0),
                cygrpc.SendMessageOperation(self._answer, 0),
                cygrpc.SendStatusFromServerOperation(_TRAILERS, cygrpc.StatusCode.ok, b"", 0),
            )
            self._ready.popleft().start_server_batch(operations, _nothing)


def _nothing(event: Any) -> None:
    """Some events need no answer."""


if __name__ == "__main__":
    Core(sys.stdin.buffer.read()).run()
