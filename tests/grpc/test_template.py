"""A request that is like an earlier one is read as it would be without it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oipserver.core.datatypes import BOOL, BYTES, FP64, INT64, Datatype
from oipserver.core.errors import Fault, Unprocessable
from oipserver.core.messages import Arrays, Parameters, TensorMetadata
from oipserver.core.model import Model
from oipserver.core.registry import Version
from oipserver.grpc import wire
from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest
from oipserver.grpc.template import MAX_BODY, learn, recognize
from tests.grpc.running import parameter
from tests.support import Plane, run


class Taker(Model):
    """Takes one tensor of any datatype, refuses NaN."""

    platform = "test"
    batchable = True
    outputs = (TensorMetadata("y", FP64, (-1,)),)

    def __init__(self, datatype: Datatype = FP64) -> None:
        self.inputs = (TensorMetadata("x", datatype, (-1, 2), allow_nan=False),)

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        return {"y": np.zeros(len(inputs["x"]))}


def message(*values: float, **more: Any) -> ModelInferRequest:
    tensor = {"name": "x", "datatype": "FP64", "shape": [len(values) // 2, 2]}
    raw = struct.pack(f"<{len(values)}d", *values)
    return ModelInferRequest(**{"model_name": "m", "inputs": [tensor], "raw_input_contents": [raw], **more})


def slowly(body: bytes, version: Version) -> Any:
    """What a message says when nothing is known; it is remembered."""
    question = wire.decode_request(body, 0.0, 9.0, "made")
    work = version.contract.check(question.request)
    learn(body, question, work, version.contract)
    return question.request, work


def quickly(body: bytes, plane: Plane) -> Any:
    """What a message says by its template; None when it fits none."""
    known = recognize(body, plane.data)
    return None if known is None else known.read(0.0, 9.0, "made")


def same(one: Any, other: Any) -> bool:
    (request, work), (request2, work2) = one, other
    (tensor,), (tensor2,) = request.inputs, request2.inputs
    assert np.array_equal(tensor.data, tensor2.data)
    assert tensor.data.dtype == tensor2.data.dtype
    assert (tensor.name, tensor.datatype) == (tensor2.name, tensor2.datatype)
    assert dict(tensor.parameters) == dict(tensor2.parameters)
    names = ("model_name", "model_version", "id", "deadline", "outputs", "parameters")
    assert all(getattr(request, name) == getattr(request2, name) for name in names)
    assert (work.key, work.rows, work.nbytes, work.outputs) == (
        work2.key,
        work2.rows,
        work2.nbytes,
        work2.outputs,
    )
    return True


WORTH_KNOWING: list[dict[str, Any]] = [
    {},
    {"id": "first"},
    {"model_version": "1"},
    {"outputs": [{"name": "y"}]},
    {"parameters": {"timeout": parameter(2_000_000)}},
    {"inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 2], "parameters": {"a": parameter(1)}}]},
]


@pytest.mark.parametrize("more", WORTH_KNOWING)
def test_the_next_one_is_recognized_and_means_the_same(more: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with Plane({"m": Taker()}) as plane:
            version = plane.registry.find("m", None)
            slowly(message(1.0, 2.0, **more).SerializeToString(), version)
            for own in (more, {**more, "id": "another id"}, {**more, "id": ""}):
                body = message(-3.5, 4.25, **own).SerializeToString()
                assert same(quickly(body, plane), slowly(body, version))

    run(scenario())


def body_of(request: ModelInferRequest, **fields: Any) -> bytes:
    return request.SerializeToString() + ModelInferRequest(**fields).SerializeToString()


NOT_TO_BE_KEPT: list[bytes] = [
    body_of(message(1.0, 2.0), id="behind the tensor"),
    body_of(message(1.0, 2.0), model_name="m"),
    body_of(message(1.0, 2.0), outputs=[{"name": "y"}]),
    message(1.0, 2.0).SerializeToString() + b"\x7b\x7c",  # a group that nobody knows
    message(1.0, 2.0, id="x" * 128).SerializeToString(),
    message(1.0, 2.0, id="\u00e9").SerializeToString(),
    message(*[0.5] * MAX_BODY).SerializeToString(),
    ModelInferRequest(
        model_name="m",
        inputs=[
            {"name": "x", "datatype": "FP64", "shape": [1, 2], "contents": {"fp64_contents": [1.0, 2.0]}}
        ],
    ).SerializeToString(),
]


@pytest.mark.parametrize("body", NOT_TO_BE_KEPT)
def test_what_is_written_otherwise_is_not_kept(body: bytes) -> None:
    async def scenario() -> None:
        async with Plane({"m": Taker()}) as plane:
            version = plane.registry.find("m", None)
            slowly(body, version)
            assert not len(version.contract.memory)
            assert quickly(body, plane) is None

    run(scenario())


@pytest.mark.parametrize(("datatype", "raw"), [(BYTES, b"\1\0\0\0a" * 2), (BOOL, b"\1\0")])
def test_elements_that_are_looked_at_one_by_one_are_not_kept(datatype: Datatype, raw: bytes) -> None:
    async def scenario() -> None:
        async with Plane({"m": Taker(datatype)}) as plane:
            version = plane.registry.find("m", None)
            tensor = {"name": "x", "datatype": datatype.name, "shape": [1, 2]}
            body = message(inputs=[tensor], raw_input_contents=[raw]).SerializeToString()
            slowly(body, version)
            assert not len(version.contract.memory)

    run(scenario())


CHANGES = [
    lambda body: body[:-1],
    lambda body: body + b"\0",
    lambda body: body.replace(b"FP64", b"FP32"),
    lambda body: body.replace(b"\x01x", b"\x01z"),
    lambda body: body.replace(b"\x01m", b"\x01n"),
]


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_another_message_is_not_recognized(number: int) -> None:
    async def scenario() -> None:
        async with Plane({"m": Taker()}) as plane:
            body = message(1.0, 2.0).SerializeToString()
            slowly(body, plane.registry.find("m", None))
            changed = CHANGES[number](body)
            assert changed != body
            assert quickly(body, plane) is not None
            assert quickly(changed, plane) is None

    run(scenario())


def test_values_are_checked_again() -> None:
    async def scenario() -> None:
        async with Plane({"m": Taker()}) as plane:
            slowly(message(1.0, 2.0).SerializeToString(), plane.registry.find("m", None))
            with pytest.raises(Unprocessable, match="NaN"):
                quickly(message(1.0, float("nan")).SerializeToString(), plane)

    run(scenario())


def test_values_that_are_cast_are_cast_again() -> None:
    async def scenario() -> None:
        async with Plane({"m": Taker(INT64)}) as plane:
            version = plane.registry.find("m", None)
            tensor = {"name": "x", "datatype": "UINT32", "shape": [1, 2]}
            first, second = (
                message(inputs=[tensor], raw_input_contents=[raw]).SerializeToString()
                for raw in (bytes(8), b"\xff" * 8)
            )
            slowly(first, version)
            _, work = quickly(second, plane)
            assert work.inputs["x"].tolist() == [[2**32 - 1] * 2]
            assert work.inputs["x"].dtype == np.int64

    run(scenario())


@given(st.binary(max_size=90), st.integers(0, 89))
def test_whatever_is_recognized_is_read_the_same(noise: bytes, position: int) -> None:
    async def scenario() -> None:
        async with Plane({"m": Taker()}) as plane:
            version = plane.registry.find("m", None)
            body = message(1.0, 2.0, id="a").SerializeToString()
            slowly(body, version)
            changed = body[: position % len(body)] + noise + body[position % len(body) + len(noise) :]
            try:
                quick = quickly(changed, plane)
            except Fault:
                with pytest.raises(Fault):
                    slowly(changed, version)
                return
            if quick is not None:
                assert same(quick, slowly(changed, version))

    run(scenario())
