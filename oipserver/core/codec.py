"""Tensors as bytes and as JSON lists.

Rule: nothing is allocated from a shape before the shape was checked against what was received, and no
tensor is copied where a view serves.  `decode_raw(encode_raw(x)) == x` for every datatype and shape.

Raw form (Triton, "Binary Tensor Data Extension"): little-endian, row-major, no padding; a BYTES element is
a 4-byte little-endian length followed by the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence, Set
from itertools import chain
from typing import Any

import numpy as np

from oipserver.core.datatypes import BF16, BOOL, BYTES, FP64, Datatype
from oipserver.core.errors import BadRequest, printable
from oipserver.core.messages import Array

MAX_RANK = 32
MAX_DIMENSION = 2**31
MAX_ELEMENTS = 2**26
# Each element of BYTES is an object of its own, of some 40 bytes.
MAX_STRINGS = 2**22
# An integer written as a JSON float is taken for what it says as long as no other one reads the same.
_EXACT_BELOW = 2.0**53
_LENGTH = struct.Struct("<I")
_LIST: frozenset[type] = frozenset((list,))
_FLOATS: frozenset[type] = frozenset((float,))
_FLOAT_TYPES: frozenset[type] = frozenset((float, int, type(None)))


def check_shape(shape: Sequence[object], tensor: str) -> int:
    """The element count of a shape; one -1 is allowed and counts as 1.

    Raises:
        BadRequest: not integers, rank over 32, a dimension over 2^31, a second -1, more than 2^26 elements.
    """
    if len(shape) > MAX_RANK:
        raise BadRequest(
            f"tensor '{printable(tensor)}': shape has {len(shape)} dimensions, at most {MAX_RANK}"
        )
    count, unknown = 1, 0
    for dimension in shape:
        if type(dimension) is not int:
            # A list may be deep or huge: its text is not made.
            came = "a list or object" if isinstance(dimension, list | dict) else f"'{printable(dimension)}'"
            raise BadRequest(f"tensor '{printable(tensor)}': shape must hold integers, got {came}")
        if dimension == -1:
            unknown += 1
        elif not 0 <= dimension <= MAX_DIMENSION:
            raise BadRequest(f"tensor '{printable(tensor)}': shape has dimension {printable(dimension)}")
        else:
            count *= dimension or 1  # behind a 0, too: numpy itself refuses [0, 2^31, 2^31]
            if count > MAX_ELEMENTS:
                raise BadRequest(f"tensor '{printable(tensor)}': shape has more than {MAX_ELEMENTS} elements")
    if unknown > 1:
        raise BadRequest(
            f"tensor '{printable(tensor)}': shape has {unknown} unknown dimensions, at most one -1"
        )
    return 0 if 0 in shape else count


def infer_shape(shape: Sequence[int], count: int, tensor: str) -> tuple[int, ...]:
    """`shape` with a single -1 replaced, so that it holds `count` elements.

    Raises:
        BadRequest: when the shape is wrong in itself, or no size fits.
    """
    return _filled(shape, check_shape(shape, tensor), count, tensor)


def _filled(shape: Sequence[int], known: int, count: int, tensor: str) -> tuple[int, ...]:
    if -1 not in shape:
        return tuple(shape)
    if known == 0 or count % known:
        raise BadRequest(
            f"tensor '{printable(tensor)}': no size for -1 in shape {_shown(shape)} fits {count} elements"
        )
    return tuple(count // known if dimension == -1 else dimension for dimension in shape)


def _shown(shape: Sequence[int]) -> str:
    return printable(str(list(shape)))


# --- raw bytes ---------------------------------------------------------------------------------------------


def decode_raw(data: bytes | memoryview, datatype: Datatype, shape: Sequence[int], tensor: str) -> Array:
    """The array behind raw bytes, `shape` being resolved from them where it holds a -1.

    Fixed-size datatypes are read-only views of `data`, or copies where it is not aligned, as it is wherever
    a text stands before it: numpy and what is built on it would make a copy at each step, or refuse it.
    BF16 and BYTES are copies.

    Raises:
        BadRequest: when the byte count is not the shape's, or a BYTES length prefix lies.
    """
    known = check_shape(shape, tensor)
    if datatype is BYTES:
        if known > MAX_STRINGS:
            raise BadRequest(f"tensor '{printable(tensor)}': BYTES has more than {MAX_STRINGS} elements")
        elements = _decode_elements(memoryview(data), MAX_STRINGS if -1 in shape else known, tensor)
        return _object_array(elements, _expect(shape, known, len(elements), tensor))
    count, left = divmod(len(data), datatype.itemsize)
    if left or (count != known and -1 not in shape):
        expected = f"{'a multiple of ' if -1 in shape else ''}{known * datatype.itemsize} bytes"
        raise BadRequest(
            f"tensor '{printable(tensor)}': {datatype} of shape {_shown(shape)} takes {expected}, "
            f"got {len(data)}"
        )
    if datatype is BF16:
        upper = np.frombuffer(data, "<u2").astype("<u4")
        array: Array = (upper << 16).view(np.float32)
    else:
        array = _aligned(np.frombuffer(data, datatype.dtype.newbyteorder("<")))
    if datatype is BOOL and count and array.view(np.uint8).max() > 1:
        raise BadRequest(f"tensor '{printable(tensor)}': BOOL takes bytes 0 and 1")
    return array.reshape(_filled(shape, known, count, tensor))


def _aligned(array: Array) -> Array:
    if not array.flags.aligned:
        array = array.copy()
        array.flags.writeable = False
    return array


def encode_raw(data: Array, datatype: Datatype) -> bytes:
    """The raw bytes of an array whose dtype is `datatype`'s; FP32 values are cut to BF16."""
    if datatype is BYTES:
        return b"".join(part for element in data.flat for part in (_LENGTH.pack(len(element)), element))
    if datatype is BF16:
        return _round_bf16(data).tobytes()
    return data.astype(datatype.dtype.newbyteorder("<"), copy=False).tobytes()


def _round_bf16(data: Array) -> Array:
    """float32 to the nearest bfloat16, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(data, "<f4").view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(data), (bits >> 16) | 0x40, rounded).astype("<u2")


def _decode_elements(data: memoryview, most: int, tensor: str) -> list[bytes]:
    elements: list[bytes] = []
    position, end = 0, len(data)
    while position < end:
        if len(elements) == most:
            raise BadRequest(
                f"tensor '{printable(tensor)}': {end - position} bytes follow the {most} BYTES elements"
            )
        start = position + 4
        if start > end:
            raise BadRequest(f"tensor '{printable(tensor)}': BYTES ends inside a length prefix")
        position = start + _LENGTH.unpack_from(data, position)[0]
        if position > end:
            raise BadRequest(
                f"tensor '{printable(tensor)}': BYTES length prefix of {position - start} exceeds "
                f"the {end - start} bytes left"
            )
        elements.append(bytes(data[start:position]))
    return elements


# --- lists -------------------------------------------------------------------------------------------------


def decode_list(data: Sequence[Any], datatype: Datatype, shape: Sequence[int], tensor: str) -> Array:
    """The array behind a JSON list, flat or nested exactly as `shape` says.

    null is NaN for floating datatypes.  BYTES elements are strings, held as UTF-8.

    Raises:
        BadRequest: wrong count or nesting; a value that is not of the datatype or out of its range.
    """
    known = check_shape(shape, tensor)
    return decode_known_list(data, datatype, shape, known, tensor)


def decode_known_list(
    data: Sequence[Any], datatype: Datatype, shape: Sequence[int], known: int, tensor: str
) -> Array:
    """As `decode_list`, for a shape that `check_shape` has found to be of `known` elements."""
    flat = _flatten(data, shape, tensor) if data and type(data[0]) is list else data
    resolved = _expect(shape, known, len(flat), tensor)
    types = set(map(type, flat))
    if datatype is FP64 and types == _FLOATS:  # the usual case, which nothing below could refuse
        return np.array(flat, dtype=np.float64).reshape(resolved)
    if datatype is BYTES:
        _only(types, {str}, datatype, tensor, "strings")
        return _object_array([text.encode() for text in flat], resolved)
    if datatype is BOOL:
        _only(types, {bool}, datatype, tensor, "true or false")
    elif datatype.is_float:
        _only(types, _FLOAT_TYPES, datatype, tensor, "numbers or null")
    else:
        _only(types, {int, float}, datatype, tensor, "integers")
        if float in types:
            flat = _integers(flat, datatype, tensor)
    return _numbers(flat, datatype, tensor).reshape(resolved)


def _flatten(data: Sequence[Any], shape: Sequence[int], tensor: str) -> Sequence[Any]:
    """Nested rows as one flat list; each level must have the size that `shape` says, or one size for -1."""
    if not shape or shape[0] != len(data):
        _check_rows([data], shape[:1], shape, tensor)
    for axis in range(1, len(shape)):
        _check_rows(data, shape[axis : axis + 1], shape, tensor)
        data = list(chain.from_iterable(data))
    return data


def _check_rows(rows: Sequence[Any], dimension: Sequence[int], shape: Sequence[int], tensor: str) -> None:
    size = dimension[0] if dimension and dimension[0] != -1 else len(rows[0]) if rows else 0
    # As sets: millions of rows are looked at without a step of Python for each.
    if not rows or (set(map(type, rows)) == _LIST and set(map(len, rows)) == {size}):
        return
    row = next(row for row in rows if type(row) is not list or len(row) != size)
    came = len(row) if type(row) is list else _JSON_NAMES.get(type(row), "a number")
    raise BadRequest(
        f"tensor '{printable(tensor)}': data must be flat, or nested exactly as shape "
        f"{_shown(shape)}; expected a list of {size}, got {came}"
    )


def _expect(shape: Sequence[int], known: int, count: int, tensor: str) -> tuple[int, ...]:
    if known != count and -1 not in shape:
        raise BadRequest(
            f"tensor '{printable(tensor)}': shape {_shown(shape)} has {known} elements, data has {count}"
        )
    return _filled(shape, known, count, tensor)


def _only(types: set[type], allowed: Set[type], datatype: Datatype, tensor: str, expected: str) -> None:
    if types <= allowed:
        return
    strange = sorted(_JSON_NAMES.get(found, found.__name__) for found in types - allowed)
    raise BadRequest(f"tensor '{printable(tensor)}': {datatype} takes {expected}, got {', '.join(strange)}")


_JSON_NAMES: dict[type, str] = {
    bool: "true or false",
    int: "integer",
    float: "number with a fraction or too large",
    str: "string",
    list: "a list nested deeper than the shape",
    dict: "object",
    type(None): "null",
}


def _integers(flat: Sequence[Any], datatype: Datatype, tensor: str) -> Sequence[int]:
    """Integers, some of which were written as floats: 1.0 is 1, as far as a double can say so."""
    floats: Array = np.array([value for value in flat if type(value) is float])
    wrong = floats[(np.trunc(floats) != floats) | (np.abs(floats) >= _EXACT_BELOW)]
    if wrong.size:
        raise BadRequest(f"tensor '{printable(tensor)}': {datatype} takes integers, got {float(wrong[0])}")
    return list(map(int, flat))


def _numbers(flat: Sequence[Any], datatype: Datatype, tensor: str) -> Array:
    if datatype.is_float:
        return cast_float(np.array(flat, dtype=np.float64), datatype, tensor)
    try:
        return np.array(flat, dtype=datatype.dtype)
    except OverflowError:
        worst = next(value for value in flat if not _fits(value, datatype))
        raise BadRequest(
            f"tensor '{printable(tensor)}': {printable(worst)} is out of range for {datatype}"
        ) from None


def _fits(value: int, datatype: Datatype) -> bool:
    limits = np.iinfo(datatype.dtype)
    return int(limits.min) <= value <= int(limits.max)


def cast_float(source: Array, datatype: Datatype, tensor: str) -> Array:
    """Numbers as a floating datatype; rounding is fine, a finite value that becomes infinite is not.

    Raises:
        BadRequest: when a finite value is out of range.
    """
    if source.dtype == datatype.dtype:
        return source
    with np.errstate(over="ignore"):
        cast: Array = source.astype(datatype.dtype)
    if not np.can_cast(source.dtype, datatype.dtype):
        overflown = np.isinf(cast) & np.isfinite(source)
        if overflown.any():
            raise BadRequest(
                f"tensor '{printable(tensor)}': {source[overflown].flat[0]} is out of range for {datatype}"
            )
    return cast


def _object_array(elements: Sequence[bytes], shape: tuple[int, ...]) -> Array:
    array: Array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array.reshape(shape)
