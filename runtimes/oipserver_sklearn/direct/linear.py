"""Linear models: rows times coefficients.

NaN and infinity in a row make its score NaN or infinite, so that finite scores show that the rows were.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit  # type: ignore[import-untyped]

from oipserver import Array
from oipserver_sklearn.direct.arrays import Compute, Computes, is_finite, softmax


def classifier(estimator: Any) -> Computes:
    """Labels by the highest score."""
    if not isinstance(estimator.coef_, np.ndarray):  # sparse, after `sparsify`
        return {}
    scores, classes = _scores(estimator), estimator.classes_

    def predict(rows: Array) -> Any:
        found = scores(rows)
        if found is None:
            return None
        return classes.take((found > 0).astype(np.intp) if found.ndim == 1 else found.argmax(axis=1), axis=0)

    return {"decision_function": scores, "predict": predict}


def logistic(estimator: Any) -> Computes:
    """Whatever takes the softmax of its scores, where there are more than two classes."""
    known = classifier(estimator)
    if not known:
        return {}
    probabilities = _one_against_rest if len(estimator.classes_) <= 2 else softmax
    return {**known, "predict_proba": _after(known["decision_function"], probabilities)}


def descent(estimator: Any) -> Computes:
    """A classifier fitted by stochastic gradient descent, whose loss decides whether it has probabilities."""
    known = classifier(estimator)
    if not known or estimator.loss != "log_loss":
        return known
    return {**known, "predict_proba": _after(known["decision_function"], _one_against_rest)}


def ridge(estimator: Any) -> Computes:
    """Ridge classification of one target."""
    return {} if estimator._label_binarizer.y_type_.startswith("multilabel") else classifier(estimator)


def regressor(estimator: Any) -> Computes:
    """Any model that predicts its scores."""
    if not isinstance(estimator.coef_, np.ndarray):
        return {}
    return {"predict": _products(estimator)}


def _products(estimator: Any) -> Compute:
    # As the estimator holds them: another memory order or dtype would be summed in another order.
    coefficients, intercept = estimator.coef_, estimator.intercept_
    weights = coefficients.T if coefficients.ndim == 2 else coefficients

    def products(rows: Array) -> Array | None:
        found = rows @ weights
        found += intercept
        return found if is_finite(found) else None

    return products


def _scores(estimator: Any) -> Compute:
    products = _products(estimator)
    if estimator.coef_.ndim == 2 and len(estimator.coef_) == 1:
        return _after(products, lambda found: found.reshape(-1))
    return products


def _after(compute: Compute, function: Compute) -> Compute:
    def both(rows: Array) -> Any:
        found = compute(rows)
        return None if found is None else function(found)

    return both


def _one_against_rest(scores: Array) -> Array:
    positive: Array = expit(scores, out=scores)
    if positive.ndim == 1:
        return np.stack([1 - positive, positive], axis=1)
    total = positive.sum(axis=1)
    none = total == 0
    if none.any():
        positive[none, :] = 1
        total[none] = positive.shape[1]
    positive /= total.reshape(len(positive), -1)
    return positive
