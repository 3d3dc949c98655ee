"""Networks of dense layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.special import expit  # type: ignore[import-untyped]

from oipserver import Array
from oipserver_sklearn.direct.arrays import Compute, Computes, is_finite, softmax

_ACTIVATIONS: Mapping[str, Callable[[Array], object]] = {
    "identity": lambda values: None,
    "relu": lambda values: np.maximum(values, 0, out=values),
    "tanh": lambda values: np.tanh(values, out=values),
    "logistic": lambda values: expit(values, out=values),
    "softmax": softmax,
    "exp": lambda values: np.exp(values, out=values),
}


def classifier(estimator: Any) -> Computes:
    """Probabilities; labels where there is one target."""
    forward, binarizer = _forward(estimator), estimator._label_binarizer
    classes = binarizer.classes_

    def multiclass(rows: Array) -> Any:
        values = forward(rows)
        return None if values is None else classes[values.argmax(axis=1)]

    def binary(rows: Array) -> Any:
        values = forward(rows)
        return None if values is None else classes[(values.ravel() > threshold).astype(np.int64)]

    def probabilities(rows: Array) -> Any:
        values = forward(rows)
        if values is None or estimator.n_outputs_ > 1:
            return values
        values = values.ravel()
        return np.vstack([1 - values, values]).T

    known: dict[str, Compute] = {"predict_proba": probabilities}
    if binarizer.y_type_ == "multiclass":
        known["predict"] = multiclass
    elif binarizer.y_type_ == "binary" and len(classes) == 2:
        threshold = (binarizer.pos_label + binarizer.neg_label) / 2.0
        known["predict"] = binary
    return known


def regressor(estimator: Any) -> Computes:
    """One number per target."""
    forward = _forward(estimator)

    def predict(rows: Array) -> Any:
        values = forward(rows)
        return values.ravel() if values is not None and values.shape[1] == 1 else values

    return {"predict": predict}


def _forward(estimator: Any) -> Compute:
    """The values of the last layer."""
    hidden = [_ACTIVATIONS[estimator.activation]] * (len(estimator.coefs_) - 1)
    layers = list(
        zip(
            estimator.coefs_,
            estimator.intercepts_,
            [*hidden, _ACTIVATIONS[estimator.out_activation_]],
            strict=True,
        )
    )

    def forward(rows: Array) -> Array | None:
        values = rows
        for weights, intercepts, activate in layers:
            entering = values is rows
            values = values @ weights
            values += intercepts
            # Before an activation hides it: NaN and infinity in a row reach every unit of the first layer.
            if entering and not is_finite(values):
                return None
            activate(values)
        return values

    return forward
