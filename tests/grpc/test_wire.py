"""Messages to requests and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from oipserver.core.datatypes import BF16, BYTES, DATATYPES, FP16, FP32, FP64, INT64, Datatype
from oipserver.core.errors import BadRequest, Unsupported
from oipserver.core.messages import (
    Array,
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    Tensor,
    TensorMetadata,
)
from oipserver.grpc import wire
from oipserver.grpc._generated.open_inference_pb2 import (
    InferParameter,
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataResponse,
)
from tests.grpc.running import parameter, raw_request

NOW, DEADLINE = 100.0, 160.0


def decode(message: ModelInferRequest) -> wire.Question:
    return wire.decode_request(message.SerializeToString(), NOW, DEADLINE, "fallback")


def request(message: ModelInferRequest) -> InferenceRequest:
    return decode(message).request


def typed_request(datatype: str, shape: list[int], **contents: Any) -> ModelInferRequest:
    tensor = {"name": "x", "datatype": datatype, "shape": shape, "contents": contents}
    return ModelInferRequest(model_name="m", inputs=[tensor])


def as_request(response: ModelInferResponse) -> ModelInferRequest:
    """An answer's tensors as a question's: the fields have the same form."""
    tensor = ModelInferRequest.InferInputTensor
    inputs = [tensor.FromString(output.SerializeToString()) for output in response.outputs]
    return ModelInferRequest(
        model_name=response.model_name,
        inputs=inputs,
        raw_input_contents=response.raw_output_contents,
    )


def arrays(datatype: Datatype) -> st.SearchStrategy[Array]:
    shapes = st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    if datatype is BYTES:
        return st_numpy.arrays(np.object_, shapes, elements=st.binary(max_size=9), fill=st.nothing())
    values = st_numpy.arrays(datatype.dtype, shapes)
    return values.map(cut_to_bf16) if datatype is BF16 else values


def cut_to_bf16(array: Array) -> Array:
    return np.asarray(array.view("<u4") & 0xFFFF0000).view("<f4")


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("datatype", DATATYPES.values(), ids=str)
@given(data=st.data())
def test_decode_is_the_inverse_of_encode(datatype: Datatype, raw: bool, data: st.DataObject) -> None:
    array = data.draw(arrays(datatype))
    response = InferenceResponse("m", "1", "id", [Tensor("x", datatype, array)])
    message = ModelInferResponse.FromString(wire.encode_response(response, raw))
    assert bool(message.raw_output_contents) == (raw or datatype in (FP16, BF16))
    question = decode(as_request(message))
    assert question.raw == bool(message.raw_output_contents)
    (tensor,) = question.request.inputs
    assert tensor.datatype is datatype
    assert tensor.data.shape == array.shape
    np.testing.assert_array_equal(tensor.data, array)


def test_names_and_defaults() -> None:
    decoded = request(raw_request(1.0))
    assert (decoded.model_name, decoded.model_version, decoded.outputs) == ("m", None, [])
    assert decoded.deadline == DEADLINE
    assert decoded.id == "fallback"


def test_what_the_caller_says_is_kept() -> None:
    message = raw_request(1.0, id="caller's\n", model_version="v10", outputs=[{"name": "b"}, {"name": "a"}])
    decoded = request(message)
    assert (decoded.id, decoded.model_version, decoded.outputs) == ("caller's\n", "v10", ["b", "a"])


def test_a_raw_tensor_is_not_copied_again() -> None:
    (tensor,) = request(raw_request(1.0, 2.0)).inputs
    assert not tensor.data.flags.owndata
    assert not tensor.data.flags.writeable


def test_a_large_raw_tensor_is_cut_out() -> None:
    values = np.random.default_rng(0).random(20_000)
    (tensor,) = request(raw_request(*values)).inputs
    assert (tensor.data[:, 0] == values).all()
    assert tensor.data.flags.aligned


def test_a_large_typed_tensor() -> None:
    values = np.random.default_rng(0).random(20_000)
    question = decode(typed_request("FP64", [-1], fp64_contents=values))
    assert (question.request.inputs[0].data == values).all()
    assert not question.raw


def test_one_dimension_may_be_left_open() -> None:
    message = raw_request(1.0, 2.0)
    message.inputs[0].shape[0] = -1
    assert request(message).inputs[0].data.shape == (2, 2)
    assert request(typed_request("INT8", [-1, 2], int_contents=[1, 2, 3, 4])).inputs[0].data.shape == (2, 2)


def test_a_question_without_data_is_answered_raw() -> None:
    assert decode(ModelInferRequest(model_name="m")).raw


def test_an_empty_typed_tensor_is_answered_typed() -> None:
    message = typed_request("FP32", [0])
    message.inputs[0].contents.SetInParent()
    assert not decode(message).raw


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b"\xff\xff", b"\x0a\x02\xff\xfe", b"no protobuf at all", b"\xff" * wire.SCANNED]
)
def test_unparsable_bytes(body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        wire.decode_request(body, NOW, DEADLINE, "fallback")
    assert "protobuf" in caught.value.message
    assert "ModelInfer" not in caught.value.message


def typed(datatype: str, shape: list[int], **contents: Any) -> Any:
    return pytest.param(typed_request(datatype, shape, **contents), id=f"{datatype} {shape} {contents}")


@pytest.mark.parametrize(
    "message",
    [
        typed("FP64", [2], fp64_contents=[1.0]),
        typed("FP64", [1], fp64_contents=[1.0, 2.0]),
        typed("FP64", [1]),
        typed("FP64", [1], fp32_contents=[1.0]),
        typed("FP64", [1], fp64_contents=[1.0], fp32_contents=[1.0]),
        typed("INT64", [1], int_contents=[1]),
        typed("UINT32", [1], int_contents=[1]),
        typed("BOOL", [1], int_contents=[1]),
        typed("BYTES", [1], int_contents=[1]),
        typed("FP16", [1], fp32_contents=[1.0]),
        typed("BF16", [1], fp32_contents=[1.0]),
        typed("BF16", [0]),
        typed("FP128", [1], fp64_contents=[1.0]),
        typed("fp64", [1], fp64_contents=[1.0]),
        typed("", [1], fp64_contents=[1.0]),
        typed("INT8", [2], int_contents=[0, 128]),
        typed("INT8", [2], int_contents=[0, -129]),
        typed("INT16", [1], int_contents=[2**15]),
        typed("UINT8", [1], uint_contents=[256]),
        typed("UINT16", [1], uint_contents=[2**16]),
        typed("FP64", [-2], fp64_contents=[1.0, 2.0]),
        typed("FP64", [-1, -1], fp64_contents=[1.0, 2.0]),
        typed("FP64", [-1, 3], fp64_contents=[1.0, 2.0]),
        typed("FP64", [2**40, 2**40], fp64_contents=[1.0]),
        typed("FP64", [2**62], fp64_contents=[1.0]),
        typed("FP64", [1] * 33, fp64_contents=[1.0]),
    ],
)
def test_typed_contents_that_are_refused(message: ModelInferRequest) -> None:
    with pytest.raises(BadRequest, match="'x'"):
        decode(message)


def test_the_value_that_is_out_of_range_is_named() -> None:
    with pytest.raises(BadRequest, match="tensor 'x': -129 is out of range for INT8"):
        decode(typed_request("INT8", [2], int_contents=[1, -129]))


def test_limits_of_small_integers_are_inside() -> None:
    message = typed_request("INT8", [2], int_contents=[-128, 127])
    assert request(message).inputs[0].data.tolist() == [-128, 127]


@pytest.mark.parametrize("entries", [1, 3])
def test_raw_entries_must_match_the_inputs(entries: int) -> None:
    message = raw_request(1.0)
    message.inputs.append(message.inputs[0])
    del message.raw_input_contents[:]
    message.raw_input_contents.extend([bytes(16)] * entries)
    with pytest.raises(BadRequest, match=f"{entries} entries for 2 inputs"):
        decode(message)


def test_raw_and_typed_together() -> None:
    message = raw_request(1.0)
    message.inputs[0].contents.fp64_contents.append(1.0)
    with pytest.raises(BadRequest, match="contents must be empty"):
        decode(message)


@pytest.mark.parametrize("size", [0, 15, 17, 24])
def test_raw_bytes_must_match_the_shape(size: int) -> None:
    message = raw_request(1.0)
    message.raw_input_contents[0] = bytes(size)
    with pytest.raises(BadRequest, match=rf"takes 16 bytes, got {size}"):
        decode(message)


@pytest.mark.parametrize("field", ["inputs", "outputs"])
def test_too_many_tensors(field: str) -> None:
    message = raw_request(1.0)
    for _ in range(wire.MAX_TENSORS + 1):
        getattr(message, field).add(name="x")
    with pytest.raises(BadRequest, match=f"{field} has 25. entries, at most 256"):
        decode(message)


def test_too_many_parameters() -> None:
    message = raw_request(1.0, parameters={str(number): parameter(1) for number in range(257)})
    with pytest.raises(BadRequest, match="257 parameters, at most 256"):
        decode(message)


def test_an_id_of_any_text_up_to_a_limit() -> None:
    assert request(raw_request(1.0, id="é" * wire.MAX_ID)).id == "é" * wire.MAX_ID
    with pytest.raises(BadRequest, match="id has 65537 characters"):
        decode(raw_request(1.0, id="x" * (wire.MAX_ID + 1)))


def test_names_are_required() -> None:
    with pytest.raises(BadRequest, match="model_name is missing"):
        decode(raw_request(1.0, model=""))
    message = raw_request(1.0)
    message.inputs[0].name = ""
    with pytest.raises(BadRequest, match="input has no name"):
        decode(message)


@pytest.mark.parametrize("field", ["inputs", "outputs"])
def test_shared_memory_that_is_off(field: str) -> None:
    message = raw_request(1.0, outputs=[{"name": "y"}])
    getattr(message, field)[0].parameters["shared_memory_region"].CopyFrom(parameter("1"))
    if field == "inputs":
        del message.raw_input_contents[:]
    with pytest.raises(Unsupported, match="'shared_memory_region' is not supported"):
        decode(message)


def test_classification_takes_a_count() -> None:
    message = raw_request(1.0, outputs=[{"name": "y"}])
    message.outputs[0].parameters["classification"].CopyFrom(parameter("1"))
    with pytest.raises(BadRequest, match="output 'y': classification must be a number from 1, got '1'"):
        decode(message)


# --- parameters --------------------------------------------------------------------------------------------


def test_parameters_for_the_model_pass_and_the_others_are_taken_out() -> None:
    own: dict[str, Any] = {"flag": True, "count": -3, "rate": 0.5, "word": "w"}
    transport: dict[str, Any] = {
        "priority": 1,
        "sequence_id": "s",
        "sequence_start": True,
        "binary_data_output": True,
    }
    parameters = {key: parameter(value) for key, value in (own | transport).items()}
    decoded = request(raw_request(1.0, parameters=parameters))
    assert dict(decoded.parameters) == own
    assert {key: type(value) for key, value in decoded.parameters.items()} == {
        key: type(value) for key, value in own.items()
    }


@pytest.mark.parametrize("choice", ["int64_param", "uint64_param"])
@pytest.mark.parametrize(
    ("microseconds", "deadline"), [(2_000_000, NOW + 2), (10**12, DEADLINE), (0, DEADLINE)]
)
def test_timeout_only_shortens(choice: str, microseconds: int, deadline: float) -> None:
    timeout = InferParameter()
    setattr(timeout, choice, microseconds)
    assert request(raw_request(1.0, parameters={"timeout": timeout})).deadline == deadline


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", -1),
        ("timeout", "1"),
        ("timeout", 1.0),
        ("timeout", True),
        ("priority", "high"),
        ("sequence_id", 1.5),
        ("sequence_start", 1),
        ("binary_data_output", "true"),
    ],
)
def test_a_transport_parameter_of_the_wrong_type(name: str, value: Any) -> None:
    with pytest.raises(BadRequest, match=f"parameter '{name}'"):
        decode(raw_request(1.0, parameters={name: parameter(value)}))


def test_a_parameter_without_a_value() -> None:
    with pytest.raises(BadRequest, match="parameter 'empty' has no value"):
        decode(raw_request(1.0, parameters={"empty": InferParameter()}))


# --- answers -----------------------------------------------------------------------------------------------


def test_an_answer() -> None:
    outputs = [
        Tensor("f", FP32, np.array([[1.5, np.nan]], dtype=np.float32), {"content_type": "np"}),
        Tensor("i", INT64, np.array([2**53 + 1])),
    ]
    response = InferenceResponse("m", "7", "é", outputs, {"a": True, "b": 2, "c": 0.5, "d": "np"})
    message = ModelInferResponse.FromString(wire.encode_response(response, raw=False))
    assert (message.model_name, message.model_version, message.id) == ("m", "7", "é")
    assert dict(message.parameters) == {key: parameter(value) for key, value in response.parameters.items()}
    assert [output.name for output in message.outputs] == ["f", "i"]
    assert list(message.outputs[0].shape) == [1, 2]
    assert message.outputs[0].parameters["content_type"].string_param == "np"
    assert message.outputs[0].contents.fp32_contents[0] == 1.5
    assert np.isnan(message.outputs[0].contents.fp32_contents[1])
    assert list(message.outputs[1].contents.int64_contents) == [2**53 + 1]
    assert not message.raw_output_contents


def test_one_half_precision_output_makes_the_whole_answer_raw() -> None:
    outputs = [Tensor("a", FP64, np.ones(1)), Tensor("b", FP16, np.ones(1, dtype=np.float16))]
    body = wire.encode_response(InferenceResponse("m", "1", "", outputs), raw=False)
    message = ModelInferResponse.FromString(body)
    assert [len(entry) for entry in message.raw_output_contents] == [8, 2]
    assert not any(output.HasField("contents") for output in message.outputs)


@pytest.mark.parametrize("elements", [0, 15, 16, 2047, 2048, 300_000])
def test_raw_outputs_of_any_length(elements: int) -> None:
    array = np.arange(elements, dtype=np.float64)
    body = wire.encode_response(InferenceResponse("m", "1", "", [Tensor("a", FP64, array)]), raw=True)
    assert ModelInferResponse.FromString(body).raw_output_contents[0] == array.tobytes()


def test_model_metadata() -> None:
    tensors = [TensorMetadata("x", FP64, (-1, 4))]
    metadata = ModelMetadata("m", ["1", "2"], "sklearn", tensors, tensors, parameters={"not": "sent"})
    message = ModelMetadataResponse.FromString(wire.encode_metadata(metadata))
    assert (message.name, list(message.versions), message.platform) == ("m", ["1", "2"], "sklearn")
    (tensor,) = message.inputs
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("x", "FP64", [-1, 4])
    assert len(message.outputs) == 1
    assert not message.properties


def test_other_messages_are_parsed_the_same_way() -> None:
    with pytest.raises(BadRequest, match="not a valid protobuf message"):
        wire.parse(ModelMetadataResponse, b"\xff")
