"""KServe's Python model server with the predict of its sklearnserver; one worker, no line per request."""

from __future__ import annotations

from benchmarks.models import MODELS
from benchmarks.peers.launch import APPS, Place, Program


def program(place: Place) -> Program:
    """One server with the models."""
    ports = [str(place.http_port), str(place.grpc_port)]
    files = [str(place.file(model)) for model in MODELS]
    # FastAPI warns of KServe's kind of response, each time.
    return Program(
        [place.python, "-W", "ignore", str(APPS / "kserve_app.py"), *ports, *files],
    )
