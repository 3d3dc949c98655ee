"""Whether a direct function and the method that it stands for give the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from oipserver import Array
from oipserver_sklearn.caught import caught_warnings

_BATCHES = (1, 2, 7, 64)


def difference(direct: Callable[[Any], Any], own: Callable[[Any], Any], width: int) -> str | None:
    """What differs on made-up rows of `width` columns, as a sentence; None when nothing does."""
    with caught_warnings():
        for rows in _made_up(width):
            ours, theirs = _outcome(direct, rows), _outcome(own, rows.copy())
            if not _same(ours, theirs):
                return f"{len(rows)} rows are answered differently"
    return None


def _made_up(width: int) -> Iterator[Array]:
    """Numbers of all magnitudes, with zeros and equal rows among them; read-only, as a request's may be."""
    random = np.random.default_rng(0)
    for size in _BATCHES:
        rows = random.normal(size=(size, width)) * 10.0 ** random.integers(-3, 4, size=(size, 1))
        rows[random.random(rows.shape) < 0.1] = 0.0
        rows[size // 2] = rows[0]
        rows.flags.writeable = False
        yield rows
    yield np.zeros((2, width))
    yield np.full((2, width), 1e300) * [[1], [-1]]


def _outcome(call: Callable[[Any], Any], rows: Array) -> Any:
    try:
        return call(rows)
    except Exception as error:
        return repr(error)


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if not isinstance(one, np.ndarray):
        return isinstance(one, str) and one == other
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    # Bytes tell what a comparison does not: the sign of a zero.
    return np.array_equal(one, other) if one.dtype.hasobject else one.tobytes() == other.tobytes()
