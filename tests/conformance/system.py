"""Every front over one data plane, in a thread with its own event loop, around models in memory.

Nothing here is a stand-in: the registry, the scheduler, the metrics, the HTTP server with its own protocol
class, two stock uvicorn servers and the gRPC server are the ones that serve.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import uvicorn

from oipserver import Model, ModelConfig
from oipserver.config import GrpcConfig
from oipserver.core import observer
from oipserver.core.admission import Gate
from oipserver.core.dataplane import DataPlane, ServerMetadata
from oipserver.core.registry import Registry
from oipserver.core.scheduler import Budget
from oipserver.grpc.server import GrpcServer
from oipserver.http.app import create_app
from oipserver.http.door import Exchange, InferSettings
from oipserver.http.express import Express
from oipserver.http.limits import HttpLimits
from oipserver.http.server import HttpServer
from oipserver.metrics import Metrics
from tests.in_thread import InThread
from tests.support import PATIENCE, GatedModel

EXTENSIONS = ("binary_tensor_data",)
# Small, so that a body over the limit costs a test nothing.
MAX_JSON = 1024 * 1024
MAX_BODY = 2 * 1024 * 1024


class Ended(NamedTuple):
    """One infer request that is over."""

    front: str
    model: str
    code: str


class Journal(Metrics):
    """The real metrics, and a list of the requests that ended, to wait on."""

    def __init__(self) -> None:
        super().__init__()
        self._ended: list[Ended] = []
        self._changed = threading.Condition()

    def requests(self, ended: observer.Ended) -> None:
        """Infer requests are over."""
        super().requests(ended)
        with self._changed:
            self._ended += [Ended(ended.front, ended.model, ended.code)] * len(ended.seconds)
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget what was before."""
        with self._changed:
            self._ended.clear()

    def wait_for(self, *expected: Ended) -> None:
        """Return when as many of each of these have ended since `clear`."""
        with self._changed:
            came = self._changed.wait_for(
                lambda: all(self._ended.count(one) >= expected.count(one) for one in expected), PATIENCE
            )
            assert came, f"expected {expected}, got {self._ended}"


@dataclass(frozen=True)
class Served:
    """A model and how it is configured; `load` runs on the registry's loading thread."""

    config: ModelConfig
    load: Callable[[], Model]


class System(InThread):
    """The fronts and what is behind them.

    Attributes:
        ports: of the HTTP hosts ("ours", "h11", "httptools") and of "grpc".
    """

    plane: DataPlane

    def __init__(self, served: Mapping[str, Served], limits: HttpLimits | None = None) -> None:
        super().__init__()
        self.ports: dict[str, int] = {}
        self.journal = Journal()
        self.models: dict[str, Model] = {}
        self._served = served
        self._limits = limits or HttpLimits(max_json_bytes=MAX_JSON, max_body_bytes=MAX_BODY)

    # --- for tests, in their own thread ---

    def gated(self, name: str) -> GatedModel:
        """A model of that kind."""
        model = self.models[name]
        assert isinstance(model, GatedModel)
        return model

    def inside(self) -> int:
        """Infer requests that have been admitted and have not ended."""
        return self.call(lambda: self.plane.gate.in_flight)

    def wait_inside(self, count: int) -> None:
        """Return when so many requests are inside."""
        self.until(lambda: self.plane.gate.in_flight == count)

    def wait_queued(self, model: str, count: int) -> None:
        """Return when so many requests wait for a model that is busy."""
        self.until(lambda: self.registry.find(model, None).depth == count)

    # --- on the loop ---

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        gate = Gate(self.journal)
        self.registry = Registry(self._load, Budget(1000, 2**30), self.journal)
        self.journal.watch(gate, self.registry)
        metadata = ServerMetadata("oipserver", "0", EXTENSIONS)
        self.plane = DataPlane(self.registry, gate, metadata, expected=len(self._served))
        loading = [self.loop.create_task(self.registry.load(one.config)) for one in self._served.values()]
        ready = [
            task
            for task, one in zip(loading, self._served.values(), strict=True)
            if one.config.name != "loading"
        ]
        await asyncio.gather(*ready)
        http, hosts, grpc = await self._open()
        yield
        for model in self.models.values():
            if isinstance(model, GatedModel):
                model.gate.set()
        for host in hosts:
            host.should_exit = True
        await asyncio.gather(http.stop(1.0), grpc.stop(1.0), *self._hosting)
        await asyncio.gather(*loading)
        await self.registry.close()

    def _load(self, config: ModelConfig) -> Model:
        model = self._served[config.name].load()
        self.models[config.name] = model
        return model

    async def _open(self) -> tuple[HttpServer, list[uvicorn.Server], GrpcServer]:
        settings = InferSettings(MAX_JSON, MAX_BODY, PATIENCE)
        app = create_app(self.plane, settings, self.journal.exposition)
        http = HttpServer(
            app, self._limits, partial(Exchange, self.plane, settings), Express(self.plane, settings)
        )
        await http.start(self._listener("ours"))
        hosts = [
            uvicorn.Server(uvicorn.Config(app, http="h11", ws="none", log_config=None, access_log=False)),
            uvicorn.Server(
                uvicorn.Config(app, http="httptools", ws="none", log_config=None, access_log=False)
            ),
        ]
        names = ("h11", "httptools")
        self._hosting = [
            self.loop.create_task(host.serve(sockets=[self._listener(name)]))
            for host, name in zip(hosts, names, strict=True)
        ]
        grpc = GrpcServer(
            self.plane,
            self.loop,
            address="127.0.0.1:0",
            limits=GrpcConfig(max_message_bytes=MAX_BODY),
            default_timeout_seconds=PATIENCE,
        )
        self.ports["grpc"] = grpc.start()
        return http, hosts, grpc

    def _listener(self, name: str) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        listener.setblocking(False)
        self.ports[name] = listener.getsockname()[1]
        return listener
