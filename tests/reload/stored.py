"""Models on disk that tell their generation, and who asks a server for it."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import joblib
import numpy as np
from sklearn.linear_model import LinearRegression

from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest, ModelInferResponse
from tests.server_process import PATIENCE, ServerProcess

SERVICE = "/inference.GRPCInferenceService"
# Each row of an answer is a value of its own plus the generation, which is thereby known of every row.
VALUES = (1000.0, 2000.0, 3000.0)
BODY = {"inputs": [{"name": "input-0", "shape": [3, 1], "datatype": "FP64", "data": VALUES}]}

CODE = """
from oipserver_python import Input, Output, function

@function(
    inputs=[Input("input-0", "FP64", [-1, 1])], outputs=[Output("y", "FP64", [-1, 1])], batchable=True
)
def total(x):
    return x + {generation}
"""


def write_code(path: Path, generation: int) -> None:
    """A Python model, which runs on threads."""
    _replace(path, CODE.format(generation=generation).encode())


def write_estimator(path: Path, generation: int) -> None:
    """A scikit-learn model, which runs on the event loop."""
    model = LinearRegression()
    model.coef_, model.intercept_, model.n_features_in_ = np.ones(1), float(generation), 1
    write_object(path, model)


def write_object(path: Path, anything: object) -> None:
    """Whatever joblib can write."""
    fresh = path.with_suffix(".fresh")
    joblib.dump(anything, fresh)
    os.replace(fresh, path)


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".fresh")
    fresh.write_bytes(content)
    os.replace(fresh, path)


def generation_of(numbers: list[float]) -> int:
    """The generation that has answered, which must be the same for every row."""
    [generation] = {number - value for number, value in zip(numbers, VALUES, strict=True)}
    return int(generation)


def post(server: ServerProcess, path: str, document: Any = None) -> tuple[int, Any]:
    """Status and document of a POST; None for an empty body."""
    return call(server, "POST", path, b"" if document is None else json.dumps(document).encode())


def get(server: ServerProcess, path: str) -> tuple[int, Any]:
    """Status and document of a GET."""
    return call(server, "GET", path)


def call(server: ServerProcess, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    with connected(server) as connection:
        connection.request(method, path, body)
        answer = connection.getresponse()
        text = answer.read()
    return answer.status, json.loads(text) if text else None


def ask(server: ServerProcess, model: str) -> int:
    """The generation that serves now."""
    status, answer = post(server, f"/v2/models/{model}/infer", BODY)
    assert status == 200, answer
    return generation_of(answer["outputs"][0]["data"])


def index(server: ServerProcess, model: str) -> dict[str, str]:
    """What the index says of a model."""
    status, entries = post(server, "/v2/repository/index")
    assert status == 200, entries
    [entry] = [entry for entry in entries if entry["name"] == model]
    return dict(entry)


class Asking:
    """Callers that ask one after the other until the end, each on a connection of its own.

    Attributes:
        seen: the generations that answered each caller, in order.
        failures: everything that was no good answer.
    """

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.failures: list[str] = []
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, ask: Callable[[], list[float]]) -> None:
        """One more caller; `ask` returns the numbers of an answer, and raises for anything else."""
        seen: list[int] = []
        self.seen.append(seen)
        first = threading.Event()

        def run() -> None:
            while not self._ended.is_set():
                try:
                    seen.append(generation_of(ask()))
                except Exception as error:
                    self.failures.append(repr(error))
                    return
                finally:
                    first.set()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._threads.append(thread)
        assert first.wait(PATIENCE)

    def wait_for(self, generation: int) -> None:
        """Return when every caller has met it, or a later one."""
        end = time.monotonic() + PATIENCE
        while not self.failures and any(seen[-1] < generation for seen in self.seen):
            assert time.monotonic() < end
            self._ended.wait(0.001)

    def end(self) -> None:
        """Return when the last answer is there."""
        self._ended.set()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


@contextmanager
def connected(server: ServerProcess) -> Iterator[http.client.HTTPConnection]:
    """A connection, for the time of a `with` statement."""
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=PATIENCE)
    try:
        yield connection
    finally:
        connection.close()


def over_http(connection: http.client.HTTPConnection, model: str) -> Callable[[], list[float]]:
    """Asks on one connection, always with the same bytes."""
    body = json.dumps(BODY).encode()

    def ask() -> list[float]:
        connection.request("POST", f"/v2/models/{model}/infer", body)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        return list(json.loads(text)["outputs"][0]["data"])

    return ask


def over_grpc(channel: grpc.Channel, model: str) -> Callable[[], list[float]]:
    """Asks with raw tensors."""
    infer = channel.unary_unary(
        f"{SERVICE}/ModelInfer",
        request_serializer=ModelInferRequest.SerializeToString,
        response_deserializer=ModelInferResponse.FromString,
    )
    tensor = ModelInferRequest.InferInputTensor(name="input-0", datatype="FP64", shape=[3, 1])
    raw = np.array(VALUES).tobytes()
    request = ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[raw])

    def ask() -> list[float]:
        answer = infer(request, timeout=PATIENCE)
        return [float(number) for number in np.frombuffer(answer.raw_output_contents[0])]

    return ask
