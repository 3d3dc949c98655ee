"""Functions behind a real server: what is declared is enforced, over HTTP and gRPC alike."""

from __future__ import annotations

import json
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest, ModelInferResponse
from tests.server_process import ServerProcess

MODELS = """
import asyncio
import numpy as np
from oipserver_python import Input, Output, function, image

@function(
    inputs=[Input("x", "FP64", [-1, 3], minimum=0, maximum=10, description="three sizes")],
    outputs=[Output("y", "FP64", [-1, 1])],
    batchable=True,
)
def total(x):
    return x.sum(axis=1, keepdims=True)

@function(
    inputs=[
        Input("colour", "BYTES", [-1], categories=["red", "blue"]),
        Input("note", "BYTES", [-1], min_length=1, max_length=4, optional=True),
    ],
    outputs=[Output("text", "BYTES", [-1])],
)
async def words(colour, note=None):
    await asyncio.sleep(0)
    return colour if note is None else colour + b" " + note

@function(inputs=[Input("x", "FP64", [1])], outputs=[Output("y", "FP64", [2])])
def wayward(x):
    if x[0] == 3:
        return [1.0, 2.0, 3.0]
    if x[0] == 4:
        return None
    if x[0] == 5:
        raise KeyError("secret of the function")
    return [x[0], x[0]]

@function(inputs=[Input("x", "FP64", [1])], outputs=[Output("p", "FP64", [1], minimum=0, maximum=1)])
def chance(x):
    return x

@function(inputs=[Input("n", "INT64", [1])], outputs=[Output("i", "INT64", [1])])
def count(n):
    for i in range(int(n[0])):
        yield i

@function(inputs=[Input("n", "INT64", [1])], outputs=[Output("i", "INT64", [1])])
async def endless(n):
    i = int(n[0])
    try:
        while True:
            await asyncio.sleep(0)
            yield i
            i += 1
    finally:
        print("the generator was closed", flush=True)

class Detector:
    inputs = [Input("image", "BYTES", [1])]
    outputs = [
        Output("boxes", "FP32", [-1, 4]),
        Output("labels", "BYTES", [-1]),
        Output("scores", "FP32", [-1], minimum=0, maximum=1),
    ]

    def load(self, path, config):
        self.labels = (path / "labels.txt").read_text().split()

    def infer(self, image_bytes):
        raise AssertionError("replaced below")

def infer(self, image):
    from oipserver_python import image as decode
    pixels = decode(image)
    rows, columns = np.nonzero(pixels[:, :, 0] > 200)
    if not len(rows):
        return np.empty((0, 4)), [], []
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return {"boxes": [box], "labels": [self.labels[0]], "scores": [0.5]}

Detector.infer = infer
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("python")
    (folder / "model.py").write_text(textwrap.dedent(MODELS))
    (folder / "labels.txt").write_text("square circle")
    names = ("total", "words", "wayward", "chance", "count", "endless", "Detector")
    config = folder / "server.yaml"
    models = [{"name": name.lower(), "runtime": "python", "model_uri": f"model.py:{name}"} for name in names]
    config.write_text(json.dumps({"models": models}))
    with ServerProcess("--config", str(config)) as server:
        yield server


def tensor(name: str, datatype: str, shape: list[int], *data: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": list(data)}


def over_http(server: ServerProcess, model: str, *inputs: dict[str, Any]) -> tuple[str, Any]:
    """The code ("OK" for an answer), and the arrays or the message."""
    url = f"{server.http_url}/v2/models/{model}/infer"
    body = json.dumps({"inputs": inputs}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=30) as answer:
            return "OK", {each["name"]: each["data"] for each in json.load(answer)["outputs"]}
    except urllib.error.HTTPError as error:
        with error:
            document = json.load(error)
            return f"{error.code} {document['error_code']}", document["error"]


def over_grpc(server: ServerProcess, model: str, *inputs: dict[str, Any]) -> tuple[str, Any]:
    request = ModelInferRequest(model_name=model)
    for each in inputs:
        request.inputs.add(name=each["name"], datatype=each["datatype"], shape=each["shape"])
        request.raw_input_contents.append(encoded(each["datatype"], each["data"]))
    with grpc.insecure_channel(server.grpc_target) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
        try:
            answer = ModelInferResponse.FromString(call(request.SerializeToString(), timeout=30))
        except grpc.RpcError as error:
            trailers = {each.key: str(each.value) for each in error.trailing_metadata() or ()}
            return f"{error.code().name} {trailers['error-code']}", error.details()
    raw = zip(answer.outputs, answer.raw_output_contents, strict=True)
    return "OK", {output.name: decoded(output.datatype, content) for output, content in raw}


KINDS = {"FP64": "<f8", "FP32": "<f4", "INT64": "<i8"}


def encoded(datatype: str, data: list[Any]) -> bytes:
    if datatype != "BYTES":
        return np.array(data, KINDS[datatype]).tobytes()
    elements = [one if isinstance(one, bytes) else one.encode() for one in data]
    return b"".join(len(one).to_bytes(4, "little") + one for one in elements)


def decoded(datatype: str, content: bytes) -> list[Any]:
    if datatype != "BYTES":
        values: list[Any] = np.frombuffer(content, KINDS[datatype]).tolist()
        return values
    elements, at = [], 0
    while at < len(content):
        end = at + 4 + int.from_bytes(content[at : at + 4], "little")
        elements.append(content[at + 4 : end].decode())
        at = end
    return elements


FRONTS = pytest.mark.parametrize("ask", [over_http, over_grpc])


@FRONTS
def test_answers(server: ServerProcess, ask: Any) -> None:
    assert ask(server, "total", tensor("x", "FP64", [2, 3], 1, 2, 3, 4, 5, 6)) == ("OK", {"y": [6.0, 15.0]})
    colours = tensor("colour", "BYTES", [2], "red", "blue")
    assert ask(server, "words", colours) == ("OK", {"text": ["red", "blue"]})
    notes = tensor("note", "BYTES", [2], "a", "b")
    assert ask(server, "words", colours, notes) == ("OK", {"text": ["red a", "blue b"]})


@FRONTS
def test_a_wrong_shape_is_refused_with_both_shapes(server: ServerProcess, ask: Any) -> None:
    code, message = ask(server, "total", tensor("x", "FP64", [2, 4], *range(8)))
    assert code == ("400 BAD_REQUEST" if ask is over_http else "INVALID_ARGUMENT BAD_REQUEST")
    assert "expects shape [-1, 3]" in message
    assert "got [2, 4]" in message


@FRONTS
@pytest.mark.parametrize(
    ("model", "inputs", "complaint"),
    [
        ("total", [tensor("x", "FP64", [1, 3], 1, -2, 3)],
         "input 'x' of model 'total' holds -2.0, expected at least 0"),
        ("total", [tensor("x", "FP64", [1, 3], 1, 2, 30)], "holds 30.0, expected at most 10"),
        ("words", [tensor("colour", "BYTES", [1], "pink")], "holds 'pink', expected one of 'red', 'blue'"),
        ("words", [tensor("colour", "BYTES", [1], "red"), tensor("note", "BYTES", [1], "longer")],
         "input 'note' of model 'words' holds an element of 6 bytes, expected at most 4"),
        ("detector", [tensor("image", "BYTES", [1], "no image")], "the bytes are no image"),
        ("count", [tensor("n", "INT64", [1], 2)], "generate_stream over HTTP or ModelStreamInfer over gRPC"),
    ],
)  # fmt: skip
def test_a_value_that_breaks_the_contract_is_unprocessable(
    server: ServerProcess, ask: Any, model: str, inputs: list[dict[str, Any]], complaint: str
) -> None:
    code, message = ask(server, model, *inputs)
    assert code == ("422 UNPROCESSABLE" if ask is over_http else "INVALID_ARGUMENT UNPROCESSABLE")
    assert complaint in message


@FRONTS
@pytest.mark.parametrize(
    ("model", "value", "logged"),
    [
        ("wayward", 3.0, r"returned shape \[3\] for output 'y', announced \[2\]"),
        ("wayward", 4.0, r"'y': got a NoneType, declared as FP64"),
        ("wayward", 5.0, r"KeyError: 'secret of the function'"),
        ("chance", 7.5, r"returned for output 'p' what holds 7.5, expected at most 1"),
    ],
)
def test_a_function_that_breaks_its_contract_fails_that_request_and_is_logged(
    server: ServerProcess, ask: Any, model: str, value: float, logged: str
) -> None:
    code, message = ask(server, model, tensor("x", "FP64", [1], value))
    assert code == ("500 INFERENCE_FAILED" if ask is over_http else "INTERNAL INFERENCE_FAILED")
    assert "secret" not in message
    server.wait_for(logged)
    assert ask(server, model, tensor("x", "FP64", [1], 1.0))[0] == "OK"


def picture(*colour: int) -> bytes:
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[5:10, 7:19] = colour
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_image_bytes_in_boxes_labels_and_scores_out(server: ServerProcess) -> None:
    found = over_grpc(server, "detector", tensor("image", "BYTES", [1], picture(255, 0, 0)))
    assert found == ("OK", {"boxes": [7.0, 5.0, 19.0, 10.0], "labels": ["square"], "scores": [0.5]})
    nothing = over_grpc(server, "detector", tensor("image", "BYTES", [1], picture(0, 0, 9)))
    assert nothing == ("OK", {"boxes": [], "labels": [], "scores": []})


@FRONTS
def test_a_generator_of_one_answer_may_be_asked_plainly(server: ServerProcess, ask: Any) -> None:
    assert ask(server, "count", tensor("n", "INT64", [1], 1)) == ("OK", {"i": [0]})


def test_a_generator_streams_until_its_caller_leaves(server: ServerProcess) -> None:
    body = json.dumps({"inputs": [tensor("n", "INT64", [1], 5)]}).encode()
    url = f"{server.http_url}/v2/models/endless/infer_stream"
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=30) as answer:
        events = [line for line in (answer.readline() for _ in range(6)) if line.startswith(b"data: ")]
    found = [json.loads(event.removeprefix(b"data: "))["outputs"][0]["data"] for event in events]
    assert found == [[5], [6], [7]]
    server.wait_for("the generator was closed")


def test_the_metadata_shows_what_is_declared(server: ServerProcess) -> None:
    with urllib.request.urlopen(f"{server.http_url}/v2/models/total") as answer:
        metadata = json.load(answer)
    assert metadata["platform"] == "python"
    assert metadata["inputs"] == [
        {
            "name": "x",
            "datatype": "FP64",
            "shape": [-1, 3],
            "parameters": {"description": "three sizes", "minimum": 0, "maximum": 10},
        }
    ]
    with urllib.request.urlopen(f"{server.http_url}/v2/models/words") as answer:
        inputs = json.load(answer)["inputs"]
    assert [each["parameters"] for each in inputs] == [
        {"categories": ["red", "blue"]},
        {"min_length": 1, "max_length": 4, "optional": True},
    ]


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("model.py:absent", "has no 'absent'"),
        ("no_such_module:f", "pip install no_such_module"),
    ],
)
def test_what_cannot_be_loaded_leaves_the_server_live(tmp_path: Path, uri: str, reason: str) -> None:
    (tmp_path / "model.py").write_text("x = 1")
    uri = f"{tmp_path}/{uri}" if uri.startswith("model.py") else uri
    server = ServerProcess("--runtime=python", f"--model-uri={uri}").start()
    try:
        server.wait_for(reason)
        server.wait_for("running, but not ready")
    finally:
        assert server.stop() == 0


def test_a_file_that_is_not_there_ends_with_exit_2(tmp_path: Path) -> None:
    server = ServerProcess("--runtime=python", f"--model-uri={tmp_path}/absent.py:f").start()
    assert server.wait() == 2
    assert "no such file" in server.output


def test_a_function_in_memory_is_served(tmp_path: Path) -> None:
    program = """
import oipserver
from oipserver_python import Input, Output, function

@function(inputs=[Input("x", "FP64", [-1])], outputs=[Output("y", "FP64", [-1])])
def double(x):
    return x * 2

oipserver.serve(double, name="double", http_port=0, grpc_port="off", lame_duck=0)
"""
    program = program.replace("lame_duck", "shutdown_lame_duck")
    with ServerProcess(program=["-c", program]) as server:
        assert over_http(server, "double", tensor("x", "FP64", [2], 1, 2)) == ("OK", {"y": [2.0, 4.0]})
    assert server.exit_code == 0
