"""What a user's function returned, as the array that was declared.

Values keep their meaning: integers may become floats, or another integer type that holds them; a float never
becomes an integer.  The shape is the caller's to check, but that a plain scalar stands for one element.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from oipserver.core.datatypes import BYTES, Datatype
from oipserver.core.errors import printable
from oipserver.core.messages import Array, TensorMetadata


def as_declared(value: object, declared: TensorMetadata) -> Array:
    """An array of the declared dtype; BYTES accept str as UTF-8.

    Args:
        value: an array or whatever numpy makes one of: a scalar, nested lists, a tensor, a Series.

    Raises:
        TypeError: naming the tensor, what came and what was declared.
        ValueError: a number is out of range of the declared datatype.
    """
    datatype = declared.datatype
    if isinstance(value, np.ndarray) and value.dtype == datatype.dtype and datatype is not BYTES:
        return value
    array = _array(value, declared)
    if datatype is BYTES:
        converted = _bytes(array, declared)
    elif array.dtype == datatype.dtype:
        converted = array
    elif array.dtype.kind in "iu" and datatype.kind in "iu":
        converted = _integers(array, declared)
    elif array.dtype.kind in "biuf" and np.can_cast(array.dtype, datatype.dtype, "same_kind"):
        converted = _floats(array, declared)
    else:
        raise TypeError(f"'{declared.name}': got {_came(value, array)}, declared as {datatype}")
    if not converted.ndim and declared.shape and set(declared.shape) <= {1, -1}:
        return converted.reshape((1,) * len(declared.shape))
    return converted


def _array(value: object, declared: TensorMetadata) -> Array:
    try:
        if declared.datatype is BYTES and not isinstance(value, np.ndarray):
            return np.array(value, dtype=np.object_)
        return np.asarray(value)
    except Exception as error:  # ragged lists, tensors on a device, anything with code of its own
        raise TypeError(
            f"'{declared.name}': got a {type(value).__name__} that makes no array ({error}), "
            f"declared as {declared.datatype}"
        ) from error


def _bytes(array: Array, declared: TensorMetadata) -> Array:
    result = np.empty(array.shape, dtype=np.object_)
    elements = [_element(element, declared) for element in array.flat]
    result.reshape(-1)[:] = elements
    return result


def _element(element: Any, declared: TensorMetadata) -> bytes:
    if isinstance(element, str):
        return element.encode()
    if isinstance(element, bytes | bytearray | memoryview):
        return bytes(element)
    raise TypeError(
        f"'{declared.name}': got a {type(element).__name__} among its elements, declared as BYTES"
    )


def _integers(array: Array, declared: TensorMetadata) -> Array:
    limits = np.iinfo(declared.datatype.dtype)
    if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
        worst = int(array.min()) if int(array.min()) < limits.min else int(array.max())
        raise ValueError(f"'{declared.name}': got {printable(worst)}, out of range for {declared.datatype}")
    return array.astype(declared.datatype.dtype)


def _floats(array: Array, declared: TensorMetadata) -> Array:
    with np.errstate(over="ignore"):
        cast: Array = array.astype(declared.datatype.dtype)
    if _narrows(array.dtype, declared.datatype):
        lost = np.isinf(cast) & np.isfinite(array)
        if lost.any():
            raise ValueError(
                f"'{declared.name}': got {array[lost].flat[0]}, out of range for {declared.datatype}"
            )
    return cast


def _narrows(dtype: np.dtype[Any], datatype: Datatype) -> bool:
    return datatype.is_float and not np.can_cast(dtype, datatype.dtype)


def _came(value: object, array: Array) -> str:
    if array.dtype.hasobject and not isinstance(value, np.ndarray):
        return f"a {type(value).__name__}"
    return f"{array.dtype} of shape {list(array.shape)}"
