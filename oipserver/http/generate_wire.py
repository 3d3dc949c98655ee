"""The documents of generate and generate_stream: a member for each tensor, one element as a scalar.

Triton, "Generate Extension": a member of the request, or of its `parameters`, that bears the name of an input
is that tensor; any other is a parameter.  A model with one input takes it as `text_input`, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from oipserver.core.codec import MAX_RANK, decode_list
from oipserver.core.datatypes import BYTES
from oipserver.core.errors import BadRequest, printable
from oipserver.core.messages import InferenceRequest, InferenceResponse, Tensor, TensorMetadata
from oipserver.core.model import Model
from oipserver.core.reserved import read_parameters
from oipserver.http.wire import Envelope, json_data, new_request, read_id, read_object

TEXT_INPUT = "text_input"
_OURS = ("id", "parameters")


def decode_generate(document: Mapping[str, Any], envelope: Envelope, model: Model) -> InferenceRequest:
    """The request in a document of Triton's form.

    Raises:
        BadRequest: a member is neither a tensor of this model nor a scalar.
    """
    declared = {tensor.name: tensor for tensor in (*model.inputs, *model.named_inputs)}
    if len(model.inputs) == 1:
        declared.setdefault(TEXT_INPUT, model.inputs[0])
    members = {name: value for name, value in document.items() if name not in _OURS}
    members = {**(read_object(document, "parameters") or {}), **members}
    inputs: list[Tensor] = []
    parameters: dict[str, Any] = {}
    for name, value in members.items():
        if name in declared and value is not None:
            inputs.append(_tensor(name, value, declared[name]))
        elif type(value) in (dict, list):
            known = ", ".join(f"'{each.name}'" for each in model.inputs)
            raise BadRequest(
                f"model '{envelope.model_name}' has no input '{printable(name)}' but {known}, and "
                "a parameter must be a string, number or boolean"
            )
        else:
            parameters[name] = value
    return new_request(envelope, inputs, read_parameters(parameters), read_id(document), ())


def encode_generate(response: InferenceResponse) -> bytes:
    """The answer as a document of Triton's form; tensors of several elements are flat lists.

    Raises:
        BadRequest: JSON cannot carry an output.
    """
    document: dict[str, Any] = {
        "id": response.id,
        "model_name": response.model_name,
        "model_version": response.model_version,
    }
    for tensor in response.outputs:
        data = json_data(tensor)
        document[tensor.name] = data[0] if len(data) == 1 else data
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def is_text(response: InferenceResponse) -> bool:
    """Whether every output is one text, so that answers can be put together."""
    return all(tensor.datatype is BYTES and tensor.data.size == 1 for tensor in response.outputs)


def _tensor(name: str, value: Any, metadata: TensorMetadata) -> Tensor:
    datatype, declared = metadata.datatype, metadata.shape
    if not datatype.json_allowed:
        raise BadRequest(f"input '{printable(name)}' is {datatype}, which JSON cannot carry: use infer")
    shape = _nesting(value)
    missing = len(declared) - len(shape)
    # One column may be a flat list (the contract adds its axis); what else is flat is one row.
    if missing == 1 and shape and declared[-1] == 1:
        missing = 0
    for _ in range(missing):
        value = [value]
    shape = [1] * missing + shape
    return Tensor(name, datatype, decode_list(value if shape else [value], datatype, shape, name))


def _nesting(value: Any) -> list[int]:
    """The shape that a nested list begins with; whether it keeps it, its decoder checks."""
    shape: list[int] = []
    while type(value) is list and len(shape) <= MAX_RANK:
        shape.append(len(value))
        value = value[0] if value else None
    return shape
