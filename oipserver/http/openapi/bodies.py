"""The bodies of one version's requests and answers, as JSON Schema, and an example that it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from oipserver.core.contract import Contract
from oipserver.core.errors import BadRequest
from oipserver.core.messages import Tensor, TensorMetadata
from oipserver.http.openapi.tensors import (
    Schema,
    classified_schema,
    input_schema,
    one_of_each,
    output_schema,
    written_as,
)
from oipserver.http.wire import MAX_ID_BYTES, json_data

# Elements; a larger example is no use to a reader.
_LARGEST_EXAMPLE = 4096

_SCALAR: Schema = {"type": ["string", "number", "boolean", "null"]}
# What speaks to the server and not to the model.
_RESERVED: Schema = {
    "timeout": {
        "type": "integer",
        "minimum": 0,
        "maximum": 2**63 - 1,
        "description": "Microseconds until the deadline; 0 for the server's own.",
    },
    "binary_data_output": {"type": "boolean", "description": "Outputs travel as binary data."},
    "priority": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
}
_OF_OUTPUT: Schema = {
    "binary_data": {"type": "boolean", "description": "This output travels as binary data."},
    "classification": {
        "type": "integer",
        "minimum": 1,
        "description": "So many of the highest values, each as a text 'value:index[:label]'.",
    },
}
_ID: Schema = {"type": "string", "maxLength": MAX_ID_BYTES, "description": "Comes back with the answer."}


def request_schema(contract: Contract) -> Schema:
    """The document of an inference request, all tensors in JSON."""
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": _ID,
            "parameters": _parameters(contract),
            "inputs": _inputs(contract),
            "outputs": _requested(contract),
        },
    }


def response_schema(contract: Contract, version: str) -> Schema:
    """The document of an inference response."""
    tensors = (*contract.model.outputs, *contract.model.optional_outputs)
    items = [output_schema(tensor, contract.batched) for tensor in tensors]
    if numbers := [tensor.name for tensor in tensors if tensor.datatype.kind in "uif"]:
        items.append(classified_schema(numbers))
    return {
        "type": "object",
        "required": ["model_name", "model_version", "id", "outputs"],
        "properties": {
            "model_name": {"const": contract.name},
            "model_version": {"const": version},
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "outputs": {
                "type": "array",
                "items": {"anyOf": items} if items else {},
                "maxItems": len(tensors),
            },
        },
    }


def generate_schema(contract: Contract, request: Schema) -> Schema:
    """A body of generate: an inference request, or Triton's form, members that bear the inputs' names."""
    names = [tensor.name for tensor in contract.model.inputs]
    triton: Schema = {
        "type": "object",
        "properties": {"id": _ID, "parameters": {"type": "object"}, **{name: {} for name in names}},
    }
    if len(names) == 1:
        triton["properties"]["text_input"] = {"description": f"Another name of '{names[0]}'."}
    return {"anyOf": [request, triton]}


def example_request(contract: Contract) -> dict[str, Any] | None:
    """A request that the model answers: its own example, else what its metadata suggests.

    None when there is none that JSON can carry, or when it is too large to be read.
    """
    tensors = [tensor for tensor in _example(contract) if tensor.data.size]
    if not tensors or sum(tensor.data.size for tensor in tensors) > _LARGEST_EXAMPLE:
        return None
    try:
        return {"inputs": [_written(tensor) for tensor in tensors]}
    except BadRequest:
        return None


def _example(contract: Contract) -> Sequence[Tensor]:
    golden = contract.model.golden
    if contract.model.example is None and golden:
        return golden[0].inputs
    declared = {tensor.name: tensor for tensor in (*contract.model.inputs, *contract.model.named_inputs)}
    arrays = contract.example(1, ()).inputs
    return [Tensor(name, declared[name].datatype, array) for name, array in arrays.items()]


def _written(tensor: Tensor) -> dict[str, Any]:
    datatype = written_as(tensor.datatype)
    data = tensor.data if datatype is tensor.datatype else tensor.data.astype(np.float32)
    values = json_data(Tensor(tensor.name, datatype, data))
    return {
        "name": tensor.name,
        "shape": list(tensor.data.shape),
        "datatype": datatype.name,
        "data": orjson.loads(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)),
    }


def _inputs(contract: Contract) -> Schema:
    model = contract.model
    ways = [_one_way(contract, tensors) for tensors in (model.inputs, model.named_inputs) if tensors]
    if not ways:
        return {"type": "array"}
    return ways[0] if len(ways) == 1 else {"anyOf": ways}


def _one_way(contract: Contract, tensors: Sequence[TensorMetadata]) -> Schema:
    free = len(tensors) == 1 and tensors is contract.model.inputs
    schemas = [input_schema(tensor, contract.batched, free) for tensor in tensors]
    return one_of_each(schemas, sum(not tensor.optional for tensor in tensors))


def _requested(contract: Contract) -> Schema:
    model = contract.model
    names = [tensor.name for tensor in (*model.outputs, *model.optional_outputs)]
    default = ", ".join(tensor.name for tensor in model.outputs)
    return {
        "type": ["array", "null"],
        "description": f"What to answer, in this order; by default {default}.",
        "maxItems": len(names),
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"enum": names},
                "parameters": {"type": "object", "properties": _OF_OUTPUT},
            },
        },
    }


def _parameters(contract: Contract) -> Schema:
    own = {name: _SCALAR for name in contract.model.parameter_names if name != "*"}
    return {
        "type": "object",
        "properties": {**own, **_RESERVED},
        "patternProperties": {"^triton_": False},
        "additionalProperties": _SCALAR,
    }
