"""A logged model behind a real server: the specification's request on both fronts, and the scoring paths."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import grpc
import pytest

pytest.importorskip("mlflow", reason="the mlflow extra is not installed")

from oipserver.grpc._generated.open_inference_pb2 import (
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
)
from tests.runtimes import mlflow_models
from tests.server_process import ServerProcess

ROWS = [[5.1, 3.5, 1.4, 0.2], [4.9, 3.0, 1.4, 0.2]]
NP = {"content_type": "np"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("run")
    mlflow_models.iris(folder / "artifacts")  # one level below what is named
    server = ServerProcess("--runtime", "mlflow", "--model-uri", str(folder), "--model-name", "iris").start()
    try:
        server.wait_for(r" ready: ", timeout=120)
        yield server
    finally:
        server.stop()


def fetch(server: ServerProcess, path: str, document: Any = None) -> tuple[str, bytes]:
    body = None if document is None else json.dumps(document).encode()
    request = Request(server.http_url + path, body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as response:
        return response.headers["Content-Type"], response.read()


def test_the_specifications_request_over_http(server: ServerProcess) -> None:
    tensor = {"name": "input-0", "shape": [2, 4], "datatype": "FP64", "data": ROWS}
    answer = json.loads(fetch(server, "/v2/models/iris/infer", {"inputs": [tensor]})[1])
    assert answer["model_name"] == "iris"
    assert answer["parameters"] == NP
    assert answer["outputs"] == [
        {"name": "output-1", "shape": [2, 1], "datatype": "INT64", "parameters": NP, "data": [0, 0]}
    ]


def test_metadata_announces_exactly_that(server: ServerProcess) -> None:
    metadata = json.loads(fetch(server, "/v2/models/iris")[1])
    assert metadata["platform"] == "mlflow"
    assert metadata["inputs"] == [{"name": "input-0", "datatype": "FP64", "shape": [-1, 4]}]
    assert metadata["outputs"] == [{"name": "output-1", "datatype": "INT64", "shape": [-1, 1]}]
    assert metadata["parameters"]["flavor"] == "sklearn"


def test_the_same_over_grpc(server: ServerProcess) -> None:
    service = "/inference.GRPCInferenceService/"
    with grpc.insecure_channel(server.grpc_target) as channel:
        describe = channel.unary_unary(
            service + "ModelMetadata",
            request_serializer=ModelMetadataRequest.SerializeToString,
            response_deserializer=ModelMetadataResponse.FromString,
        )
        metadata = describe(ModelMetadataRequest(name="iris"), timeout=30)
        infer = channel.unary_unary(
            service + "ModelInfer",
            request_serializer=ModelInferRequest.SerializeToString,
            response_deserializer=ModelInferResponse.FromString,
        )
        request = ModelInferRequest(model_name="iris")
        tensor = request.inputs.add(name="input-0", datatype="FP64", shape=[2, 4])
        tensor.contents.fp64_contents.extend(value for row in ROWS for value in row)
        (output,) = infer(request, timeout=30).outputs
    (announced,) = metadata.outputs
    assert (announced.name, announced.datatype, list(announced.shape)) == ("output-1", "INT64", [-1, 1])
    assert (output.name, output.datatype, list(output.shape)) == ("output-1", "INT64", [2, 1])
    assert list(output.contents.int64_contents) == [0, 0]


def test_the_scoring_paths_of_the_only_model(server: ServerProcess) -> None:
    import mlflow

    assert json.loads(fetch(server, "/invocations", {"inputs": ROWS})[1]) == {"predictions": [0, 0]}
    assert json.loads(fetch(server, "/v2/models/iris/invocations", {"inputs": ROWS})[1]) == {
        "predictions": [0, 0]
    }
    assert fetch(server, "/ping") == ("application/json", b"\n")
    assert fetch(server, "/health") == ("application/json", b"\n")
    assert fetch(server, "/version") == ("application/json", mlflow.__version__.encode())


def test_mlflow_says_nothing_on_the_terminal(server: ServerProcess) -> None:
    ours = (" oipserver.", " request: ")
    foreign = [line for line in server.output.splitlines() if not any(each in line for each in ours)]
    assert foreign == []


def test_mlflow_is_imported_only_when_a_model_is_loaded() -> None:
    program = (
        "import sys; from oipserver.core.runtimes import get_runtime; get_runtime('mlflow');"
        " sys.exit('mlflow' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
