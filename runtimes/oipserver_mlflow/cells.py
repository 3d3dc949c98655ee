"""How one value of an MLflow column type travels in a tensor.

boolean BOOL · integer INT32 · long INT64 · float FP32 · double FP64
string   BYTES, UTF-8 text
binary   BYTES, as they are
datetime BYTES, ISO 8601 text
array, object, map, any   BYTES, JSON text
"""

from __future__ import annotations

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from mlflow.types.schema import AnyType, DataType, Map, Object
from mlflow.types.schema import Array as ArrayType

from oipserver import BOOL, BYTES, FP32, FP64, INT32, INT64, Array, BadRequest, Datatype, datatype_of

_NUMBERS = {
    DataType.boolean: BOOL,
    DataType.integer: INT32,
    DataType.long: INT64,
    DataType.float: FP32,
    DataType.double: FP64,
}


class Unfit(ValueError):
    """A value that no tensor carries: null where the column is not floating."""


class Cell(ABC):
    """The values of one column; arrays may have any shape."""

    datatype: Datatype
    blank: Any  # an element of a made-up tensor

    @abstractmethod
    def decode(self, tensor: Array) -> Array:
        """The values as a model takes them.

        Raises:
            BadRequest: an element is not what the column holds.
        """

    @abstractmethod
    def encode(self, values: Any) -> Array:
        """The inverse: an array of `datatype`.

        Raises:
            Unfit: a value is null.
        """


class Number(Cell):
    """Booleans, integers and floats are what they are."""

    blank = 0

    def __init__(self, datatype: Datatype) -> None:
        self.datatype = datatype

    def decode(self, tensor: Array) -> Array:
        return tensor

    def encode(self, values: Any) -> Array:
        array = np.asarray(values)
        if not np.can_cast(array.dtype, self.datatype.dtype, "same_kind"):
            raise Unfit(f"{array.dtype} is not {self.datatype}")
        return array.astype(self.datatype.dtype, copy=False)


class _Element(Cell):
    """A value per BYTES element."""

    datatype = BYTES
    what: str

    def decode(self, tensor: Array) -> Array:
        try:
            return fill(map(self.value, tensor.flat), tensor.shape)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"a BYTES element is not {self.what}: {error}") from None

    def encode(self, values: Any) -> Array:
        array = values if isinstance(values, np.ndarray) else fill(values, (len(values),))
        return fill((self.element(value) for value in array.flat), array.shape)

    def value(self, element: bytes) -> Any:
        raise NotImplementedError

    def element(self, value: Any) -> bytes:
        raise NotImplementedError


class Text(_Element):
    """UTF-8."""

    what = "UTF-8 text"
    blank = b"text"

    def value(self, element: bytes) -> str:
        return element.decode()

    def element(self, value: Any) -> bytes:
        if not isinstance(value, str):
            raise Unfit(f"{value!r} is no text")
        return value.encode()


class Binary(_Element):
    """Bytes as they are."""

    what = "bytes"
    blank = b"bytes"

    def value(self, element: bytes) -> bytes:
        return element

    def element(self, value: Any) -> bytes:
        if not isinstance(value, bytes | bytearray):
            raise Unfit(f"{value!r} is not bytes")
        return bytes(value)


class Moment(_Element):
    """ISO 8601; a time with a zone becomes UTC, for MLflow's datetime has none."""

    what = "an ISO 8601 date or time"
    blank = b"2000-01-01T00:00:00"

    def decode(self, tensor: Array) -> Array:
        return super().decode(tensor).astype("datetime64[ns]")

    def value(self, element: bytes) -> np.datetime64:
        stamp = pd.Timestamp(element.decode())
        moment: np.datetime64 = (stamp if stamp.tz is None else stamp.tz_convert(None)).to_datetime64()
        return moment

    def element(self, value: Any) -> bytes:
        if pd.isna(value):
            raise Unfit("a datetime is missing")
        return str(pd.Timestamp(value).isoformat()).encode()


class Json(_Element):
    """A JSON text per value."""

    what = "JSON"

    def __init__(self, blank: Any = None) -> None:
        self.blank = json_bytes(blank)

    def value(self, element: bytes) -> Any:
        return json.loads(element)

    def element(self, value: Any) -> bytes:
        return json_bytes(value)


def cell_of(kind: Any) -> Cell:
    """The cell of a column type of MLflow."""
    if isinstance(kind, DataType) and kind in _NUMBERS:
        return Number(_NUMBERS[kind])
    if kind is DataType.string:
        return Text()
    if kind is DataType.binary:
        return Binary()
    if kind is DataType.datetime:
        return Moment()
    return Json(_blank(kind))


def cell_of_dtype(dtype: np.dtype[Any], name: str) -> Cell:
    """The cell of a tensor's numpy dtype.

    Raises:
        ValueError: the protocol has no such datatype.
    """
    try:
        datatype = datatype_of(dtype)
    except TypeError as error:
        raise ValueError(f"input '{name}' of the signature: {error}") from None
    if datatype is not BYTES:
        return Number(datatype)
    return Binary() if dtype.kind == "S" else Text()


def _blank(kind: Any) -> Any:
    """The simplest value of a nested type."""
    if isinstance(kind, ArrayType):
        return [_blank(kind.dtype)]
    if isinstance(kind, Object):
        return {each.name: _blank(each.dtype) for each in kind.properties}
    if isinstance(kind, Map):
        return {"key": _blank(kind.value_type)}
    if isinstance(kind, AnyType):
        return None
    cell = cell_of(kind)
    return cell.blank.decode() if isinstance(cell.blank, bytes) else kind.to_python()(cell.blank)


def fill(values: Iterable[Any], shape: tuple[int, ...]) -> Array:
    """An object array of these values, whatever they are: numpy looks into none of them."""
    listed = list(values)
    array = np.empty(len(listed), dtype=np.object_)
    for position, value in enumerate(listed):
        array[position] = value
    return array.reshape(shape)


def json_bytes(value: Any) -> bytes:
    """JSON text; what JSON does not know is written as MLflow's scoring server writes it."""
    return json.dumps(value, default=jsonable).encode()


def jsonable(value: Any) -> Any:
    """A plain value for one that JSON does not know.

    Raises:
        TypeError: there is none.
    """
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, bytes | bytearray):
        return base64.encodebytes(value).decode("ascii")
    if isinstance(value, pd.DataFrame):
        return value.to_dict(orient="records")
    if isinstance(value, pd.Series):
        return pd.DataFrame(value).to_dict(orient="records")
    if value is pd.NaT or value is pd.NA:
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if hasattr(value, "__array__"):
        return np.asarray(value).tolist()
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")
