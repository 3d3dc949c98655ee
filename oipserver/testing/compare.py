"""When two arrays are the same, and how an exception is told."""

from __future__ import annotations

import numpy as np

from oipserver.core.messages import Array, Arrays

# What two ways of summing the same numbers may differ in, by bytes per number.
_ROUNDING = {2: 1e-2, 4: 1e-4, 8: 1e-7}


def same(one: Array, other: Array) -> bool:
    """Equal to the bit; NaN equals NaN."""
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def close(one: Array, other: Array) -> bool:
    """Equal within rounding; what is not floating has to be equal."""
    if one.dtype.kind != "f" or one.shape != other.shape:
        return np.array_equal(one, other)
    rounding = _ROUNDING[one.dtype.itemsize]
    return np.allclose(one, other, rtol=rounding, atol=rounding, equal_nan=True)


def all_close(some: Arrays, others: Arrays) -> bool:
    """Whether two answers are close in every output."""
    return all(close(array, others[name]) for name, array in some.items())


def difference(one: Array, other: Array) -> float:
    """The largest difference of two floating arrays, relative where the values are above 1; else 0."""
    if one.dtype.kind != "f" or one.shape != other.shape:
        return 0.0
    finite = np.isfinite(one) & np.isfinite(other)
    first, second = one[finite].astype(np.float64), other[finite].astype(np.float64)
    return float((np.abs(first - second) / np.maximum(1.0, np.abs(first))).max(initial=0.0))


def told(error: BaseException) -> str:
    """An exception in a sentence."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
