"""What `predict` returned, as tensors; and from tensors the JSON that MLflow would have written of it.

Rule: what is announced is what is answered.  A form is learned from a trial while the model is loaded, and
every later answer is brought to it, or is the model's failure.

    array, list, scalar   `output-1`, or the one name that the signature gives
    series                its name, else `output-1`
    data frame            one output per column; `output-1` for a matrix whose columns have no names
    dictionary            one output per key
    None                  the model's failure

A vector of N rows is a column, [N,1].  Numbers keep their datatype, or have the signature's where it is of
the same kind; texts, bytes, and moments are BYTES; everything else is BYTES with a JSON text per element.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from mlflow.types.schema import DataType, Schema

from oipserver import BYTES, Array, Arrays, Datatype, TensorMetadata, datatype_of
from oipserver_mlflow.cells import fill, json_bytes, jsonable

OUTPUT = "output-1"
DOCUMENT = "predictions"

Kind = Literal["array", "list", "scalar", "series", "frame", "matrix", "dict"]
Content = Literal["number", "text", "bytes", "json"]
Key = str | None


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer taken apart: arrays by key, None for the only one of an answer without names."""

    kind: Kind
    arrays: Mapping[Key, Array]


@dataclass(slots=True)
class Output:
    """One tensor of the answer.

    Attributes:
        key: of `Raw.arrays`.
        rank: axes of what the model returned.
    """

    key: Key
    metadata: TensorMetadata
    content: Content
    rank: int

    def array(self, values: Array) -> Array:
        """As announced.

        Raises:
            TypeError: values of another kind.
        """
        if self.content == "json" and values.ndim > self.rank:  # a list that happens to be regular today
            values = fill(values.tolist(), values.shape[:1])
        shape = values.shape if len(values.shape) >= len(self.metadata.shape) else (*values.shape, 1)
        if self.content == "number":
            return _cast(values, self.metadata.datatype).reshape(shape)
        element = _as_json if self.content == "json" else _as_bytes
        return fill(map(element, _plain(values)), shape)

    def values(self, array: Array) -> Any:
        """Plain values in the shape that the model returned."""
        if self.content != "number":
            array = fill(map(_READ[self.content], array.flat), array.shape)
        if array.ndim > self.rank:
            array = array[..., 0]
        return array.tolist()


@dataclass(slots=True)
class Form:
    """How a model answers.

    Attributes:
        seen: the model has answered; before, kind and ranks are a guess from its signature.
    """

    kind: Kind
    outputs: Sequence[Output]
    seen: bool = True

    @property
    def has_batch_axis(self) -> bool:
        """Whether the first axis of every tensor is free; no more than that."""
        return all(output.rank for output in self.outputs)

    def arrays(self, answer: Any) -> dict[str, Array]:
        """The announced tensors of an answer.

        Raises:
            TypeError: it is None, or not what the model answered before.
        """
        raw = take_apart(answer)
        arrays = raw.arrays
        if len(self.outputs) == len(arrays) == 1:
            arrays = {self.outputs[0].key: next(iter(arrays.values()))}
        missing = [output.metadata.name for output in self.outputs if output.key not in arrays]
        if missing:
            raise TypeError(f"the model returned a {raw.kind} without {', '.join(missing)}")
        if not self.seen:
            self._adopt(raw.kind, arrays)
        return {output.metadata.name: output.array(arrays[output.key]) for output in self.outputs}

    def _adopt(self, kind: Kind, arrays: Mapping[Key, Array]) -> None:
        self.kind, self.seen = kind, True
        for output in self.outputs:
            output.rank = arrays[output.key].ndim

    def document(self, answer: Arrays) -> Any:
        """What MLflow's scoring server writes as `predictions`."""
        values = {output.key: output.values(answer[output.metadata.name]) for output in self.outputs}
        if self.kind in ("series", "frame"):
            names = [str(0 if key is None else key) for key in values]
            return [dict(zip(names, row, strict=True)) for row in zip(*values.values(), strict=True)]
        if self.kind == "dict":
            return values
        (only,) = values.values()
        if self.kind == "matrix":
            return [{str(place): value for place, value in enumerate(row)} for row in only]
        return only


def take_apart(answer: Any) -> Raw:
    """The arrays of an answer.

    Raises:
        TypeError: it is None, or holds what is no array.
    """
    if answer is None:
        raise TypeError("the model returned None; predict must return its answer")
    if isinstance(answer, pd.DataFrame):
        return _of_frame(answer)
    if isinstance(answer, pd.Series):
        return Raw("series", {answer.name if isinstance(answer.name, str) else None: answer.to_numpy()})
    if isinstance(answer, Mapping):
        return Raw("dict", {str(key): _array(value) for key, value in answer.items()})
    if isinstance(answer, list | tuple):
        return Raw("list", {None: _of_list(list(answer))})
    array = _array(answer)
    return Raw("array" if array.ndim else "scalar", {None: array})


def learn(answers: Sequence[Any], schema: Schema | None, free: bool = False) -> Form:
    """The form of a model that returned these answers.

    Args:
        free: no axis has a size that can be relied on.

    Raises:
        TypeError: None, or an answer that cannot be carried.
    """
    taken = [take_apart(answer) for answer in answers]
    last = taken[-1]
    if not last.arrays:
        raise TypeError("the model returned nothing")
    declared = _declared(schema)
    only = next(iter(declared)) if len(declared) == 1 else None
    outputs = []
    for key in last.arrays:
        shapes = [raw.arrays[key].shape for raw in taken if key in raw.arrays]
        shape = (-1,) * len(shapes[0]) if free else _common(shapes)
        name = key or only or OUTPUT
        dtype = declared.get(key, declared.get(only) if len(last.arrays) == 1 else None)
        outputs.append(_output(key, name, last.arrays[key], shape, dtype))
    return Form(last.kind, outputs)


def promised(schema: Schema | None) -> Form | None:
    """The form that an output schema promises, for a model that could not be tried; None without one."""
    declared = _declared(schema)
    if schema is None or not declared or any(dtype is None for dtype in declared.values()):
        return None
    kind: Kind = "array" if schema.is_tensor_spec() else "list"
    if schema.has_input_names():
        kind = "dict" if schema.is_tensor_spec() else "frame"
    shapes = [tuple(spec.shape) if schema.is_tensor_spec() else (-1,) for spec in schema.inputs]
    outputs = [
        _output(key, key or OUTPUT, np.empty(0, dtype), shape, dtype)
        for (key, dtype), shape in zip(declared.items(), shapes, strict=True)
    ]
    return Form(kind, outputs, seen=False)


def _output(
    key: Key, name: str, values: Array, shape: tuple[int, ...], declared: np.dtype[Any] | None
) -> Output:
    content = _content(values)
    datatype = _datatype(values.dtype, declared) if content == "number" else BYTES
    rank = len(shape)
    shape = shape or (1,)
    if shape == (-1,):
        shape = (-1, 1)
    parameters = {"form": "JSON"} if content == "json" else {}
    return Output(key, TensorMetadata(name, datatype, shape, parameters=parameters), content, rank)


def _common(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """What the shapes have in common; the first axis is free."""
    same = [sizes[0] if len(set(sizes)) == 1 else -1 for sizes in zip(*shapes, strict=False)]
    return (-1, *same[1:]) if same else ()


def _declared(schema: Schema | None) -> dict[Key, np.dtype[Any] | None]:
    """The dtypes that an output schema names, None for what has none; empty for several without names."""
    if schema is None or (len(schema.inputs) > 1 and not schema.has_input_names()):
        return {}
    return {spec.name: _dtype(spec.type) for spec in schema.inputs}


def _dtype(kind: Any) -> np.dtype[Any] | None:
    if isinstance(kind, DataType):
        kind = kind.to_pandas()
    return np.dtype(kind) if isinstance(kind, type | np.dtype) else None


def _of_frame(frame: Any) -> Raw:
    names = list(frame.columns)
    if len(set(map(str, names))) < len(names):
        raise TypeError("the model returned a data frame with two columns of one name")
    if any(isinstance(name, str) for name in names):
        return Raw("frame", {str(name): frame[name].to_numpy() for name in names})
    return Raw("matrix", {None: frame.to_numpy()})


def _of_list(values: list[Any]) -> Array:
    """An array where the list is regular and of one kind; else one object per element."""
    if all(isinstance(value, str) for value in values):
        return fill(values, (len(values),))
    if any(isinstance(value, str | bytes | Mapping) or value is None for value in values):
        return fill(values, (len(values),))
    try:
        array = np.asarray(values)
    except ValueError:  # ragged
        return fill(values, (len(values),))
    return array if array.dtype.kind in "biufUS" else fill(values, (len(values),))


def _array(value: Any) -> Array:
    if isinstance(value, pd.Series):
        return np.asarray(value.to_numpy())
    if isinstance(value, list | tuple):
        return _of_list(list(value))
    if hasattr(value, "toarray"):  # a sparse matrix
        return np.asarray(value.toarray())
    if hasattr(value, "detach"):  # a tensor of torch, which may want its gradient
        value = value.detach().cpu()
    if isinstance(value, str | bytes) or not (hasattr(value, "__array__") or np.isscalar(value)):
        return fill([value], ())
    return np.asarray(value)


def _content(values: Array) -> Content:
    if values.dtype.kind in "biuf":
        return "number"
    if values.dtype.kind in "UMm":
        return "text"
    if values.dtype.kind == "S":
        return "bytes"
    elements = values.ravel().tolist()
    if all(isinstance(element, str) or hasattr(element, "isoformat") for element in elements):
        return "text"
    if all(isinstance(element, bytes) for element in elements):
        return "bytes"
    return "json"


def _datatype(dtype: np.dtype[Any], declared: np.dtype[Any] | None) -> Datatype:
    fits = declared is not None and declared.kind in "biuf" and np.can_cast(dtype, declared, "same_kind")
    return datatype_of(declared if fits and declared is not None else dtype)


def _cast(values: Array, datatype: Datatype) -> Array:
    if values.dtype.kind == "O":  # numbers with a missing one among them
        try:
            return values.astype(datatype.dtype)
        except ValueError as error:
            raise TypeError(f"the model returned objects, announced {datatype}: {error}") from None
    if not np.can_cast(values.dtype, datatype.dtype, "same_kind"):
        raise TypeError(f"the model returned {values.dtype}, announced {datatype}")
    return values.astype(datatype.dtype, copy=False)


def _plain(values: Array) -> Iterator[Any]:
    """Python objects; moments as ISO 8601 text."""
    if values.dtype.kind in "Mm":
        return iter(values.astype(str).ravel().tolist())
    return iter(values.ravel().tolist())


def _as_bytes(value: Any) -> bytes:
    """Text for everything; nothing for what is missing."""
    if isinstance(value, bytes):
        return value
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return b""
    return str(value.isoformat() if hasattr(value, "isoformat") else value).encode()


def _as_json(value: Any) -> bytes:
    return json_bytes(value)


_READ: Mapping[Content, Callable[[bytes], Any]] = {
    "text": bytes.decode,
    "bytes": lambda element: base64.encodebytes(element).decode("ascii"),
    "json": json.loads,
}


def whole(answer: Any) -> dict[str, Array]:
    """Any answer as one JSON text: `predictions`, shape [1].

    Raises:
        TypeError: it is None, or cannot be written.
    """
    if answer is None:
        raise TypeError("the model returned None; predict must return its answer")
    known = isinstance(answer, dict | list | tuple | str | bool | int | float)
    return {DOCUMENT: fill([json_bytes(answer if known else jsonable(answer))], (1,))}
