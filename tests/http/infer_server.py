"""The HTTP server with its infer doors around models in memory, in a thread with its own event loop."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import numpy as np

from oipserver import FP64, Arrays, Model, Parameters, TensorMetadata
from oipserver.http.app import create_app
from oipserver.http.direct import OpenExchange
from oipserver.http.door import Exchange, InferSettings
from oipserver.http.express import Express
from oipserver.http.limits import HttpLimits
from oipserver.http.protocol import LimitedProtocol
from oipserver.http.server import HttpServer
from tests.conformance.system import Journal
from tests.http.echo import PATIENCE, Client
from tests.in_thread import InThread
from tests.support import Doubler, GatedModel, Plane

# Bytes of a body.  Smaller than what is read and dropped for a connection's sake, so that both can be seen.
LIMIT = 4096
# Bytes that wait in the kernel for a client that does not read: few, so that short answers pile up.
SEND_BUFFER = 64 * 1024
COLUMNS = 50_000


class Wide(Model):
    """A row of `columns` random-looking numbers for each number: an answer as large as one likes."""

    platform = "test"
    batchable = True
    inputs: Sequence[TensorMetadata] = (TensorMetadata("x", FP64, (-1, 1)),)

    def __init__(self, columns: int) -> None:
        self.outputs: Sequence[TensorMetadata] = (TensorMetadata("y", FP64, (-1, columns)),)
        self.calls = 0
        self._numbers = np.random.default_rng(0).random((1, columns))

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        self.calls += 1
        return {"y": self._numbers * inputs["x"]}


def models() -> dict[str, Model]:
    """`small` answers 4 kB and `large` 1 MB of JSON for one row; `gated` computes while its gate is open."""
    return {"m": Doubler(), "gated": GatedModel(), "small": Wide(200), "large": Wide(COLUMNS)}


class InferServer(InThread):
    """One front.

    Args:
        open_exchange: in place of the real infer door.
        max_body: bytes.
        busy_poll: seconds.
    """

    http: HttpServer
    port: int

    def __init__(
        self,
        limits: HttpLimits | None = None,
        open_exchange: OpenExchange | None = None,
        max_body: int = LIMIT,
        busy_poll: float = 0.0,
    ) -> None:
        super().__init__()
        self.journal = Journal()
        self.plane = Plane(models(), self.journal)
        self._limits = limits or HttpLimits()
        self.settings = InferSettings(max_body, max_body, PATIENCE, busy_poll=busy_poll)
        self._open_exchange = open_exchange or partial(Exchange, self.plane.data, self.settings)

    # --- for tests, in their own thread ---

    @property
    def gated(self) -> GatedModel:
        """The model with a gate."""
        model = self.plane.models["gated"]
        assert isinstance(model, GatedModel)
        return model

    def connect(self, receive_buffer: int | None = None) -> Client:
        """A client with an open connection that the server has accepted; bytes of its receive buffer."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE)
        sock.connect(("127.0.0.1", self.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        address = sock.getsockname()
        self.until(lambda: any(each.client == address for each in self.http._open()))
        return Client(sock)

    def inside(self) -> int:
        """Requests that have been admitted and have not ended."""
        return self.call(lambda: self.plane.gate.in_flight)

    def connections(self) -> list[LimitedProtocol]:
        """The open ones."""
        return self.call(self.http._open)

    def wait_received(self, size: int) -> None:
        """Return when the one open connection has received so many bytes."""
        [connection] = self.connections()
        self.until(lambda: connection.patience.received >= size)

    def wait_alone(self) -> None:
        """Return when no connection is open."""
        self.until(lambda: not self.http._open())

    # --- on the loop ---

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with self.plane:
            app = create_app(self.plane.data, self.settings, self.journal.exposition)
            self.http = HttpServer(
                app, self._limits, self._open_exchange, Express(self.plane.data, self.settings)
            )
            listener = socket.create_server(("127.0.0.1", 0), backlog=128)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            self.port = listener.getsockname()[1]
            await self.http.start(listener)
            yield
            self.gated.gate.set()
            await self.http.stop(1.0)


def row(value: float, columns: int = 1, **members: Any) -> dict[str, Any]:
    """A JSON request of one row; `members` are put over its own."""
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, columns], "data": [value] * columns}
    return {"inputs": [tensor], **members}


DOORS: Mapping[str, Mapping[str, str]] = {"direct": {}, "asgi": {"Content-Encoding": "identity"}}
