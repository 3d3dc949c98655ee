"""Support vector machines, which libsvm computes."""

from __future__ import annotations

from typing import Any

import numpy as np

from oipserver import Array
from oipserver_sklearn.direct.arrays import Compute, Computes, is_finite


def classifier(estimator: Any) -> Computes:
    """Labels; libsvm breaks ties by itself."""
    values, classes = _values(estimator), estimator.classes_
    if values is None or estimator.break_ties:
        return {}

    def predict(rows: Array) -> Any:
        found = values(rows)
        return None if found is None else classes.take(found.astype(np.intp))

    return {"predict": predict}


def regressor(estimator: Any) -> Computes:
    """One number per row."""
    values = _values(estimator)
    return {} if values is None else {"predict": values}


def _values(estimator: Any) -> Compute | None:
    # libsvm reads as many vectors as are announced, and there must be as many.
    consistent = estimator.n_support_.sum() == len(estimator.support_vectors_)
    known = estimator.kernel in ("linear", "poly", "rbf", "sigmoid") and not estimator._sparse
    if not (known and consistent):
        return None
    dense_predict = estimator._dense_predict

    def values(rows: Array) -> Array | None:
        found: Array | None = dense_predict(np.ascontiguousarray(rows)) if is_finite(rows) else None
        return found

    return values
