"""The stubs generated from the specification's .proto: whoever sends typed contents reads typed contents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from harness import ROWS, run
from open_inference.grpc import protocol
from open_inference.grpc.service import GRPCInferenceServiceStub

Request = protocol.ModelInferRequest


def document(model: str = "iris", version: str | None = None) -> Any:
    tensor = Request.InferInputTensor(name="input-0", datatype="FP64", shape=[2, 4])
    tensor.contents.fp64_contents.extend(number for row in ROWS for number in row)
    return Request(model_name=model, model_version=version, inputs=[tensor])


def plain(message: Any) -> Any:
    found = MessageToDict(message)
    for tensor in (*found.get("inputs", ()), *found.get("outputs", ())):
        tensor["shape"] = [int(size) for size in tensor["shape"]]  # protobuf's JSON has no 64-bit integers
    return found


def refused(call: Callable[[Any], Any], request: Any) -> list[Any]:
    """Status and text; the trailers carry the code that HTTP's error bodies have."""
    try:
        answer = call(request)
    except grpc.RpcError as error:
        fault = error
    else:
        raise AssertionError(f"not refused: {answer}")
    trailers: dict[str, Any] = {entry.key: entry.value for entry in fault.trailing_metadata()}
    assert trailers["error-code"] == "NOT_FOUND", trailers
    return [fault.code().name, fault.details()]


class Checks:
    def __init__(self, address: str, folder: Path) -> None:
        self._stub = GRPCInferenceServiceStub(grpc.insecure_channel(address))

    def document(self) -> Any:
        answer = self._stub.ModelInfer(document())
        assert not answer.raw_output_contents
        (output,) = answer.outputs
        return {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.shape),
            "data": list(output.contents.int64_contents),
            "content_type": output.parameters["content_type"].string_param,
        }

    def version(self) -> Any:
        answer = self._stub.ModelInfer(document(version="0"))
        return [answer.model_version, [label.decode() for label in answer.outputs[0].contents.bytes_contents]]

    def health(self) -> Any:
        stub = self._stub

        def ready(name: str, version: str | None = None) -> bool:
            return bool(stub.ModelReady(protocol.ModelReadyRequest(name=name, version=version)).ready)

        return {
            "live": stub.ServerLive(protocol.ServerLiveRequest()).live,
            "ready": stub.ServerReady(protocol.ServerReadyRequest()).ready,
            "iris": ready("iris"),
            "iris 1": ready("iris", "1"),
            "iris 7": ready("iris", "7"),
            "nobody": ready("nobody"),
        }

    def server_metadata(self) -> Any:
        return plain(self._stub.ServerMetadata(protocol.ServerMetadataRequest()))

    def model_metadata(self) -> Any:
        read = self._stub.ModelMetadata
        return {
            version: plain(read(protocol.ModelMetadataRequest(name="iris", version=version)))
            for version in ("", "0", "1")
        }

    def unknown(self) -> Any:
        read, infer = self._stub.ModelMetadata, self._stub.ModelInfer
        request = protocol.ModelMetadataRequest
        return {
            "metadata": refused(read, request(name="nobody")),
            "metadata of a version": refused(read, request(name="iris", version="7")),
            "infer": refused(infer, document("nobody")),
            "infer of a version": refused(infer, document(version="7")),
        }


if __name__ == "__main__":
    run(Checks)
