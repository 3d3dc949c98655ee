"""What the direct functions have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from oipserver import Array

FLOAT64 = np.dtype(np.float64)

# Float64 rows [rows, columns] to what the method returns; None leaves the answer to the method itself.
Compute: TypeAlias = Callable[[Array], Any]
Computes: TypeAlias = Mapping[str, Compute]


def is_finite(array: Array) -> bool:
    """No NaN, no infinity.  They show in a sum of squares, which needs no array of its own."""
    return math.isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())


def summed(values: Array) -> Array:
    """Of values [trees, ...], the sum over the trees, added to zero one after the other."""
    if values[0].size == 1:  # a plain sum of one column adds pairs
        last: Array = np.add.accumulate(values, axis=0)[-1]
        return last + 0.0
    total: Array = np.add.reduce(values, axis=0, initial=0.0)
    return total


def softmax(scores: Array) -> Array:
    """Probabilities [rows, classes], written over the scores."""
    scores -= scores.max(axis=1).reshape(-1, 1)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1).reshape(-1, 1)
    return scores
