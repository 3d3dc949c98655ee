"""Estimators that misbehave on purpose; a server process imports them when it unpickles them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


class Odd(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Answers class 0 for each row of four numbers; fitted as soon as it exists."""

    def __init__(self) -> None:
        self.n_features_in_ = 4
        self.classes_ = np.array([0, 1])

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, x: Any) -> Any:
        return np.zeros(len(x), dtype=np.int64)


class Marked(Odd):
    """Adds a line to a file each time it is unpickled."""

    def __init__(self, marks: str) -> None:
        super().__init__()
        self.marks = marks

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with Path(self.marks).open("a") as file:
            file.write("loaded\n")


class Busy(Odd):
    """Computes in pure Python for as many seconds as the first value of the first row says."""

    def predict(self, x: Any) -> Any:
        end = time.perf_counter() + float(np.asarray(x)[0, 0])
        while time.perf_counter() < end:
            sum(range(100))
        return super().predict(x)


class Sleepy(Odd):
    """As Busy, but gives the interpreter away, as numpy does."""

    def predict(self, x: Any) -> Any:
        time.sleep(float(np.asarray(x)[0, 0]))
        return super().predict(x)
