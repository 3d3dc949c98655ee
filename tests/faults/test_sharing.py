"""Callers with keys who share one model of a whole server: a crowd does not starve its neighbour."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest

from oipserver import DynamicBatching, ModelConfig
from oipserver.config import AccessConfig
from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest
from tests.access.running import KeyedServer, entry, key
from tests.conformance.wires import ask
from tests.core.test_sharing import Recorder
from tests.support import PATIENCE

FRONTS = ("http", "grpc")
QUEUE = 20


class Sharing:
    """A server whose model computes one request at a time, in the order that it remembers."""

    def __init__(self, server: KeyedServer, model: Recorder, pool: ThreadPoolExecutor) -> None:
        self.server = server
        self.model = model
        self._pool = pool

    def block(self) -> Future[str]:
        """Have it compute until the gate is open."""
        self.model.forget_warm_up()
        self.model.gate.clear()
        blocking = self.ask("http", "crowd", 0.0)
        assert self.model.entered.acquire(timeout=PATIENCE)
        return blocking

    def ask(self, front: str, caller: str, value: float, priority: int = 0) -> Future[str]:
        """The symbolic code of the answer to come."""
        infer = self._over_http if front == "http" else self._over_grpc
        return self._pool.submit(infer, caller, value, priority)

    def line(self, front: str, caller: str, values: range) -> list[Future[str]]:
        """One behind the other, each of them in the queue, or refused, before the next is sent."""
        asked = []
        for value in values:
            before = self.depth
            asked.append(self.ask(front, caller, float(value)))
            while self.depth == before and not any(future.done() for future in asked):
                pass
        return asked

    @property
    def depth(self) -> int:
        return self.server.server._registry.find("m", None).depth

    def _over_http(self, caller: str, value: float, priority: int) -> str:
        tensor = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [value, value]}
        body = json.dumps({"inputs": [tensor], "parameters": {"priority": priority}}).encode()
        headers = {"Authorization": f"Bearer {key(caller)}"}
        answer = ask(self.server.http_port, "POST", "/v2/models/m/infer", body, headers)
        return "OK" if answer.status == 200 else str(answer.json()["error_code"])

    def _over_grpc(self, caller: str, value: float, priority: int) -> str:
        request = ModelInferRequest(model_name="m", raw_input_contents=[np.full(2, value).tobytes()])
        request.inputs.add(name="x", datatype="FP64", shape=[1, 2])
        request.parameters["priority"].uint64_param = priority
        try:
            self.server.call("ModelInfer", request.SerializeToString(), x_api_key=key(caller))
        except grpc.RpcError as error:
            trailers: Any = error.trailing_metadata()
            return str(dict(trailers)["error-code"])
        return "OK"


@pytest.fixture(scope="module")
def sharing() -> Iterator[Sharing]:
    batching = DynamicBatching(max_queue_size=QUEUE, priority_levels=2, default_priority_level=2)
    config = ModelConfig("m", "test", max_batch_size=1, dynamic_batching=batching)
    keys = json.dumps([entry("crowd", roles=["infer"]), entry("neighbour", roles=["infer"])])
    model = Recorder()
    server = KeyedServer(AccessConfig(keys=keys), {"m": model})
    server.config = replace(server.config, models=(config,))
    with ThreadPoolExecutor(2 * QUEUE + 10) as pool, server:
        model.forget_warm_up()
        yield Sharing(server, model, pool)
        model.gate.set()


@pytest.mark.parametrize("neighbour", FRONTS)
@pytest.mark.parametrize("crowd", FRONTS)
def test_a_crowd_does_not_starve_its_neighbour(sharing: Sharing, crowd: str, neighbour: str) -> None:
    asked = [sharing.block(), *sharing.line(crowd, "crowd", range(1, 16))]
    asked += sharing.line(neighbour, "neighbour", range(100, 103))
    sharing.model.gate.set()
    assert {future.result() for future in asked} == {"OK"}
    assert sharing.model.rows == [0, 1, 100, 2, 101, 3, 102, *range(4, 16)]


@pytest.mark.parametrize("neighbour", FRONTS)
@pytest.mark.parametrize("crowd", FRONTS)
def test_a_queue_full_of_a_crowd_takes_the_neighbour_in(sharing: Sharing, crowd: str, neighbour: str) -> None:
    blocking = sharing.block()
    first = sharing.line(crowd, "crowd", range(1, QUEUE + 1))
    assert sharing.ask(crowd, "crowd", 99.0).result() == "OVERLOADED"
    asked = [sharing.ask(neighbour, "neighbour", float(value)) for value in range(100, 105)]
    while sum(future.done() for future in first) < 5:
        assert not any(future.done() for future in asked)
    sharing.model.gate.set()
    assert {future.result() for future in (blocking, *asked)} == {"OK"}
    assert Counter(future.result() for future in first) == {"OK": QUEUE - 5, "OVERLOADED": 5}


@pytest.mark.parametrize("front", FRONTS)
def test_a_priority_is_served_first(sharing: Sharing, front: str) -> None:
    asked = [sharing.block(), *sharing.line(front, "crowd", range(1, 6))]
    asked.append(sharing.ask(front, "crowd", 100.0, priority=1))
    while sharing.depth < 6:
        assert not asked[-1].done()
    sharing.model.gate.set()
    assert {future.result() for future in asked} == {"OK"}
    assert sharing.model.rows == [0, 100, *range(1, 6)]
