"""Both fronts with a user's apps, around models in memory, in a thread with its own event loop."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc

from oipserver import App, Model
from oipserver.apps.life import Apps
from oipserver.apps.loading import LoadedApp
from oipserver.apps.models import Models
from oipserver.apps.services import services_of
from oipserver.config import GrpcConfig
from oipserver.grpc.server import GrpcServer
from oipserver.http.app import create_app
from oipserver.http.door import Exchange, InferSettings
from oipserver.http.express import Express
from oipserver.http.limits import HttpLimits
from oipserver.http.server import HttpServer
from tests.conformance.system import Journal
from tests.in_thread import InThread
from tests.support import PATIENCE, Doubler, GatedModel, Plane

# Bytes; small, so that a body over the limit costs a test nothing.
MAX_JSON = 100_000
MAX_BODY = 300_000


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP; the names of headers are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def fault(self) -> tuple[int, str, str]:
        """Status, code and text of an answer that keeps the error contract."""
        document = self.json
        assert set(document) == {"error", "error_code", "message", "request_id"}
        assert document["error"] == document["message"]
        assert document["request_id"] == self.headers["x-request-id"]
        assert self.headers["content-type"] == "application/json"
        return self.status, document["error_code"], document["error"]


class AppServer(InThread):
    """Both fronts.

    Args:
        apps: with the names that complaints call them.
        models: "m" is a Doubler and "gated" a GatedModel by default.
        scored: as if one of them had scoring paths of its own.
    """

    port: int
    grpc_port: int

    def __init__(
        self,
        *apps: App,
        models: dict[str, Model] | None = None,
        max_rpcs: int = 64,
        timeout: float = PATIENCE,
        scored: bool = False,
    ) -> None:
        super().__init__()
        self.journal = Journal()
        self.plane = Plane(models or {"m": Doubler(), "gated": GatedModel()}, self.journal)
        self.models = Models(self.plane.data, timeout)
        self.apps = Apps([LoadedApp(f"app{at}.py", app) for at, app in enumerate(apps)], self.models)
        self._settings = InferSettings(MAX_JSON, MAX_BODY, timeout)
        self._timeout = timeout
        self._max_rpcs = max_rpcs
        self._app = create_app(self.plane.data, self._settings, self.journal.exposition, self.apps, scored)
        self._services = services_of(self.apps)

    # --- for tests, in their own thread ---

    @property
    def gated(self) -> GatedModel:
        model = self.plane.models["gated"]
        assert isinstance(model, GatedModel)
        return model

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own; a body that is neither bytes nor an iterator is JSON."""
        if body is not None and not isinstance(body, bytes) and not hasattr(body, "__next__"):
            body = json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, fields, answer.read())
        finally:
            connection.close()

    def begin(self, *arguments: Any) -> Future[Answer]:
        """As `ask`, in a thread of its own."""
        future: Future[Answer] = Future()

        def run() -> None:
            try:
                future.set_result(self.ask(*arguments))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return future

    def channel(self) -> Any:  # the stubs want serializers, which bytes do without
        """A new channel; a context manager."""
        return grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}")

    def waiting(self, model: str) -> int:
        """Requests in the queue of a model; on the loop."""
        return self.plane.registry.find(model, None).depth

    # --- on the loop ---

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        self.models.bind(self.loop)
        async with self.plane:
            front = HttpServer(
                self._app,
                HttpLimits(),
                partial(Exchange, self.plane.data, self._settings),
                Express(self.plane.data, self._settings),
            )
            listener = socket.create_server(("127.0.0.1", 0))
            listener.setblocking(False)
            self.port = listener.getsockname()[1]
            await front.start(listener)
            services = GrpcServer(
                self.plane.data,
                self.loop,
                address="127.0.0.1:0",
                limits=GrpcConfig(max_concurrent_rpcs=self._max_rpcs),
                default_timeout_seconds=self._timeout,
                services=self._services,
            )
            self.grpc_port = services.start()
            await self.apps.start()
            yield
            for model in self.plane.models.values():
                if isinstance(model, GatedModel):
                    model.gate.set()
            await asyncio.gather(front.stop(1.0), services.stop(1.0))
            await self.apps.stop(PATIENCE)


def row(value: float) -> list[list[float]]:
    """An input of one row for the models here; they answer twice of it."""
    return [[value, value]]


def v2(value: float) -> dict[str, Any]:
    """The same row as a request of the protocol."""
    return {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [value, value]}]}
