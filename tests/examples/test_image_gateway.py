"""The example image_gateway does what its README says; every way in gives one answer, and refuses alike."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import grpc
import numpy as np
import pytest

from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest, ModelInferResponse
from tests.examples.walkthrough import Step, Walkthrough

EXAMPLE = "image_gateway"

# The code ("" for an answer), and the scores or the message.
Outcome = tuple[str, Any]


def test_readme(step: Step, walk: Walkthrough) -> None:
    walk.check(step)


def by_upload(walk: Walkthrough, file: bytes) -> Outcome:
    head = b'--limit\r\nContent-Disposition: form-data; name="image"; filename="picture.png"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=limit"}
    return posted(walk, "/classify", head + file + b"\r\n--limit--\r\n", headers)


def by_base64(walk: Walkthrough, file: bytes) -> Outcome:
    return posted(
        walk, "/classify/base64", json.dumps({"image": base64.b64encode(file).decode()}).encode(), {}
    )


def by_binary_tensor(walk: Walkthrough, file: bytes) -> Outcome:
    parameters = {"binary_data_size": len(file) + 4}
    image = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": parameters}
    head = json.dumps({"inputs": [image]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    body = head + struct.pack("<I", len(file)) + file
    return posted(walk, "/v2/models/digits/infer", body, headers)


def by_grpc(walk: Walkthrough, file: bytes) -> Outcome:
    request = ModelInferRequest(model_name="digits")
    request.inputs.add(name="image", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(struct.pack("<I", len(file)) + file)
    with grpc.insecure_channel(walk.server.grpc_target) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
        try:
            answer = ModelInferResponse.FromString(call(request.SerializeToString(), timeout=30))
        except grpc.RpcError as error:
            trailers = {each.key: str(each.value) for each in error.trailing_metadata() or ()}
            return trailers.get("error-code", error.code().name), error.details()
    assert [output.name for output in answer.outputs] == ["digit", "scores"]
    return "", np.frombuffer(answer.raw_output_contents[1], "<f8").tolist()


def posted(walk: Walkthrough, path: str, body: bytes, headers: dict[str, str]) -> Outcome:
    try:
        with urlopen(Request(walk.server.http_url + path, body, headers), timeout=30) as response:
            answer = json.load(response)
    except HTTPError as error:
        with error:
            document = json.load(error)
            return document["error_code"], document["error"]
    outputs = {output["name"]: output["data"] for output in answer.get("outputs", ())}
    return "", outputs["scores"] if outputs else answer["scores"]


WAYS: list[Callable[[Walkthrough, bytes], Outcome]] = [by_upload, by_base64, by_binary_tensor, by_grpc]


def test_every_way_in_gives_one_answer(walk: Walkthrough) -> None:
    seven = (walk.folder / "seven.png").read_bytes()
    first, *others = (way(walk, seven) for way in WAYS)
    code, scores = first
    assert code == ""
    assert np.argmax(scores) == 7
    assert others == [first] * 3


@pytest.mark.parametrize("way", WAYS)
def test_no_way_in_unpacks_a_bomb(walk: Walkthrough, way: Callable[[Walkthrough, bytes], Outcome]) -> None:
    bomb = (walk.folder / "bomb.png").read_bytes()
    assert way(walk, bomb) == ("UNPROCESSABLE", "the image has too many pixels, expected at most 1000000")


def test_what_is_no_picture_is_refused(walk: Walkthrough) -> None:
    codes = [way(walk, b"GIF89a, or so it says")[0] for way in WAYS]
    assert codes == ["UNSUPPORTED_MEDIA_TYPE", "UNSUPPORTED_MEDIA_TYPE", "UNPROCESSABLE", "UNPROCESSABLE"]


def test_a_picture_over_the_limit_is_refused(walk: Walkthrough) -> None:
    seven = (walk.folder / "seven.png").read_bytes()
    codes = [way(walk, seven.ljust(1_000_001, b"\0"))[0] for way in WAYS]
    assert codes == ["PAYLOAD_TOO_LARGE", "PAYLOAD_TOO_LARGE", "PAYLOAD_TOO_LARGE", "RESOURCE_EXHAUSTED"]
