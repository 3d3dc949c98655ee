"""The tensor datatypes of the Open Inference Protocol and their numpy dtypes: one table.

BYTES lives in an object array of `bytes`.  BF16, which numpy does not have, is float32 in memory and the
upper 16 bits of it on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from oipserver.core.errors import BadRequest, printable


@dataclass(frozen=True, slots=True, eq=False)
class Datatype:
    """One datatype of the protocol.

    Attributes:
        name: the protocol's spelling, upper case.
        dtype: the numpy dtype in memory.
        itemsize: bytes per element on the wire; 0 for BYTES, whose elements vary.
        kind: numpy's kind of the values ("b", "u", "i", "f") or "O" for BYTES.
        is_float: whether that is "f".
    """

    name: str
    dtype: np.dtype[Any]
    itemsize: int
    kind: str
    is_float: bool

    @property
    def json_allowed(self) -> bool:
        """FP16 and BF16 travel as raw bytes only (OIP, "Tensor Data Types")."""
        return self is not FP16 and self is not BF16

    def __repr__(self) -> str:
        return self.name


def _declare(name: str, dtype: type[Any], itemsize: int | None = None) -> Datatype:
    resolved = np.dtype(dtype)
    size = resolved.itemsize if itemsize is None else itemsize
    return Datatype(name, resolved, size, resolved.kind, resolved.kind == "f")


BOOL = _declare("BOOL", np.bool_)
UINT8 = _declare("UINT8", np.uint8)
UINT16 = _declare("UINT16", np.uint16)
UINT32 = _declare("UINT32", np.uint32)
UINT64 = _declare("UINT64", np.uint64)
INT8 = _declare("INT8", np.int8)
INT16 = _declare("INT16", np.int16)
INT32 = _declare("INT32", np.int32)
INT64 = _declare("INT64", np.int64)
FP16 = _declare("FP16", np.float16)
BF16 = _declare("BF16", np.float32, itemsize=2)
FP32 = _declare("FP32", np.float32)
FP64 = _declare("FP64", np.float64)
BYTES = _declare("BYTES", np.object_, itemsize=0)

DATATYPES: dict[str, Datatype] = {
    datatype.name: datatype
    for datatype in (
        BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64, BYTES,
    )
}  # fmt: skip

_BY_DTYPE: dict[np.dtype[Any], Datatype] = {
    datatype.dtype: datatype for datatype in DATATYPES.values() if datatype is not BF16
}


def parse_datatype(name: object, tensor: str) -> Datatype:
    """The datatype called `name`; BadRequest naming `tensor` when there is none (case counts)."""
    datatype = DATATYPES.get(name) if isinstance(name, str) else None
    if datatype is None:
        expected = ", ".join(DATATYPES)
        came = f"'{printable(name)}'" if isinstance(name, str) else "no string"
        raise BadRequest(f"tensor '{printable(tensor)}': datatype must be one of {expected}; got {came}")
    return datatype


def datatype_of(dtype: np.dtype[Any]) -> Datatype:
    """The datatype that announces a numpy dtype: text, bytes and objects are BYTES.

    Raises:
        TypeError: for a dtype that the protocol cannot carry (complex, datetime, structured).
    """
    if dtype.kind in "OSUT":
        return BYTES
    try:
        return _BY_DTYPE[dtype.newbyteorder("=")]
    except KeyError:
        raise TypeError(f"no protocol datatype carries numpy dtype {dtype}") from None
