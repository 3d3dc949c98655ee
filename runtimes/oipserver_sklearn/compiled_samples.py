"""Rows made up to compare a compiled model on: of all sizes, and beside the thresholds of its trees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from oipserver import Array
from oipserver_sklearn.compiled_rows import LARGEST

# ONNX Runtime has other loops for one row, for few and for many.  The largest come first: a slow estimator
# may have no time for all.
_BLOCKS = (256, 1, 16, 256, 256, 64, 64, 64, 16, 16, 8, 1, 1, 1, 1, 1, 1, 1)
GENERATED = sum(_BLOCKS)


def numbers_for(
    width: int, estimator: Any, thresholds: Mapping[int, Array], random: np.random.Generator
) -> Array:
    """Numbers [GENERATED, width] of all sizes, and such as `estimator` decides about.

    Args:
        thresholds: what its last step compares its features with, when that is made of trees.
    """
    sizes = 10.0 ** random.uniform(-6, 6, (GENERATED, 1))
    numbers = random.standard_normal((GENERATED, width)) * sizes
    kinds = np.array_split(random.permutation(GENERATED), 8)
    numbers[kinds[0]] = random.integers(-9, 10, (len(kinds[0]), width))
    huge = 10.0 ** random.uniform(6, np.log10(LARGEST), (len(kinds[1]), 1))
    numbers[kinds[1]] = random.uniform(-1, 1, (len(kinds[1]), width)) * huge
    decisive = np.concatenate(kinds[2:6])
    numbers[decisive] = _decisive(len(decisive), width, estimator, thresholds, random, numbers[decisive])
    numbers[kinds[7][:1]] = 0.0
    return numbers


def _decisive(
    count: int,
    width: int,
    estimator: Any,
    thresholds: Mapping[int, Array],
    random: np.random.Generator,
    otherwise: Array,
) -> Array:
    """Rows that are of ordinary size, or beside the thresholds, where the last step sees them."""
    before = estimator[:-1] if isinstance(estimator, Pipeline) and len(estimator.steps) > 1 else None
    seen = width if before is None else getattr(estimator.steps[-1][1], "n_features_in_", width)
    rows = random.standard_normal((count, seen))
    for feature, known in thresholds.items():
        rows[:, feature] = _beside(random.choice(known, count), before is None, random)
    if before is not None:
        try:
            rows = before.inverse_transform(rows)
        except Exception:  # not every step can be turned round
            return otherwise
    usable = isinstance(rows, np.ndarray) and rows.shape == otherwise.shape and np.isfinite(rows).all()
    found: Array = np.clip(rows, -LARGEST, LARGEST) if usable else otherwise
    return found


def _beside(thresholds: Array, exact: bool, random: np.random.Generator) -> Array:
    """The neighbours of each threshold as float32, and if `exact` the threshold itself in both precisions.

    What steps before it made of a row is exact to the last digit but one, and a tie goes either way then.
    """
    short, end = thresholds.astype(np.float32), np.float32(np.inf)
    neighbours = [np.nextafter(short, end), np.nextafter(short, -end)]
    choices = np.stack([*neighbours, *([short, thresholds] if exact else [])])
    return choices[random.integers(0, len(choices), len(short)), np.arange(len(short))]


def blocks(numbers: Array) -> Iterator[Array]:
    """The rows in blocks of several sizes."""
    start = 0
    for size in _BLOCKS:
        yield numbers[start : start + size]
        start += size
