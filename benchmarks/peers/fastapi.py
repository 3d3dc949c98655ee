"""Plain FastAPI in uvicorn with uvloop and httptools, without an access log."""

from __future__ import annotations

from benchmarks.peers.launch import APPS, HOST, Place, Program
from benchmarks.peers.protocols import plain

ask = plain("/models/{model}/predict", "rows", "predictions")


def program(place: Place) -> Program:
    """One uvicorn process."""
    command = [
        *(place.python, "-m", "uvicorn", "fastapi_app:app", "--app-dir", str(APPS)),
        *("--host", HOST, "--port", str(place.http_port), "--no-access-log", "--log-level", "warning"),
    ]
    return Program(command, {"MODELS": str(place.models)})
