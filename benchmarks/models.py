"""The models that every server serves: `python benchmarks/models.py DIRECTORY` trains and saves them.

Needs scikit-learn and nothing of ours: a peer's environment with another scikit-learn trains its own.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPRegressor

IRIS, CANCER, MLP = MODELS = ("iris", "cancer", "mlp")

# Rows to choose others from.
OTHERS = 50

Rows = np.ndarray[Any, np.dtype[np.float64]]


def train(directory: Path, names: Iterable[str] = MODELS) -> None:
    """Save `NAME.joblib` in `directory` for each of the names."""
    for name in names:
        joblib.dump(_TRAINERS[name](), directory / f"{name}.joblib")


def rows_for(name: str, count: int) -> Rows:
    """FP64 rows `[count, features]` to ask a model with: the same ones every time."""
    if name == MLP:
        # Six digits, as measured values have; more would make JSON of a length that nobody sends.
        return np.random.default_rng(1).random((count, 784)).round(6)
    rows, _ = (load_iris if name == IRIS else load_breast_cancer)(return_X_y=True)
    return np.asarray(rows[-count:], dtype=np.float64)


def others_for(name: str, model: BaseEstimator) -> list[Rows]:
    """Other single rows to which a model says the same as to the first of `rows_for(name, 1)`."""
    rows = rows_for(name, OTHERS + 1)
    said = model.predict(rows)
    return [rows[number : number + 1] for number in range(OTHERS) if said[number] == said[-1]]


def _iris() -> BaseEstimator:
    return LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True))


def _cancer() -> BaseEstimator:
    return RandomForestClassifier(n_estimators=100, random_state=0).fit(*load_breast_cancer(return_X_y=True))


def _mlp() -> BaseEstimator:
    """784 -> 256 -> 10; what it has learnt does not matter."""
    numbers = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it has not converged
        return MLPRegressor(hidden_layer_sizes=(256,), max_iter=2, random_state=0).fit(
            numbers.random((200, 784)), numbers.random((200, 10))
        )


_TRAINERS = {IRIS: _iris, CANCER: _cancer, MLP: _mlp}

if __name__ == "__main__":
    train(Path(sys.argv[1]))
