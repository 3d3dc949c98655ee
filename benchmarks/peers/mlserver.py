"""Seldon's MLServer without worker processes, debug, metrics and gzip; with uvloop and httptools."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.models import MODELS
from benchmarks.peers.launch import HOST, Place, Program

# 3 MB of FP64 and more in one message.
_MESSAGE_BYTES = 64 * 2**20
_BATCHING = {"max_batch_size": 64, "max_batch_time": 0.005}


def program(place: Place) -> Program:
    """Every request alone."""
    return _program(place, {})


def batching_program(place: Place) -> Program:
    """With its adaptive batching."""
    return _program(place, _BATCHING)


def _program(place: Place, batching: dict[str, Any]) -> Program:
    settings = {
        "debug": False,
        "host": HOST,
        "http_port": place.http_port,
        "grpc_port": place.grpc_port,
        "grpc_max_message_length": _MESSAGE_BYTES,
        "parallel_workers": 0,
        "metrics_endpoint": None,
        "gzip_enabled": False,
    }
    (place.directory / "settings.json").write_text(json.dumps(settings))
    for model in MODELS:
        folder = place.directory / model
        folder.mkdir()
        described = {
            "name": model,
            "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": str(place.file(model))},
            **batching,
        }
        (folder / "model-settings.json").write_text(json.dumps(described))
    return Program([str(place.environment / "bin" / "mlserver"), "start", "."])
