"""What servers are asked, and the check that an answer is right."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.models import Rows
from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest, ModelInferResponse

GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"
# With an id of its own a request has an answer whose every byte is known.
REQUEST_ID = "benchmark"
# How far an answer may be from the model's; absolute and relative.
TOLERANCE = 1e-5

Numbers = np.ndarray[Any, np.dtype[Any]]
Right = Callable[[bytes], bool]

_RAW = {"INT32": "<i4", "INT64": "<i8", "FP32": "<f4", "FP64": "<f8"}
_TYPED = {
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


@dataclass(frozen=True, slots=True)
class HttpQuestion:
    """A POST request; `right` judges the body of an answer with status 200.

    Attributes:
        others: bodies with other rows that have the same answer; they are asked in turn.
    """

    path: str
    headers: Mapping[str, str]
    body: bytes
    right: Right
    others: Sequence[bytes] = ()

    @property
    def requests(self) -> list[bytes]:
        """Head and body of each."""
        return [self._request(body) for body in (self.body, *self.others)]

    def _request(self, body: bytes) -> bytes:
        lines = [f"POST {self.path} HTTP/1.1", "Host: 127.0.0.1"]
        lines += (f"{name}: {value}" for name, value in self.headers.items())
        lines += (f"Content-Length: {len(body)}", "", "")
        return "\r\n".join(lines).encode() + body


@dataclass(frozen=True, slots=True)
class GrpcQuestion:
    """A ModelInfer call; `right` judges the message of an answer with status OK.

    Attributes:
        others: messages with other rows that have the same answer; they are asked in turn.
    """

    message: bytes
    right: Right
    others: Sequence[bytes] = ()


def varied_http(build: Callable[[Rows], HttpQuestion], rows: Rows, others: Iterable[Rows]) -> HttpQuestion:
    """The question for `rows`, with those for others behind it."""
    return replace(build(rows), others=[build(each).body for each in others])


def varied_grpc(build: Callable[[Rows], GrpcQuestion], rows: Rows, others: Iterable[Rows]) -> GrpcQuestion:
    """As `varied_http`, of messages."""
    return replace(build(rows), others=[build(each).message for each in others])


def v2_json(model: str, rows: Rows, expected: Numbers) -> HttpQuestion:
    """Rows as FP64 in JSON, to any server of the Open Inference Protocol."""
    tensor = {"name": "input-0", "shape": rows.shape, "datatype": "FP64", "data": rows.tolist()}
    body = json.dumps({"id": REQUEST_ID, "inputs": [tensor]}, separators=(",", ":")).encode()

    def right(answer: bytes) -> bool:
        return equal(json.loads(answer)["outputs"][0]["data"], expected)

    return HttpQuestion(_path(model), {"Content-Type": "application/json"}, body, right)


def v2_binary(model: str, rows: Rows, expected: Numbers) -> HttpQuestion:
    """Rows as FP32 bytes behind the JSON (the binary tensor data extension), the answer as bytes as well."""
    raw = rows.astype("<f4").tobytes()
    tensor = {
        "name": "input-0",
        "shape": rows.shape,
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(raw)},
    }
    document = {"id": REQUEST_ID, "parameters": {"binary_data_output": True}, "inputs": [tensor]}
    head = json.dumps(document, separators=(",", ":")).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }

    def right(answer: bytes) -> bool:
        # One output: its bytes are the last ones.
        output = json.JSONDecoder().raw_decode(answer.decode("latin-1"))[0]["outputs"][0]
        size = output["parameters"]["binary_data_size"]
        return equal(np.frombuffer(answer[-size:], _RAW[output["datatype"]]), expected)

    return HttpQuestion(_path(model), headers, head + raw, right)


def v2_grpc(model: str, rows: Rows, expected: Numbers, datatype: str = "FP64") -> GrpcQuestion:
    """Rows of `datatype` as raw contents."""
    tensor = ModelInferRequest.InferInputTensor(name="input-0", shape=rows.shape, datatype=datatype)
    message = ModelInferRequest(
        model_name=model,
        id=REQUEST_ID,
        inputs=[tensor],
        raw_input_contents=[rows.astype(_RAW[datatype]).tobytes()],
    ).SerializeToString()

    def right(answer: bytes) -> bool:
        response = ModelInferResponse.FromString(answer)
        output = response.outputs[0]
        if response.raw_output_contents:
            numbers = np.frombuffer(response.raw_output_contents[0], _RAW[output.datatype])
        else:
            numbers = np.array(getattr(output.contents, _TYPED[output.datatype]))
        return equal(numbers, expected)

    return GrpcQuestion(message, right)


def equal(answer: Any, expected: Numbers) -> bool:
    """Whether the numbers of an answer, of whatever shape, are those of the model."""
    numbers = np.asarray(answer, dtype=np.float64).ravel()
    return numbers.size == expected.size and np.allclose(
        numbers, expected.ravel(), rtol=TOLERANCE, atol=TOLERANCE
    )


def _path(model: str) -> str:
    return f"/v2/models/{model}/infer"
