"""The two fronts behind one face, so that every test of an extension is one test of both."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import orjson
from google.protobuf.json_format import MessageToDict

from oipserver.grpc._generated import open_inference_pb2 as pb
from tests.conformance.wires import Answer, Channel, ask, failed, succeeded
from tests.grpc.running import parameter

DTYPES = {"FP64": "<f8", "FP32": "<f4", "INT64": "<i8", "BOOL": "?", "UINT8": "u1"}


@dataclass(frozen=True)
class Tensor:
    """An input: data of its own, or parameters that say where it is."""

    name: str
    datatype: str
    shape: Sequence[int]
    data: Any = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Output:
    """An answered output; `data` is None where none came."""

    datatype: str
    shape: list[int]
    data: list[Any] | None
    parameters: Mapping[str, Any]


Outputs = Mapping[str, Mapping[str, Any]]


class Front(Protocol):
    """What a test asks of either front."""

    name: str

    def infer(self, model: str, inputs: Sequence[Tensor], outputs: Outputs) -> Mapping[str, Output]:
        """The outputs of a request that succeeds; `outputs` are names and parameters."""
        ...

    def refused(self, code: str, model: str, inputs: Sequence[Tensor], outputs: Outputs) -> str:
        """The message of a request that is refused with `code`."""
        ...

    def tried(self, model: str, inputs: Sequence[Tensor], outputs: Outputs) -> str:
        """ "" for a request that succeeds, else what was wrong with it."""
        ...

    def register(self, region: str, key: str, size: int, offset: int = 0) -> None:
        """Register a region."""

    def not_registered(self, code: str, region: str, key: str, size: int, offset: int = 0) -> str:
        """The message of a registration that is refused with `code`."""
        ...

    def unregister(self, region: str = "") -> None:
        """Forget a region, or all."""

    def regions(self) -> Mapping[str, Mapping[str, Any]]:
        """The registered regions by name."""
        ...

    def statistics(self, model: str = "", version: str = "") -> list[Mapping[str, Any]]:
        """`model_stats`."""
        ...

    def config(self, model: str) -> Mapping[str, Any]:
        """The model's configuration."""
        ...


class Http:
    """REST."""

    name = "http"

    def __init__(self, port: int) -> None:
        self._port = port

    def infer(self, model: str, inputs: Sequence[Tensor], outputs: Outputs) -> Mapping[str, Output]:
        answer = self._infer(model, inputs, outputs)
        assert answer.status == 200, answer.body
        length = int(answer.headers.get("inference-header-content-length", len(answer.body)))
        document, blobs = orjson.loads(answer.body[:length]), answer.body[length:]
        found: dict[str, Output] = {}
        for output in document["outputs"]:
            parameters, data = output["parameters"], output.get("data")
            if (size := parameters.get("binary_data_size")) is not None:
                data, blobs = elements(blobs[:size], output["datatype"]), blobs[size:]
            found[output["name"]] = Output(output["datatype"], output["shape"], data, parameters)
        assert not blobs
        return found

    def refused(self, code: str, model: str, inputs: Sequence[Tensor], outputs: Outputs) -> str:
        return self._infer(model, inputs, outputs).error(code)

    def tried(self, model: str, inputs: Sequence[Tensor], outputs: Outputs) -> str:
        answer = self._infer(model, inputs, outputs)
        return "" if answer.status == 200 else answer.error("BAD_REQUEST")

    def _infer(self, model: str, inputs: Sequence[Tensor], outputs: Outputs) -> Answer:
        document = {
            "inputs": [
                {
                    "name": each.name,
                    "datatype": each.datatype,
                    "shape": each.shape,
                    "parameters": each.parameters,
                    **({} if each.data is None else {"data": each.data}),
                }
                for each in inputs
            ],
            "outputs": [{"name": name, "parameters": more} for name, more in outputs.items()],
        }
        return self.ask("POST", f"models/{model}/infer", document)

    def register(self, region: str, key: str, size: int, offset: int = 0) -> None:
        answer = self._register(region, key, size, offset)
        assert (answer.status, answer.body) == (200, b"")

    def not_registered(self, code: str, region: str, key: str, size: int, offset: int = 0) -> str:
        message: str = self._register(region, key, size, offset).error(code)
        return message

    def _register(self, region: str, key: str, size: int, offset: int) -> Any:
        document = {"key": key, "offset": offset, "byte_size": size}
        return self.ask("POST", f"systemsharedmemory/region/{region}/register", document)

    def unregister(self, region: str = "") -> None:
        one = f"/region/{region}" if region else ""
        assert self.ask("POST", f"systemsharedmemory{one}/unregister").status == 200

    def regions(self) -> Mapping[str, Mapping[str, Any]]:
        found = self._get("systemsharedmemory/status")
        assert all(self._get(f"systemsharedmemory/region/{one['name']}/status") == [one] for one in found)
        return {one["name"]: one for one in found}

    def statistics(self, model: str = "", version: str = "") -> list[Mapping[str, Any]]:
        one = f"/{model}/versions/{version}" if version else f"/{model}" if model else ""
        document = self._get(f"models{one}/stats")
        assert document.keys() == {"model_stats"}
        found: list[Mapping[str, Any]] = document["model_stats"]
        return found

    def config(self, model: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._get(f"models/{model}/config")
        return found

    def _get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer.body
        return answer.json()

    def ask(self, method: str, path: str, document: Any = None) -> Answer:
        """One request, with a JSON document in its body."""
        body = b"" if document is None else orjson.dumps(document)
        return ask(self._port, method, f"/v2/{path}", body)


class Grpc:
    """gRPC, one channel."""

    name = "grpc"

    def __init__(self, port: int) -> None:
        self._channel = Channel(port)

    def close(self) -> None:
        self._channel.close()

    def infer(self, model: str, inputs: Sequence[Tensor], outputs: Outputs) -> Mapping[str, Output]:
        response = pb.ModelInferResponse.FromString(
            succeeded(self._channel.infer(self.request(model, inputs, outputs)))
        )
        assert len(response.raw_output_contents) == len(response.outputs)
        found: dict[str, Output] = {}
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
            parameters = {
                key: getattr(value, value.WhichOneof("parameter_choice"))
                for key, value in output.parameters.items()
            }
            data = None if "shared_memory_region" in parameters else elements(raw, output.datatype)
            assert data is not None or raw == b""
            found[output.name] = Output(output.datatype, list(output.shape), data, parameters)
        return found

    def refused(self, code: str, model: str, inputs: Sequence[Tensor], outputs: Outputs) -> str:
        return self._channel.refused(self.request(model, inputs, outputs)).error(code)

    def tried(self, model: str, inputs: Sequence[Tensor], outputs: Outputs) -> str:
        answer = self._channel.infer(self.request(model, inputs, outputs))
        return "" if isinstance(answer, bytes) else answer.error("BAD_REQUEST")

    def stream(self, *requests: pb.ModelInferRequest) -> list[pb.ModelStreamInferResponse]:
        """The answers to requests over one stream, errors behind."""
        bodies = [request.SerializeToString() for request in requests]
        answers = [
            pb.ModelStreamInferResponse.FromString(answer)
            for answer in self._channel.stream("ModelStreamInfer", *bodies)
        ]
        return sorted(answers, key=lambda answer: bool(answer.error_message))

    def request(self, model: str, inputs: Sequence[Tensor], outputs: Outputs) -> pb.ModelInferRequest:
        """A ModelInferRequest."""
        request = pb.ModelInferRequest(model_name=model)
        for each in inputs:
            tensor = request.inputs.add(name=each.name, datatype=each.datatype, shape=each.shape)
            _fill(tensor.parameters, each.parameters)
            if each.data is not None:
                request.raw_input_contents.append(raw(each.data, each.datatype))
        for name, parameters in outputs.items():
            _fill(request.outputs.add(name=name).parameters, parameters)
        return request

    def register(self, region: str, key: str, size: int, offset: int = 0) -> None:
        assert succeeded(self._register(region, key, size, offset)) == b""

    def not_registered(self, code: str, region: str, key: str, size: int, offset: int = 0) -> str:
        return failed(self._register(region, key, size, offset)).error(code)

    def _register(self, region: str, key: str, size: int, offset: int) -> Any:
        request = pb.SystemSharedMemoryRegisterRequest(name=region, key=key, offset=offset, byte_size=size)
        return self._channel.call("SystemSharedMemoryRegister", request.SerializeToString())

    def unregister(self, region: str = "") -> None:
        request = pb.SystemSharedMemoryUnregisterRequest(name=region).SerializeToString()
        assert succeeded(self._channel.call("SystemSharedMemoryUnregister", request)) == b""

    def regions(self) -> Mapping[str, Mapping[str, Any]]:
        answer = pb.SystemSharedMemoryStatusResponse.FromString(self._ask("SystemSharedMemoryStatus"))
        return {
            name: {"name": one.name, "key": one.key, "offset": one.offset, "byte_size": one.byte_size}
            for name, one in answer.regions.items()
        }

    def statistics(self, model: str = "", version: str = "") -> list[Mapping[str, Any]]:
        body = self._ask("ModelStatistics", pb.ModelStatisticsRequest(name=model, version=version))
        document = _plain(pb.ModelStatisticsResponse.FromString(body))
        return [{**one, "version": str(one["version"])} for one in document["model_stats"]]

    def config(self, model: str) -> Mapping[str, Any]:
        body = self._ask("ModelConfig", pb.ModelConfigRequest(name=model))
        found: Mapping[str, Any] = _plain(pb.ModelConfigResponse.FromString(body))["config"]
        return found

    def _ask(self, rpc: str, request: Any = None) -> bytes:
        body = b"" if request is None else request.SerializeToString()
        return succeeded(self._channel.call(rpc, body))


def raw(data: Sequence[Any], datatype: str) -> bytes:
    """Elements as `raw_input_contents` and shared memory have them."""
    if datatype == "BYTES":
        encoded = [text.encode() for text in data]
        return b"".join(len(each).to_bytes(4, "little") + each for each in encoded)
    return np.array(data, DTYPES[datatype]).tobytes()


def elements(data: bytes, datatype: str) -> list[Any]:
    """The way back."""
    if datatype != "BYTES":
        found: list[Any] = np.frombuffer(data, DTYPES[datatype]).tolist()
        return found
    texts: list[Any] = []
    while data:
        end = 4 + int.from_bytes(data[:4], "little")
        texts.append(data[4:end].decode())
        data = data[end:]
    return texts


def _fill(target: Any, parameters: Mapping[str, Any]) -> None:
    for key, value in parameters.items():
        target[key].CopyFrom(parameter(value))


def _plain(answer: Any) -> Any:
    """As the JSON of REST has it: numbers as numbers."""
    return _numbers(
        MessageToDict(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    )


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?\d+", value) else value
