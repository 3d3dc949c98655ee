"""JSON Schema of tensors: what a model announces, in the words of OpenAPI 3.1.

Two things JSON Schema cannot say, so descriptions do: that the elements are as many as the shape's product,
and how many bytes a text has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from oipserver.core.constraint import Constraint
from oipserver.core.contract import taken_as
from oipserver.core.datatypes import BYTES, FP32, Datatype
from oipserver.core.messages import TensorMetadata

Schema: TypeAlias = dict[str, Any]

# A character has at most so many bytes.
_UTF8 = 4
_UNLIMITED = Constraint()


def input_schema(tensor: TensorMetadata, batched: bool, any_name: bool) -> Schema:
    """An item of a request's `inputs`, in JSON.

    Args:
        any_name: the model has no other input, so the caller may name it freely.
    """
    taken = [datatype.name for datatype in taken_as(tensor.datatype) if datatype.json_allowed]
    name = {"type": "string", "default": tensor.name} if any_name else {"const": tensor.name}
    return _object(
        required=("name", "shape", "datatype", "data"),
        name=name,
        shape=_shape(tensor.shape, batched, "One dimension may be -1: the number of elements decides it."),
        datatype={"enum": taken, "default": written_as(tensor.datatype).name},
        data=_data(tensor),
        parameters={"type": "object"},
    )


def output_schema(tensor: TensorMetadata, batched: bool) -> Schema:
    """An item of an answer's `outputs`; `data` is missing when it travels as binary data."""
    return _object(
        required=("name", "shape", "datatype"),
        name={"const": tensor.name},
        shape=_shape(tensor.shape, batched, ""),
        datatype={"const": tensor.datatype.name},
        data=_array(_element(tensor, answered=True)),
        parameters={"type": "object"},
    )


def classified_schema(names: Sequence[str]) -> Schema:
    """As `output_schema`, where the highest values of one of these outputs were asked for."""
    return _object(
        required=("name", "shape", "datatype"),
        name={"enum": list(names)},
        shape=_array({"type": "integer", "minimum": 0}),
        datatype={"const": BYTES.name},
        data=_array({"type": "string"}),
        parameters={"type": "object"},
    )


def written_as(datatype: Datatype) -> Datatype:
    """The datatype that carries a tensor in JSON: FP16 and BF16 are cast from FP32."""
    return datatype if datatype.json_allowed else FP32


def one_of_each(schemas: Sequence[Schema], required: int) -> Schema:
    """A list of tensors, each at most once."""
    items = schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}
    return {"type": "array", "items": items, "minItems": max(1, required), "maxItems": len(schemas)}


def _object(required: Iterable[str], **properties: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties}


def _shape(shape: Sequence[int], batched: bool, description: str) -> Schema:
    sizes: list[Schema] = [
        {"type": "integer", "minimum": 1 if batched else 0} if size < 0 else {"const": size} for size in shape
    ]
    exact: Schema = {"type": "array", "minItems": len(sizes), "maxItems": len(sizes)}
    if sizes:
        exact["prefixItems"] = sizes
    if batched:
        description = f"The first dimension is the number of rows. {description}".strip()
    return {**exact, "description": description} if description else exact


def _data(tensor: TensorMetadata) -> Schema:
    element = _element(tensor, answered=False)
    if len(tensor.shape) < 2:
        return _array(element, *tensor.shape or (1,))
    nested = element
    for size in reversed(tensor.shape):
        nested = _array(nested, size)
    return {
        "description": "Row-major: flat, or nested as the shape says.",
        "anyOf": [_array(element), nested],
    }


def _array(items: Schema, size: int = -1) -> Schema:
    array: Schema = {"type": "array", "items": items}
    return array if size < 0 else {**array, "minItems": size, "maxItems": size}


def _element(tensor: TensorMetadata, answered: bool) -> Schema:
    constraint = tensor.constraint or _UNLIMITED
    if constraint.categories:
        return {"enum": list(constraint.categories)}
    if tensor.datatype is BYTES:
        return _text(constraint)
    if tensor.datatype.kind == "b":
        return {"type": "boolean"}
    number = _number(tensor, constraint)
    # NaN and infinities travel as null.
    may_be_null = tensor.datatype.is_float and (answered or tensor.allow_nan) and constraint == _UNLIMITED
    return {**number, "type": ["number", "null"]} if may_be_null else number


def _text(constraint: Constraint) -> Schema:
    text: Schema = {"type": "string"}
    limits = []
    if constraint.min_length is not None:
        text["minLength"] = math.ceil(constraint.min_length / _UTF8)
        limits.append(f"at least {constraint.min_length}")
    if constraint.max_length is not None:
        text["maxLength"] = constraint.max_length
        limits.append(f"at most {constraint.max_length}")
    if limits:
        text["description"] = f"{' and '.join(limits).capitalize()} bytes of UTF-8."
    return text


def _number(tensor: TensorMetadata, constraint: Constraint) -> Schema:
    low, high = constraint.minimum, constraint.maximum
    if not tensor.datatype.is_float:
        limits = np.iinfo(tensor.datatype.dtype)
        low = limits.min if low is None else max(limits.min, _whole(low, math.ceil))
        high = limits.max if high is None else min(limits.max, _whole(high, math.floor))
    number: Schema = {"type": "number" if tensor.datatype.is_float else "integer"}
    if low is not None and math.isfinite(low):
        number["minimum"] = low
    if high is not None and math.isfinite(high):
        number["maximum"] = high
    return number


def _whole(limit: float, rounded: Callable[[float], int]) -> float:
    return rounded(limit) if math.isfinite(limit) else limit
