"""Which estimators decide ties by something that rows do not show.

Of neighbours that are equally far, scikit-learn takes those that its search meets first; another engine, and
even another digit of a distance, takes others.  Rows made up at random hold no ties, data on a grid is full
of them: no comparison finds out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

NEIGHBOURS = "ties between neighbours are decided by their order"


def has_neighbours(estimator: Any) -> bool:
    """Whether an estimator of `sklearn.neighbors` is in `estimator`, or is it, however deep."""
    waiting, seen = [estimator], set[int]()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, BaseEstimator) and _is_of_neighbours(type(part)):
            return True
        waiting.extend(_parts(part))
    return False


def _is_of_neighbours(kind: type) -> bool:
    return any(base.__module__.startswith("sklearn.neighbors.") for base in kind.__mro__)


def _parts(whole: Any) -> Iterable[Any]:
    if isinstance(whole, BaseEstimator):
        whole = vars(whole)
    if isinstance(whole, dict):
        return whole.values()
    if isinstance(whole, list | tuple):
        return whole
    return list(whole.flat) if isinstance(whole, np.ndarray) and whole.dtype == object else ()
