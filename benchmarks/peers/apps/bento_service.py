"""BentoML: one service with an endpoint for each model, one worker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import bentoml  # type: ignore[import-not-found]
import joblib


@bentoml.service(
    workers=1, traffic={"timeout": 60}, metrics={"enabled": False}, logging={"access": {"enabled": False}}
)
class Models:
    """The three of them."""

    def __init__(self) -> None:
        self._models = {file.stem: joblib.load(file) for file in Path(os.environ["MODELS"]).glob("*.joblib")}

    def _predict(self, model: str, rows: list[list[float]]) -> dict[str, Any]:
        return {"predictions": self._models[model].predict(rows).tolist()}

    @bentoml.api  # type: ignore[untyped-decorator]
    def iris(self, rows: list[list[float]]) -> dict[str, Any]:
        """Of each row its class."""
        return self._predict("iris", rows)

    @bentoml.api  # type: ignore[untyped-decorator]
    def cancer(self, rows: list[list[float]]) -> dict[str, Any]:
        """Of each row its class."""
        return self._predict("cancer", rows)

    @bentoml.api  # type: ignore[untyped-decorator]
    def mlp(self, rows: list[list[float]]) -> dict[str, Any]:
        """Of each row ten numbers."""
        return self._predict("mlp", rows)
