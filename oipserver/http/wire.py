"""An infer body as an `InferenceRequest`, and an `InferenceResponse` as a body.

OIP, "Inference Request JSON Object"; Triton, "Binary Tensor Data Extension": with the header
Inference-Header-Content-Length the first N bytes are JSON and the tensors follow, in the order of the inputs.
"""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from oipserver.core.codec import MAX_RANK, decode_list, decode_raw, encode_raw
from oipserver.core.datatypes import BYTES, Datatype, parse_datatype
from oipserver.core.delivery import delivered, read_delivery
from oipserver.core.errors import BadRequest, printable
from oipserver.core.messages import (
    Array,
    Deliveries,
    Delivery,
    InferenceRequest,
    InferenceResponse,
    Tensor,
    TensorMetadata,
)
from oipserver.core.reserved import NOTHING_RESERVED, Reserved, check_tensor_parameters, read_parameters
from oipserver.core.shared_memory import OFF, Regions, SharedInputs
from oipserver.http.bulk import LEAST, read_bulk

MAX_TENSORS = 256
MAX_ID_BYTES = 65536
MAX_NAN_BODY = 2**20
# From this size on a JSON text may make more objects than the collector should look at.
LARGE = 2**18

JSON = b"application/json"
BINARY = b"application/octet-stream"


@dataclass(slots=True)
class Plan:
    """How the answer is to travel: raw for every output, but for those that `named` decides.

    Attributes:
        deliveries: the outputs that are answered in another way still.
    """

    binary: bool = False
    named: Mapping[str, bool] = field(default_factory=dict)
    deliveries: Deliveries | None = None

    def is_binary(self, output: str) -> bool:
        """Whether `output` travels raw."""
        return self.named.get(output, self.binary)


@dataclass(slots=True)
class Envelope:
    """What is known of a request before its body: where it goes and who asks.

    Attributes:
        regions: where its tensors may be besides.
    """

    model_name: str
    model_version: str | None
    request_id: str
    timeout: float
    regions: Regions = OFF


# --- requests ----------------------------------------------------------------------------------------------


def decode_request(
    body: bytes, header_length: str | None, envelope: Envelope
) -> tuple[InferenceRequest, Plan]:
    """The request in `body`, and how it wants its answer.

    Args:
        header_length: the value of Inference-Header-Content-Length; None when the whole body is JSON.

    Raises:
        BadRequest: whatever is malformed, by field.
    """
    if header_length is None:
        bulk = read_bulk(body) if len(body) >= LEAST else None
        return decode_document(parse_object(body) if bulk is None else bulk, None, envelope)
    length = _header_length(header_length, len(body))
    return decode_document(parse_object(body[:length]), _Blobs(memoryview(body)[length:]), envelope)


def decode_document(
    document: Mapping[str, Any], blobs: _Blobs | None, envelope: Envelope
) -> tuple[InferenceRequest, Plan]:
    """As `decode_request`, of JSON that was parsed before; `blobs` are the raw tensors behind it."""
    shared = SharedInputs(envelope.regions)
    inputs = [_input(item, blobs, shared) for item in _inputs(document)]
    if blobs is not None:
        blobs.check_end()
    parameters = read_object(document, "parameters")
    reserved = read_parameters(parameters) if parameters else NOTHING_RESERVED
    names, named, deliveries = _outputs(document, envelope.regions)
    request = new_request(envelope, inputs, reserved, read_id(document), names)
    request.deliveries = deliveries
    return request, Plan(reserved.binary_data_output, named, deliveries)


def decode_raw_request(
    body: bytes, inputs: Sequence[TensorMetadata], envelope: Envelope
) -> tuple[InferenceRequest, Plan]:
    """The request of a body without any JSON (Inference-Header-Content-Length: 0): one tensor, one row.

    Triton, "Raw Binary Request": the shape is the model's own with batch size 1, at most one dimension being
    variable; a BYTES tensor is a single element without length prefix; every output is answered raw.
    """
    if len(inputs) != 1:
        raise BadRequest(f"a raw binary request needs a model with one input, this one has {len(inputs)}")
    tensor = inputs[0]
    shape = (1, *tensor.shape[1:])
    if tensor.datatype is BYTES:
        if any(size != 1 and size != -1 for size in shape):
            raise BadRequest("a raw binary request carries a single BYTES element")
        array: Array = np.empty((1,) * len(shape), dtype=np.object_)
        array.flat[0] = body
    else:
        array = decode_raw(body, tensor.datatype, shape, tensor.name)
    request = new_request(envelope, [Tensor(tensor.name, tensor.datatype, array)], NOTHING_RESERVED, None, ())
    return request, Plan(binary=True)


def new_request(
    envelope: Envelope,
    inputs: Sequence[Tensor],
    reserved: Reserved,
    body_id: str | None,
    outputs: Sequence[str],
) -> InferenceRequest:
    """The request, once everything in its body was read."""
    timeout = envelope.timeout if reserved.timeout is None else min(reserved.timeout, envelope.timeout)
    deadline, name, version = time.monotonic() + timeout, envelope.model_name, envelope.model_version
    # By position: keywords cost a little, with every request.
    request_id, rest, priority = body_id or envelope.request_id, reserved.rest, reserved.priority
    return InferenceRequest(name, inputs, request_id, deadline, version, outputs, rest, priority)


def _header_length(text: str, available: int) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 19 or int(text) > available:
        raise BadRequest(
            f"Inference-Header-Content-Length must be a number from 0 to {available}, the body's length; "
            f"got '{printable(text)}'"
        )
    return int(text)


def parse_object(text: bytes) -> Mapping[str, Any]:
    """The JSON object in a body; BadRequest when there is none."""
    if not text:
        raise BadRequest("the body is empty; expected a JSON object with 'inputs'")
    try:
        document = orjson.loads(text) if len(text) < LARGE else _parse_large(text)
    except orjson.JSONDecodeError as error:
        document = _parse_with_nan(text, error)
    if type(document) is not dict:
        raise BadRequest(f"the body must be a JSON object, got {_kind(document)}")
    return document


def _parse_large(text: bytes) -> Any:
    """As `orjson.loads`, without the collector, which walks through millions of new lists again and again."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return orjson.loads(text)
    finally:
        if collecting:
            gc.enable()


_STRING_OR_LITERAL = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|-?Infinity|NaN', re.DOTALL)
_LITERALS = {f"\0{literal}": float(literal) for literal in ("NaN", "Infinity", "-Infinity")}


def _parse_with_nan(text: bytes, error: orjson.JSONDecodeError) -> Any:
    if b"NaN" in text or b"Infinity" in text:
        if len(text) > MAX_NAN_BODY:
            raise BadRequest(
                f"the body is not JSON: {error}; NaN and Infinity are read in bodies of at most "
                f"{MAX_NAN_BODY} bytes"
            ) from None
        try:
            return _Literals().parse(text)
        except orjson.JSONDecodeError:
            pass
    raise BadRequest(f"the body is not JSON: {error}") from None


class _Literals:
    """NaN, Infinity and -Infinity, which JSON does not know but clients write (tritonclient does).

    Each becomes an object, and a float again in a tensor's data; elsewhere it is refused.
    """

    def __init__(self) -> None:
        self._elsewhere = 0

    def parse(self, text: bytes) -> Any:
        document = orjson.loads(_STRING_OR_LITERAL.sub(self._wrap, text))
        inputs = document.get("inputs") if type(document) is dict else None
        for item in inputs if type(inputs) is list else ():
            if type(item) is dict and type(item.get("data")) is list:
                self._restore(item["data"], MAX_RANK)
        if self._elsewhere:
            raise BadRequest("NaN and Infinity are accepted in the data of tensors only")
        return document

    def _wrap(self, match: re.Match[bytes]) -> bytes:
        found = match[0]
        if found.startswith(b'"'):
            return found
        self._elsewhere += 1
        return b'{"\\u0000%s":0}' % found

    def _restore(self, values: list[Any], depth: int) -> None:
        for position, value in enumerate(values):
            if type(value) is list and depth > 1:
                self._restore(value, depth - 1)
            elif type(value) is dict and len(value) == 1 and (literal := next(iter(value))) in _LITERALS:
                self._elsewhere -= 1
                values[position] = _LITERALS[literal]


class _Blobs:
    """The raw tensors behind the JSON, taken in order; nothing may be left over."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def take(self, size: int, tensor: str) -> memoryview:
        end = self._position + size
        if end > len(self._data):
            raise BadRequest(
                f"tensor '{printable(tensor)}': binary_data_size is {size}, "
                f"but {len(self._data) - self._position} bytes are left in the body"
            )
        blob = self._data[self._position : end]
        self._position = end
        return blob

    def check_end(self) -> None:
        left = len(self._data) - self._position
        if left:
            raise BadRequest(f"the body holds {left} bytes more than the inputs' binary_data_size")


def _inputs(document: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    inputs = document.get("inputs")
    if type(inputs) is not list or not inputs:
        raise BadRequest(f"'inputs' must be a list of at least one tensor, got {_kind(inputs)}")
    return _tensors(inputs, "inputs")


def _tensors(items: list[Any], what: str) -> Sequence[Mapping[str, Any]]:
    if len(items) > MAX_TENSORS:
        raise BadRequest(f"'{what}' holds {len(items)} tensors, at most {MAX_TENSORS} are accepted")
    for position, item in enumerate(items):
        if type(item) is not dict:
            raise BadRequest(f"'{what}[{position}]' must be an object, got {_kind(item)}")
        if type(item.get("name")) is not str:
            raise BadRequest(f"'{what}[{position}].name' must be a string, got {_kind(item.get('name'))}")
    return items


def _input(item: Mapping[str, Any], blobs: _Blobs | None, shared: SharedInputs) -> Tensor:
    name = item["name"]
    shape, data = item.get("shape"), item.get("data")
    if type(shape) is not list:
        raise BadRequest(f"tensor '{printable(name)}': shape must be a list of integers, got {_kind(shape)}")
    datatype = parse_datatype(item.get("datatype"), name)
    parameters = read_object(item, "parameters")
    if parameters and check_tensor_parameters(parameters, name):
        place = shared.take(parameters, name)
        if place is not None:
            return Tensor(name, datatype, _placed(place, item, datatype))
    size = _binary_size(parameters, name)
    if (size is None) == (data is None):
        came = "neither" if data is None else "both"
        raise BadRequest(
            f"tensor '{printable(name)}': one of data and binary_data_size is needed, got {came}"
        )
    if size is None:
        return Tensor(name, datatype, _listed(data, datatype, shape, name))
    if blobs is None:
        raise BadRequest(
            f"tensor '{printable(name)}': binary_data_size needs the header Inference-Header-Content-Length"
        )
    return Tensor(name, datatype, decode_raw(blobs.take(size, name), datatype, shape, name))


def _listed(data: Any, datatype: Datatype, shape: list[Any], name: str) -> Array:
    if isinstance(data, np.ndarray):  # as no JSON is: it was read and checked in bulk
        return data
    if type(data) is not list:
        raise BadRequest(f"tensor '{printable(name)}': data must be a list, got {_kind(data)}")
    if not datatype.json_allowed:
        raise BadRequest(f"tensor '{printable(name)}': {datatype} travels as binary data only, not in JSON")
    return decode_list(data, datatype, shape, name)


def _placed(data: memoryview, item: Mapping[str, Any], datatype: Datatype) -> Array:
    """The tensor whose bytes were in shared memory."""
    parameters = item["parameters"]
    if item.get("data") is not None or parameters.get("binary_data_size") is not None:
        raise BadRequest(
            f"tensor '{printable(item['name'])}': one of data, binary_data_size and shared_memory_region "
            "is needed, got two"
        )
    return decode_raw(data, datatype, item["shape"], item["name"])


def _binary_size(parameters: Mapping[str, Any] | None, name: str) -> int | None:
    if not parameters:
        return None
    size = parameters.get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise BadRequest(
            f"tensor '{printable(name)}': binary_data_size must be an unsigned integer, got {_kind(size)}"
        )
    return size


def _outputs(
    document: Mapping[str, Any], regions: Regions
) -> tuple[Sequence[str], Mapping[str, bool], Deliveries | None]:
    outputs = document.get("outputs")
    if not outputs and outputs in (None, []):
        return (), {}, None
    if type(outputs) is not list:
        raise BadRequest(f"'outputs' must be a list of objects, got {_kind(outputs)}")
    named: dict[str, bool] = {}
    deliveries: dict[str, Delivery] = {}
    for item in _tensors(outputs, "outputs"):
        parameters = read_object(item, "parameters")
        if not parameters:
            continue
        if check_tensor_parameters(parameters, item["name"]) and (
            delivery := read_delivery(parameters, item["name"], regions)
        ):
            deliveries[item["name"]] = delivery
        binary = parameters.get("binary_data")
        if binary is not None:
            if type(binary) is not bool:
                raise BadRequest(f"output '{printable(item['name'])}': binary_data must be true or false")
            named[item["name"]] = binary
    return [item["name"] for item in outputs], named, deliveries or None


def read_id(document: Mapping[str, Any]) -> str | None:
    """The caller's id; BadRequest when it is no text, or too long."""
    body_id = document.get("id")
    if body_id is None:
        return None
    if type(body_id) is not str:
        raise BadRequest(f"'id' must be a string, got {_kind(body_id)}")
    if len(body_id) > MAX_ID_BYTES or len(body_id.encode()) > MAX_ID_BYTES:
        raise BadRequest(f"'id' is longer than {MAX_ID_BYTES} bytes")
    return body_id


def read_object(item: Mapping[str, Any], member: str) -> Mapping[str, Any] | None:
    """A member that has to be an object; BadRequest when it is something else."""
    value = item.get(member)
    if value is not None and type(value) is not dict:
        raise BadRequest(f"'{member}' must be an object, got {_kind(value)}")
    return value


def _kind(value: object) -> str:
    """JSON's word for a value, and the value itself where it is short."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return orjson.dumps(value).decode() if isinstance(value, bool) else f"'{printable(value)}'"


# --- answers -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Body:
    """An encoded answer.

    Attributes:
        header_length: for Inference-Header-Content-Length; None when the body is JSON alone.
    """

    data: bytes
    header_length: int | None = None

    @property
    def content_type(self) -> bytes:
        """JSON alone is application/json exactly: KServe's client compares it."""
        return JSON if self.header_length is None else BINARY


def encode_response(response: InferenceResponse, plan: Plan) -> Body:
    """The answer as its caller wants it: JSON, or JSON with raw tensors behind it.

    Raises:
        BadRequest: an output cannot be written as JSON (FP16, BF16, BYTES that are not UTF-8), or cannot go
            where it should.
    """
    if plan.deliveries:
        response = delivered(response, plan.deliveries)
    blobs: list[bytes] = []
    document = {
        "model_name": response.model_name,
        "model_version": response.model_version,
        "id": response.id,
        "parameters": response.parameters,
        "outputs": [_output(tensor, plan, blobs) for tensor in response.outputs],
    }
    head = orjson.dumps(document, default=dict, option=orjson.OPT_SERIALIZE_NUMPY)  # any Mapping
    if not blobs:
        return Body(head)
    return Body(b"".join((head, *blobs)), len(head))


def _output(tensor: Tensor, plan: Plan, blobs: list[bytes]) -> dict[str, Any]:
    output: dict[str, Any] = {
        "name": tensor.name,
        "shape": tensor.data.shape,
        "datatype": tensor.datatype.name,
        "parameters": tensor.parameters,
    }
    if tensor.elsewhere:
        return output
    if plan.is_binary(tensor.name):
        blob = encode_raw(tensor.data, tensor.datatype)
        output["parameters"] = {**tensor.parameters, "binary_data_size": len(blob)}
        blobs.append(blob)
    else:
        output["data"] = json_data(tensor)
    return output


def json_data(tensor: Tensor) -> list[str] | Array:
    """Flat and row-major; NaN and infinities leave as null, as strict parsers know no other way.

    Raises:
        BadRequest: JSON cannot carry it (FP16, BF16, BYTES that are not UTF-8).
    """
    if tensor.datatype is BYTES:
        try:
            return [element.decode() for element in tensor.data.flat]
        except UnicodeDecodeError:
            raise BadRequest(
                f"output '{tensor.name}' holds bytes that are not UTF-8: request it with binary_data"
            ) from None
    if not tensor.datatype.json_allowed:
        raise BadRequest(f"output '{tensor.name}' is {tensor.datatype}: request it with binary_data")
    return np.ascontiguousarray(tensor.data, tensor.datatype.dtype).reshape(-1)
