"""The models, the one-row requests to them, and the check that an answer is right."""

from __future__ import annotations

import http.client
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import joblib
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest, ModelInferResponse

GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"
# With an id of its own a request has an answer whose every byte is known.
REQUEST_ID = "benchmark"
_SECONDS = 30.0


class WrongAnswer(Exception):
    """A server answered, and not what the model says."""


@dataclass(frozen=True, slots=True)
class Question:
    """One row for one model.

    Attributes:
        row: FP64 `[1, features]`.
        label: what the model says to it.
    """

    name: str
    model: Any
    row: np.ndarray[Any, np.dtype[np.float64]]
    label: int

    @property
    def http_path(self) -> str:
        """Where it is asked over HTTP."""
        return f"/v2/models/{self.name}/infer"

    @property
    def http_body(self) -> bytes:
        """The row as JSON."""
        tensor = {"name": "input-0", "shape": self.row.shape, "datatype": "FP64", "data": self.row.tolist()}
        return json.dumps({"id": REQUEST_ID, "inputs": [tensor]}, separators=(",", ":")).encode()

    @property
    def http_request(self) -> bytes:
        """Head and body."""
        body = self.http_body
        head = (
            f"POST {self.http_path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    @property
    def grpc_message(self) -> bytes:
        """The row as a ModelInferRequest with raw contents."""
        tensor = ModelInferRequest.InferInputTensor(name="input-0", shape=self.row.shape, datatype="FP64")
        raw = struct.pack(f"<{self.row.size}d", *self.row.flat)
        return ModelInferRequest(
            model_name=self.name, id=REQUEST_ID, inputs=[tensor], raw_input_contents=[raw]
        ).SerializeToString()

    def ask_http(self, port: int) -> tuple[list[tuple[str, str]], bytes]:
        """Headers and body of the answer, checked.

        Raises:
            WrongAnswer: another status, shape, datatype or label.
        """
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
        try:
            connection.request("POST", self.http_path, self.http_body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise WrongAnswer(f"{self.http_path}: {response.status} {body[:200]!r}")
        (output,) = json.loads(body)["outputs"]
        self._check(output["datatype"], output["shape"], output["data"])
        return response.getheaders(), body

    def ask_grpc(self, port: int) -> bytes:
        """The answer's message, checked.

        Raises:
            WrongAnswer: another shape, datatype or label.
            grpc.RpcError: another status.
        """
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            message: bytes = channel.unary_unary(GRPC_PATH, None, None)(self.grpc_message, timeout=_SECONDS)
        response = ModelInferResponse.FromString(message)
        (output,), (raw,) = response.outputs, response.raw_output_contents
        self._check(output.datatype, list(output.shape), list(struct.unpack("<q", raw)))
        return message

    def _check(self, datatype: str, shape: list[int], data: list[int]) -> None:
        if (datatype, shape, data) != ("INT64", [1, 1], [self.label]):
            raise WrongAnswer(f"model '{self.name}': {datatype} {shape} {data}, expected label {self.label}")


def train(directory: Path) -> tuple[dict[str, Question], Path]:
    """The models, saved in `directory`: a question to each, and the server's configuration file."""
    estimators = {
        "iris": (LogisticRegression(max_iter=1000), load_iris),
        "cancer": (RandomForestClassifier(n_estimators=100, random_state=0), load_breast_cancer),
    }
    questions = {name: _train(name, *each, directory) for name, each in estimators.items()}
    models = [{"name": name, "runtime": "sklearn", "model_uri": f"{name}.joblib"} for name in questions]
    config = directory / "models.json"
    config.write_text(json.dumps({"models": models}))
    return questions, config


def _train(name: str, model: BaseEstimator, load: Any, directory: Path) -> Question:
    rows, labels = load(return_X_y=True)
    fitted = model.fit(rows, labels)
    joblib.dump(fitted, directory / f"{name}.joblib")
    row = np.asarray(rows[-1:], dtype=np.float64)
    return Question(name, fitted, row, int(fitted.predict(row)[0]))
