"""`mlflow models serve` in the environment that is there."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.launch import APPS, HOST, Place, Program, run_once
from benchmarks.peers.protocols import plain

ask = plain("/invocations", "inputs", "predictions")


def save_models(environment: Path, models: Path) -> None:
    """What MLflow serves are MLflow models."""
    command = [str(environment / "bin" / "python"), str(APPS / "mlflow_models.py"), str(models)]
    run_once(models / "mlflow", command, environment)


def program(place: Place) -> Program:
    """One worker of its scoring server."""
    command = [
        *(str(place.environment / "bin" / "mlflow"), "models", "serve"),
        *("--model-uri", str(place.models / "mlflow" / "model"), "--env-manager", "local"),
        *("--host", HOST, "--port", str(place.http_port), "--workers", "1"),
    ]
    # It starts uvicorn, which takes its options from the environment as well.
    return Program(command, {"MLFLOW_DISABLE_TELEMETRY": "true", "UVICORN_ACCESS_LOG": "false"})
