"""BentoML without access log and metrics, one worker."""

from __future__ import annotations

from benchmarks.peers.launch import APPS, HOST, Place, Program
from benchmarks.peers.protocols import plain

ask = plain("/{model}", "rows", "predictions")


def program(place: Place) -> Program:
    """`bentoml serve`, whose home is the working directory."""
    command = [
        *(str(place.environment / "bin" / "bentoml"), "serve", "bento_service:Models"),
        *("--working-dir", str(APPS), "--host", HOST, "--port", str(place.http_port)),
    ]
    environ = {
        "MODELS": str(place.models),
        "BENTOML_HOME": str(place.directory),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    return Program(command, environ)
