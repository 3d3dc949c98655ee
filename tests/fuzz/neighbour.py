"""A caller who behaves, beside those who do not: every answer must be right, and come."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any

import grpc

from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest, ModelInferResponse
from tests.conformance.wires import SERVICE
from tests.server_process import ServerProcess
from tests.support import PATIENCE


def row(number: int, name: str = "sum") -> list[float]:
    """Values that no other request has."""
    return [float(number), number + 0.25, number + 0.5, -1.0][: 4 if name == "sum" else 2]


def right(name: str, values: list[float]) -> list[float]:
    """What the model answers to a row."""
    return [sum(values)] if name == "sum" else [2 * value for value in values]


def document(name: str, values: list[float]) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, len(values)], "data": values}
    return {"id": f"good-{values[0]}", "inputs": [tensor]}


def message(name: str, values: list[float]) -> ModelInferRequest:
    made = ModelInferRequest(model_name=name, id=f"good-{values[0]}")
    tensor = made.inputs.add(name="x", datatype="FP64", shape=[1, len(values)])
    tensor.contents.fp64_contents.extend(values)
    return made


def same(came: list[float], expected: list[float]) -> bool:
    return len(came) == len(expected) and all(
        abs(one - other) <= 1e-9 * max(1.0, abs(other)) for one, other in zip(came, expected, strict=True)
    )


class Neighbour:
    """Asks both fronts in turn, on connections that stay open; leave it to see what went wrong."""

    def __init__(self, server: ServerProcess) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=PATIENCE)
        self._target = server.grpc_target
        self._channel = grpc.insecure_channel(server.grpc_target)
        self._infer: Any = self._channel.unary_unary(f"/{SERVICE}/ModelInfer", None, None)
        self._number = 0
        self._stop = threading.Event()
        self._wrong: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Neighbour:
        self.ask()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(4 * PATIENCE)
        self._http.close()
        self._channel.close()
        assert not self._wrong, self._wrong

    def check(self) -> None:
        """Fails as soon as something went wrong."""
        assert not self._wrong, self._wrong

    def ask(self) -> None:
        """One request by each front to each kind of model."""
        for name in ("sum", "double"):
            self._number += 1
            values = row(self._number, name)
            came = self._by_http(name, values)
            assert same(came, right(name, values)), (name, values, came)
            came = self._by_grpc(name, values)
            assert same(came, right(name, values)), (name, values, came)

    def ask_anew(self) -> None:
        """One more request, on a connection of its own."""
        with grpc.insecure_channel(self._target) as channel:
            infer: Any = channel.unary_unary(f"/{SERVICE}/ModelInfer", None, None)
            values = row(7)
            answer = ModelInferResponse.FromString(
                infer(message("sum", values).SerializeToString(), timeout=PATIENCE)
            )
        assert same(list(answer.outputs[0].contents.fp64_contents), right("sum", values))

    def _by_http(self, name: str, values: list[float]) -> list[float]:
        self._http.request("POST", f"/v2/models/{name}/infer", json.dumps(document(name, values)))
        answer = self._http.getresponse()
        body = json.loads(answer.read())
        assert answer.status == 200, body
        assert body["id"] == f"good-{values[0]}"
        data: list[float] = body["outputs"][0]["data"]
        return data

    def _by_grpc(self, name: str, values: list[float]) -> list[float]:
        answer = ModelInferResponse.FromString(
            self._infer(message(name, values).SerializeToString(), timeout=PATIENCE)
        )
        assert answer.id == f"good-{values[0]}"
        return list(answer.outputs[0].contents.fp64_contents)

    def _run(self) -> None:
        while not self._stop.wait(0.002):
            try:
                self.ask()
            except BaseException as error:
                self._wrong.append(f"{type(error).__name__}: {error}")
                return
