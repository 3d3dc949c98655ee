"""Servers that live as long as the test session, and what each test needs of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

import pytest

from oipserver import ModelConfig
from tests.conformance.callers import Caller, GrpcCaller, HttpCaller
from tests.conformance.doors import Door, Form, GrpcDoor, HttpDoor, PlaneDoor, StreamDoor
from tests.conformance.models import served
from tests.conformance.system import Served, System
from tests.conformance.wires import Channel
from tests.support import Doubler, GatedModel


@pytest.fixture(scope="session")
def system() -> Iterator[System]:
    """Every model of `models.py` behind every front.  One of them never gets ready, one has failed."""
    release = threading.Event()
    with System(served(release)) as running:
        try:
            yield running
        finally:
            release.set()


@pytest.fixture(scope="session")
def calm() -> Iterator[System]:
    """A server whose one model is ready."""
    config = ModelConfig(name="m", runtime="test")
    with System({"m": Served(config, Doubler)}) as running:
        yield running


@pytest.fixture(scope="session")
def channel(system: System) -> Iterator[Channel]:
    """A gRPC channel to `system`."""
    opened = Channel(system.ports["grpc"])
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def doors(system: System, channel: Channel) -> Iterator[Mapping[str, Door]]:
    """Every way into `system`, by name."""
    http = {
        f"http-{host}-{form.value}": HttpDoor(system.ports[host], form)
        for host in ("ours", "h11", "httptools")
        for form in (Form.JSON, Form.BINARY)
    }
    http["http-generate"] = HttpDoor(system.ports["ours"], Form.JSON, "generate")
    yield {
        "data plane": PlaneDoor(system),
        **http,
        "grpc-raw": GrpcDoor(channel, Form.RAW),
        "grpc-typed": GrpcDoor(channel, Form.TYPED),
        "grpc-stream": StreamDoor(channel, Form.RAW),
    }
    for door in http.values():
        door.close()


@pytest.fixture
def gated(system: System) -> Iterator[GatedModel]:
    """The model that computes only while its gate is open: closed to begin with."""
    model = system.gated("gated")
    system.wait_inside(0)
    model.forget_warm_up()
    model.gate.clear()
    system.journal.clear()
    yield model
    model.gate.set()
    system.wait_inside(0)


@pytest.fixture(params=("http-ours", "http-h11", "http-httptools", "grpc"))
def caller(request: pytest.FixtureRequest, system: System, channel: Channel) -> Caller:
    """Somebody who asks `system`, over each front and HTTP host in turn."""
    name: str = request.param
    return GrpcCaller(channel) if name == "grpc" else HttpCaller(system.ports[name.removeprefix("http-")])


@pytest.fixture
def draining(system: System) -> Iterator[None]:
    """The last seconds of `system`: nothing new is taken; it recovers when the test ends."""
    gate = system.plane.gate
    gate.stopping = gate.draining = True
    yield
    gate.stopping = gate.draining = False
