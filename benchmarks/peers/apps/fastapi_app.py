"""The server that one writes in ten minutes: FastAPI, pydantic, an endpoint that runs in a thread."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import joblib
from fastapi import FastAPI
from pydantic import BaseModel

_models = {file.stem: joblib.load(file) for file in Path(os.environ["MODELS"]).glob("*.joblib")}

app = FastAPI()


class Question(BaseModel):
    """Rows for a model."""

    rows: list[list[float]]


@app.post("/models/{model}/predict")
def predict(model: str, question: Question) -> dict[str, list[Any]]:
    """What the model says to the rows."""
    return {"predictions": _models[model].predict(question.rows).tolist()}
