"""One request, described neutrally, through each way into the server, and its answer described the same.

Raw tensors are written and read here by hand: the server's own codec is what is tested.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

import numpy as np
import orjson

from oipserver.core.datatypes import DATATYPES
from oipserver.core.errors import Fault
from oipserver.core.messages import Array, InferenceRequest, InferenceResponse, Scalar, Tensor
from oipserver.grpc._generated.open_inference_pb2 import (
    InferParameter,
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
)
from tests.conformance.system import System
from tests.conformance.wires import Channel, Connection, Status, message
from tests.support import PATIENCE


class Form(Enum):
    """How tensors travel."""

    ARRAYS = "arrays"
    JSON = "json"
    BINARY = "binary"
    RAW = "raw"
    TYPED = "typed"


@dataclass(frozen=True)
class Given:
    """An input.

    Attributes:
        data: the elements, flat, or nested for the forms that know nesting.
        raw: the bytes to send in place of those of `data`, where the form has bytes.
    """

    datatype: str
    shape: Sequence[Any]
    data: Any = ()
    name: str = "x"
    raw: bytes | None = None


@dataclass(frozen=True)
class Ask:
    """A request.

    Attributes:
        document: members put over those of the JSON object, for the forms that have one.
    """

    model: str
    inputs: Sequence[Given]
    outputs: Sequence[str] = ()
    version: str | None = None
    id: str | None = None
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    document: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Output:
    """An output; floats that are not finite are NaN where the form has no word for them."""

    name: str
    datatype: str
    shape: Sequence[int]
    data: Sequence[Any]


@dataclass(frozen=True)
class Reply:
    """An answer."""

    model: str
    version: str
    id: str
    outputs: Sequence[Output]


@dataclass(frozen=True)
class Refused:
    """An error; that its form is right was checked by the door."""

    code: str
    message: str


class Door(Protocol):
    """A way in."""

    form: Form

    def infer(self, ask: Ask) -> Reply | Refused:
        """What becomes of a request."""


# --- the data plane, without a wire ------------------------------------------------------------------------


class PlaneDoor:
    """`DataPlane.infer` on the server's loop."""

    form = Form.ARRAYS

    def __init__(self, system: System) -> None:
        self._system = system

    def infer(self, ask: Ask) -> Reply | Refused:
        request = InferenceRequest(
            model_name=ask.model,
            model_version=ask.version,
            inputs=[Tensor(one.name, DATATYPES[one.datatype], _array(one)) for one in ask.inputs],
            outputs=ask.outputs,
            id=ask.id or "made by the front",
            parameters=ask.parameters,
            deadline=time.monotonic() + PATIENCE,
        )
        try:
            response = self._system.run(self._infer(request))
        except Fault as fault:
            return Refused(fault.code, fault.message)
        outputs = [
            Output(one.name, one.datatype.name, one.data.shape, one.data.ravel().tolist())
            for one in response.outputs
        ]
        return Reply(response.model_name, response.model_version, response.id, outputs)

    async def _infer(self, request: InferenceRequest) -> InferenceResponse:
        return await self._system.plane.infer(request)


# --- HTTP --------------------------------------------------------------------------------------------------


class HttpDoor:
    """One connection that is kept, whatever is answered on it."""

    def __init__(self, port: int, form: Form, route: str = "infer") -> None:
        self.form = form
        self._route = route
        self._port = port
        self._connection: Connection | None = None

    def close(self) -> None:
        """Close what is kept."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def infer(self, ask: Ask) -> Reply | Refused:
        version = "" if ask.version is None else f"/versions/{ask.version}"
        body, headers = _http_body(ask, binary=self.form is Form.BINARY)
        if self._connection is None:
            self._connection = Connection(self._port)
        answer = self._connection.ask(
            message("POST", f"/v2/models/{ask.model}{version}/{self._route}", body, headers)
        )
        if answer.headers.get("connection") == "close":
            self.close()
        if answer.status != 200:
            code = answer.json()["error_code"]
            return Refused(code, answer.error(code))
        return _read_http(answer.headers, answer.body)


def _http_body(ask: Ask, binary: bool) -> tuple[bytes, dict[str, str]]:
    document: dict[str, Any] = {"inputs": []}
    blobs = b""
    for one in ask.inputs:
        tensor: dict[str, Any] = {"name": one.name, "datatype": one.datatype, "shape": one.shape}
        if binary:
            blob = raw_bytes(one)
            tensor["parameters"] = {"binary_data_size": len(blob)}
            blobs += blob
        else:
            tensor["data"] = _json_elements(one.data)
        document["inputs"].append(tensor)
    parameters = dict(ask.parameters)
    if binary:
        parameters["binary_data_output"] = True
    if parameters:
        document["parameters"] = parameters
    if ask.outputs:
        document["outputs"] = [{"name": name} for name in ask.outputs]
    if ask.id is not None:
        document["id"] = ask.id
    text = orjson.dumps({**document, **ask.document})
    return text + blobs, {"Inference-Header-Content-Length": str(len(text))} if binary else {}


def _json_elements(data: Any) -> Any:
    if isinstance(data, list | tuple):
        return [_json_elements(one) for one in data]
    return data.decode() if isinstance(data, bytes) else data


def _read_http(headers: Mapping[str, str], body: bytes) -> Reply:
    length = headers.get("inference-header-content-length")
    assert headers["content-type"] == ("application/json" if length is None else "application/octet-stream")
    end = len(body) if length is None else int(length)
    document = orjson.loads(body[:end])
    outputs = []
    for one in document["outputs"]:
        if length is None:
            data = _from_json(one["data"], one["datatype"])
        else:
            assert "data" not in one
            start, end = end, end + one["parameters"]["binary_data_size"]
            data = elements(body[start:end], one["datatype"])
        outputs.append(Output(one["name"], one["datatype"], one["shape"], data))
    assert end == len(body), "bytes are left over"
    return Reply(document["model_name"], document["model_version"], document["id"], outputs)


def _from_json(data: Sequence[Any], datatype: str) -> list[Any]:
    if datatype == "BYTES":
        return [one.encode() for one in data]
    if datatype == "FP32":
        return [float(one) for one in np.array(data, np.float32)]
    return [float("nan") if one is None else one for one in data]


# --- gRPC --------------------------------------------------------------------------------------------------

TYPED_FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


class GrpcDoor:
    """ModelInfer; a raw question has a raw answer, a typed one a typed answer."""

    def __init__(self, channel: Channel, form: Form) -> None:
        self.form = form
        self._channel = channel

    def infer(self, ask: Ask) -> Reply | Refused:
        result = self._channel.infer(grpc_message(ask, raw=self.form is Form.RAW))
        if isinstance(result, Status):
            code = str(result.trailers["error-code"])
            return Refused(code, result.error(code))
        return self._read(ModelInferResponse.FromString(result))

    def _read(self, response: ModelInferResponse) -> Reply:
        raw = list(response.raw_output_contents)
        assert len(raw) == (len(response.outputs) if self.form is Form.RAW else 0)
        outputs = []
        for position, one in enumerate(response.outputs):
            data = elements(raw[position], one.datatype) if raw else _typed_elements(one)
            outputs.append(Output(one.name, one.datatype, list(one.shape), data))
        return Reply(response.model_name, response.model_version, response.id, outputs)


class StreamDoor(GrpcDoor):
    """ModelStreamInfer, with one request."""

    def infer(self, ask: Ask) -> Reply | Refused:
        [body] = self._channel.stream("ModelStreamInfer", grpc_message(ask).SerializeToString())
        answer = ModelStreamInferResponse.FromString(body)
        if answer.error_message:
            told = answer.infer_response.id  # an id that is too long is told as far as it may be
            assert told != ""
            assert (ask.id or told).startswith(told)
            return Refused(answer.infer_response.parameters["error_code"].string_param, answer.error_message)
        return self._read(answer.infer_response)


def grpc_message(ask: Ask, raw: bool = True) -> ModelInferRequest:
    """A request in protobuf."""
    request = ModelInferRequest(model_name=ask.model, model_version=ask.version or "", id=ask.id or "")
    for one in ask.inputs:
        tensor = request.inputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
        if raw:
            request.raw_input_contents.append(raw_bytes(one))
        else:
            tensor.contents.CopyFrom(InferTensorContents(**{TYPED_FIELDS[one.datatype]: flat(one.data)}))
    for name in ask.outputs:
        request.outputs.add(name=name)
    for key, value in ask.parameters.items():
        request.parameters[key].CopyFrom(_parameter(value))
    return request


def _parameter(value: Scalar) -> InferParameter:
    if isinstance(value, bool):
        return InferParameter(bool_param=value)
    if isinstance(value, int):
        return InferParameter(int64_param=value)
    if isinstance(value, float):
        return InferParameter(double_param=value)
    return InferParameter(string_param=value)


def _typed_elements(tensor: ModelInferResponse.InferOutputTensor) -> list[Any]:
    return list(getattr(tensor.contents, TYPED_FIELDS[tensor.datatype]))


# --- tensors by hand ---------------------------------------------------------------------------------------

_PACKED = {
    "BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h",
    "INT32": "i", "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip


def flat(data: Any) -> list[Any]:
    """Elements without their nesting."""
    if isinstance(data, list | tuple):
        return [element for one in data for element in flat(one)]
    return [data]


def raw_bytes(given: Given) -> bytes:
    """Little-endian bytes; BYTES with their length in front."""
    if given.raw is not None:
        return given.raw
    values = flat(given.data)
    if given.datatype == "BYTES":
        return b"".join(struct.pack("<I", len(value)) + value for value in values)
    if given.datatype == "BF16":
        return b"".join(struct.pack("<f", value)[2:] for value in values)
    return struct.pack(f"<{len(values)}{_PACKED[given.datatype]}", *values)


def elements(raw: bytes, datatype: str) -> list[Any]:
    """The inverse of `raw_bytes`."""
    if datatype == "BYTES":
        values: list[Any] = []
        while raw:
            end = 4 + int(struct.unpack_from("<I", raw)[0])
            values.append(raw[4:end])
            raw = raw[end:]
        return values
    if datatype == "BF16":
        raw = b"".join(b"\0\0" + raw[start : start + 2] for start in range(0, len(raw), 2))
    letter = _PACKED.get(datatype, "f")
    return list(struct.unpack(f"<{len(raw) // struct.calcsize(letter)}{letter}", raw))


def _array(given: Given) -> Array:
    dtype = DATATYPES[given.datatype].dtype
    values = flat(given.data)
    array: Array = np.empty(len(values), dtype)
    array[:] = values
    return array.reshape(given.shape)
