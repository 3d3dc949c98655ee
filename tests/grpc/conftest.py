"""Servers that a test starts and does not have to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from oipserver.core.model import Model
from oipserver.grpc import server
from oipserver.grpc.inside import find_inside
from tests.grpc.running import Running

Serve = Callable[..., Running]


@pytest.fixture(params=["direct", "waiting"])
def serve(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts servers: `serve({"m": model}, **options of GrpcServer)`; with both ways of sending an answer."""
    if request.param == "direct":
        assert find_inside() is not None, "this grpcio sends answers the slow way; see inside.py"
    else:
        monkeypatch.setattr(server, "find_inside", lambda: None)
    running: list[Running] = []

    def start(models: dict[str, Model], **options: Any) -> Running:
        running.append(Running(models, **options))
        return running[-1]

    yield start
    for each in running:
        each.close()
