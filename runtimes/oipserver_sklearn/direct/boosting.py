"""Gradient boosting: scikit-learn's own walks through the trees, given what they need."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from oipserver import Array
from oipserver_sklearn.direct import histograms
from oipserver_sklearn.direct.arrays import Compute, Computes
from oipserver_sklearn.direct.trees import single

# What these say of a row does not depend on the row.
_CONSTANT = ("prior", "most_frequent", "mean", "median", "quantile", "constant")


def classifier(estimator: Any) -> Computes:
    """Scores, labels and, where the loss has them, probabilities."""
    raw = _raw(estimator)
    return {} if raw is None else _classifier(estimator, raw, operator.ge)


def regressor(estimator: Any) -> Computes:
    """The sum of the trees."""
    raw = _raw(estimator)
    return {} if raw is None else {"predict": _raveled(raw)}


def histogram_classifier(estimator: Any) -> Computes:
    """Scores, labels and probabilities; rows may hold NaN and infinity."""
    raw = histograms.raw(estimator)
    return {} if raw is None else _classifier(estimator, raw, operator.gt)


def histogram_regressor(estimator: Any) -> Computes:
    """The sum of the trees behind the loss's link; rows may hold NaN and infinity."""
    raw = histograms.raw(estimator)
    return {} if raw is None else {"predict": _raveled(raw, estimator._loss.link.inverse)}


def _classifier(estimator: Any, raw: Compute, is_second: Callable[[Any, int], Any]) -> Computes:
    """`is_second` tells whether the one score of two classes speaks for the second."""
    classes, probabilities_of = estimator.classes_, estimator._loss.predict_proba

    def scores(rows: Array) -> Any:
        found = raw(rows)
        return found.ravel() if found is not None and found.shape[1] == 1 else found

    def predict(rows: Array) -> Any:
        found = scores(rows)
        if found is None:
            return None
        return classes[is_second(found, 0).astype(int) if found.ndim == 1 else found.argmax(axis=1)]

    def probabilities(rows: Array) -> Any:
        found = raw(rows)
        return None if found is None else probabilities_of(found)

    known: dict[str, Compute] = {"decision_function": scores, "predict": predict}
    return {**known, "predict_proba": probabilities} if hasattr(estimator, "predict_proba") else known


def _raveled(raw: Compute, link: Compute = np.asarray) -> Compute:
    def predict(rows: Array) -> Any:
        found = raw(rows)
        return None if found is None else link(found.ravel())

    return predict


def _raw(estimator: Any) -> Compute | None:
    from sklearn.ensemble._gradient_boosting import predict_stages

    start, stages, rate = estimator.init_, estimator.estimators_, estimator.learning_rate
    if start != "zero" and not (
        type(start).__module__ == "sklearn.dummy" and getattr(start, "strategy", None) in _CONSTANT
    ):
        return None
    first = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), dtype=np.float32))

    def raw(rows: Array) -> Array | None:
        narrow = single(rows)
        if narrow is None:
            return None
        found: Array = first.repeat(len(rows), axis=0)
        predict_stages(stages, narrow, rate, found)
        return found

    return raw
