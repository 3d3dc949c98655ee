"""LitServe: one API process and a process for each model."""

from __future__ import annotations

from benchmarks.models import MODELS
from benchmarks.peers.launch import APPS, Place, Program
from benchmarks.peers.protocols import plain

ask = plain("/models/{model}/predict", "rows", "predictions")

_BATCH = 64


def program(place: Place) -> Program:
    """Every request alone."""
    return _program(place, 1)


def batching_program(place: Place) -> Program:
    """With its batching."""
    return _program(place, _BATCH)


def _program(place: Place, batch: int) -> Program:
    files = [str(place.file(model)) for model in MODELS]
    return Program([place.python, str(APPS / "litserve_app.py"), str(place.http_port), str(batch), *files])
