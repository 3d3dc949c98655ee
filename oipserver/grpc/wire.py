"""Protobuf bytes to an InferenceRequest, an InferenceResponse to protobuf bytes.

Rule: a raw question gets a raw answer, a typed one a typed answer (OIP, "Tensor Data"); an answer with FP16
or BF16 is raw as a whole, because these have no typed field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np
from google.protobuf.internal.containers import MessageMap
from google.protobuf.message import DecodeError, Message

from oipserver.core import codec
from oipserver.core.datatypes import (
    BOOL,
    BYTES,
    FP32,
    FP64,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    Datatype,
    parse_datatype,
)
from oipserver.core.delivery import read_delivery
from oipserver.core.errors import BadRequest, Fault, printable
from oipserver.core.messages import (
    Array,
    Delivery,
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    Parameters,
    Scalar,
    Tensor,
    TensorMetadata,
)
from oipserver.core.reserved import SHARED_MEMORY, check_tensor_parameters, read_parameters
from oipserver.core.shared_memory import OFF, Regions, SharedInputs
from oipserver.grpc._generated.open_inference_pb2 import (
    InferParameter,
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataResponse,
    ModelStreamInferResponse,
)
from oipserver.grpc.scan import fields, malformed, split_raw

MAX_TENSORS = 256
MAX_PARAMETERS = 256
MAX_ID = 2**16
# From this size on a body is walked before it is parsed.
SCANNED = 2**16

# OIP, "Tensor Data Types": the one typed field in which the elements of a datatype travel.
TYPED_FIELD: dict[Datatype, str] = {
    BOOL: "bool_contents",
    INT8: "int_contents",
    INT16: "int_contents",
    INT32: "int_contents",
    INT64: "int64_contents",
    UINT8: "uint_contents",
    UINT16: "uint_contents",
    UINT32: "uint_contents",
    UINT64: "uint64_contents",
    FP32: "fp32_contents",
    FP64: "fp64_contents",
    BYTES: "bytes_contents",
}

# Triton, decoupled models: asked for in a request, and said in every answer of a stream.
EMPTY_FINAL = "triton_enable_empty_final_response"
FINAL = "triton_final_response"

_INFER_RESPONSE_TAG = bytes([ModelStreamInferResponse.INFER_RESPONSE_FIELD_NUMBER << 3 | 2])
_RAW_OUTPUT_TAG = bytes([ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER << 3 | 2])

M = TypeVar("M", bound=Message)


class Question(NamedTuple):
    """A decoded request, and how its answers are to be.

    Attributes:
        raw: the tensors were raw.
        empty_final: on a stream, an empty answer is wanted behind the last one of a model that streams.
        timeout: seconds that the caller's parameters give the server.
    """

    request: InferenceRequest
    raw: bool
    empty_final: bool = False
    timeout: float | None = None


def parse(message: type[M], body: bytes) -> M:
    """`body` as a message; BadRequest when it is none."""
    try:
        return message.FromString(body)
    except DecodeError:
        raise malformed() from None


def decode_request(
    body: bytes, now: float, deadline: float, request_id: str, regions: Regions = OFF
) -> Question:
    """A ModelInferRequest as a request that is to be answered by `deadline` (loop time, like `now`).

    Args:
        request_id: becomes the answer's id when the message has none.
        regions: where tensors may be besides.

    Raises:
        BadRequest: whatever is wrong with it without knowing the model.
        NotFound: there is no such region.
        Unsupported: shared memory is off.
    """
    rest, raw = split_raw(body) if len(body) >= SCANNED else (body, None)
    message = parse(ModelInferRequest, rest)
    contents = message.raw_input_contents if raw is None else raw
    _check_count("inputs", message.inputs)
    _check_count("outputs", message.outputs)
    if not message.model_name:
        raise BadRequest("model_name is missing")
    if len(message.id) > MAX_ID:
        raise BadRequest(f"id has {len(message.id)} characters, at most {MAX_ID} are accepted")
    parameters = _scalars(message.parameters, "the request")
    empty_final = parameters.pop(EMPTY_FINAL, False)
    if not isinstance(empty_final, bool):
        raise BadRequest(f"parameter '{EMPTY_FINAL}' must be true or false, got {printable(empty_final)!r}")
    reserved = read_parameters(parameters)
    deliveries: dict[str, Delivery] = {}
    request = InferenceRequest(
        model_name=message.model_name,
        model_version=message.model_version or None,
        inputs=_inputs(message, contents, SharedInputs(regions)),
        outputs=[_requested(output, regions, deliveries) for output in message.outputs],
        id=message.id or request_id,
        parameters=reserved.rest,
        deadline=deadline if reserved.timeout is None else min(deadline, now + reserved.timeout),
        priority=reserved.priority,
    )
    request.deliveries = deliveries or None
    typed = any(tensor.HasField("contents") for tensor in message.inputs)
    return Question(request, bool(contents) or not typed, empty_final, reserved.timeout)


def find_id(body: bytes) -> str:
    """The id in a ModelInferRequest that could not be decoded; empty where there is none that can be read."""
    found = ""
    with suppress(BadRequest, UnicodeDecodeError):
        for field in fields(body, 0, len(body)):
            if field.number == ModelInferRequest.ID_FIELD_NUMBER and field.kind == 2:
                found = body[field.payload : field.end][:MAX_ID].decode()  # of several the last one counts
    return found


def encode_response(response: InferenceResponse, raw: bool) -> bytes:
    """A serialized ModelInferResponse."""
    raw = raw or any(output.datatype not in TYPED_FIELD for output in response.outputs)
    message = ModelInferResponse(
        model_name=response.model_name, model_version=response.model_version, id=response.id
    )
    _set_parameters(message.parameters, response.parameters)
    for output in response.outputs:
        tensor = message.outputs.add(name=output.name, datatype=output.datatype.name, shape=output.data.shape)
        _set_parameters(tensor.parameters, output.parameters)
        if not (raw or output.elsewhere):
            elements = getattr(tensor.contents, TYPED_FIELD[output.datatype])
            elements.extend(output.data.ravel().tolist())
            tensor.contents.SetInParent()
    head = message.SerializeToString()
    return _append_raw(head, response.outputs) if raw else head


def encode_stream_response(response: InferenceResponse, raw: bool, final: bool) -> bytes:
    """A serialized ModelStreamInferResponse with an answer, and whether it is the last to its request."""
    body = encode_response(replace(response, parameters={**response.parameters, FINAL: final}), raw)
    return b"".join((_INFER_RESPONSE_TAG, _varint(len(body)), body))


def encode_stream_fault(fault: Fault, request_id: str) -> bytes:
    """A serialized ModelStreamInferResponse that says what was wrong with one request, and with which."""
    message = ModelStreamInferResponse(error_message=fault.message)
    message.infer_response.id = request_id
    _set_parameters(message.infer_response.parameters, {"error_code": fault.code, FINAL: True})
    return message.SerializeToString()


def encode_metadata(metadata: ModelMetadata) -> bytes:
    """A serialized ModelMetadataResponse; `properties` stays empty (other servers type it otherwise)."""
    return ModelMetadataResponse(
        name=metadata.name,
        versions=metadata.versions,
        platform=metadata.platform,
        inputs=[_tensor_metadata(tensor) for tensor in metadata.inputs],
        outputs=[_tensor_metadata(tensor) for tensor in metadata.outputs],
    ).SerializeToString()


# --- requests ----------------------------------------------------------------------------------------------


def _inputs(message: ModelInferRequest, raw: Sequence[bytes], shared: SharedInputs) -> list[Tensor]:
    if not raw:
        return [_input(tensor, None, shared) for tensor in message.inputs]
    others = sum(SHARED_MEMORY[0] not in tensor.parameters for tensor in message.inputs)
    if len(raw) != others:
        raise BadRequest(
            f"raw_input_contents has {len(raw)} entries for {others} inputs, "
            "exactly one per input is expected"
        )
    entries = iter(raw)
    return [_input(tensor, entries, shared) for tensor in message.inputs]


def _input(
    tensor: ModelInferRequest.InferInputTensor, entries: Iterator[bytes] | None, shared: SharedInputs
) -> Tensor:
    """An input; what is not in shared memory takes the next of the entries, where tensors are raw."""
    name = tensor.name
    if not name:
        raise BadRequest("an input has no name")
    datatype = parse_datatype(tensor.datatype, name)
    parameters = _scalars(tensor.parameters, f"tensor '{printable(name)}'")
    raw: bytes | memoryview | None = None
    if check_tensor_parameters(parameters, name):
        raw = shared.take(parameters, name)
    if raw is None and entries is not None:
        raw = next(entries)
    if raw is None:
        data = _typed(tensor.contents, datatype, tensor.shape, name)
    elif tensor.contents.ListFields():
        raise BadRequest(
            f"tensor '{printable(name)}': contents must be empty where raw_input_contents or shared memory "
            "is used"
        )
    else:
        data = codec.decode_raw(raw, datatype, list(tensor.shape), name)
    return Tensor(name, datatype, data, parameters)


def _typed(contents: InferTensorContents, datatype: Datatype, shape: Sequence[int], name: str) -> Array:
    field = TYPED_FIELD.get(datatype)
    if field is None:
        raise BadRequest(f"tensor '{printable(name)}': {datatype} is accepted in raw_input_contents only")
    for descriptor, _ in contents.ListFields():
        if descriptor.name != field:
            raise BadRequest(
                f"tensor '{printable(name)}': {datatype} is expected in {field}, got {descriptor.name}"
            )
    elements = getattr(contents, field)
    resolved = codec.infer_shape(list(shape), len(elements), name)
    expected = codec.check_shape(resolved, name)
    if expected != len(elements):
        raise BadRequest(
            f"tensor '{printable(name)}': shape {list(shape)} has {expected} elements, "
            f"{field} has {len(elements)}"
        )
    return _CONVERTERS.get(datatype, _numbers)(elements, datatype, name).reshape(resolved)


def _numbers(elements: Sequence[float], datatype: Datatype, name: str) -> Array:
    return np.array(elements, dtype=datatype.dtype)


def _small_integers(elements: Sequence[int], datatype: Datatype, name: str) -> Array:
    """INT8, INT16, UINT8 and UINT16 travel in 32 bits and may be out of range."""
    wide: Array = np.array(elements, dtype=np.int64)
    limits = np.iinfo(datatype.dtype)
    outside = (wide < limits.min) | (wide > limits.max)
    if outside.any():
        raise BadRequest(f"tensor '{printable(name)}': {wide[outside][0]} is out of range for {datatype}")
    return wide.astype(datatype.dtype)


def _objects(elements: Sequence[bytes], datatype: Datatype, name: str) -> Array:
    array: Array = np.empty(len(elements), dtype=np.object_)
    array[:] = list(elements)
    return array


_CONVERTERS: dict[Datatype, Callable[..., Array]] = {
    INT8: _small_integers,
    INT16: _small_integers,
    UINT8: _small_integers,
    UINT16: _small_integers,
    BYTES: _objects,
}


def _requested(
    output: ModelInferRequest.InferRequestedOutputTensor, regions: Regions, deliveries: dict[str, Delivery]
) -> str:
    """The name of a requested output; how it is to be delivered goes into `deliveries`."""
    parameters = _scalars(output.parameters, f"output '{printable(output.name)}'")
    if check_tensor_parameters(parameters, output.name) and (
        delivery := read_delivery(parameters, output.name, regions)
    ):
        deliveries[output.name] = delivery
    return output.name


def _check_count(field: str, tensors: Sequence[object]) -> None:
    if len(tensors) > MAX_TENSORS:
        raise BadRequest(f"{field} has {len(tensors)} entries, at most {MAX_TENSORS} are accepted")


def _scalars(parameters: Mapping[str, InferParameter], owner: str) -> dict[str, Scalar]:
    if len(parameters) > MAX_PARAMETERS:
        raise BadRequest(f"{owner} has {len(parameters)} parameters, at most {MAX_PARAMETERS} are accepted")
    return {key: _scalar(parameter, key, owner) for key, parameter in parameters.items()}


def _scalar(parameter: InferParameter, key: str, owner: str) -> Scalar:
    choice = parameter.WhichOneof("parameter_choice")
    if choice is None:
        raise BadRequest(f"{owner}: parameter '{printable(key)}' has no value")
    value: Scalar = getattr(parameter, choice)
    return value


# --- answers -----------------------------------------------------------------------------------------------


def _set_parameters(target: MessageMap[str, InferParameter], parameters: Parameters) -> None:
    for key, value in parameters.items():
        if isinstance(value, bool):
            target[key].bool_param = value
        elif isinstance(value, int):
            target[key].int64_param = value
        elif isinstance(value, float):
            target[key].double_param = value
        else:
            target[key].string_param = value


def _append_raw(head: bytes, outputs: Sequence[Tensor]) -> bytes:
    """`head` and the field raw_output_contents, written by hand: the serializer would copy it twice more."""
    parts = [head]
    for output in outputs:
        data = b"" if output.elsewhere else codec.encode_raw(output.data, output.datatype)
        parts += (_RAW_OUTPUT_TAG, _varint(len(data)), data)
    return b"".join(parts)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _tensor_metadata(tensor: TensorMetadata) -> ModelMetadataResponse.TensorMetadata:
    return ModelMetadataResponse.TensorMetadata(
        name=tensor.name, datatype=tensor.datatype.name, shape=tensor.shape
    )
