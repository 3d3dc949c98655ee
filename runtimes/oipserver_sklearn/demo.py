"""The model of `oipserver demo`: three kinds of iris told apart by four lengths in centimetres."""

from __future__ import annotations

from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from oipserver import ModelConfig


def write_demo(directory: Path) -> ModelConfig:
    """Train the model, save it as `model.joblib` in `directory`, and say how to serve it as "iris"."""
    path = directory / "model.joblib"
    joblib.dump(LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True)), path)
    return ModelConfig(name="iris", runtime="sklearn", model_uri=str(path))
