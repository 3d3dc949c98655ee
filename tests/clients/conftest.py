"""One server with every model, and the clients, each in its own environment, that ask it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clients.models import write_models
from tests.server_process import ServerProcess

ENVIRONMENTS = Path(__file__).parents[2] / ".envs"
SCRIPTS = Path(__file__).parent / "scripts"
PATIENCE = 180.0

# The script of each client, and the environment in which it runs.
CLIENTS = {
    "tritonclient_http": "tritonclient",
    "tritonclient_http_aio": "tritonclient",
    "tritonclient_grpc": "tritonclient",
    "kserve_rest": "kserve",
    "kserve_grpc": "kserve",
    "open_inference_openapi": "open-inference",
    "open_inference_grpc": "open-inference",
}


class Report:
    """What a client's checks returned."""

    def __init__(self, outcomes: Mapping[str, Mapping[str, Any]]) -> None:
        self._outcomes = outcomes

    def __getitem__(self, check: str) -> Any:
        outcome = self._outcomes[check]
        if "error" in outcome:
            pytest.fail(f"{check}:\n{outcome['error']}", pytrace=False)
        return outcome["result"]


class Clients:
    """Runs each client's script once, when the first test asks for its report."""

    def __init__(self, server: ServerProcess, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self.report = cache(self._report)

    def _report(self, client: str) -> Report:
        python = interpreter(client)
        address = (
            self._server.grpc_target if client.endswith("grpc") else f"127.0.0.1:{self._server.http_port}"
        )
        finished = subprocess.run(
            [python, SCRIPTS / f"{client}.py", address, self._folder],
            env={**os.environ, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1", "PYTHONPATH": ""},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert finished.returncode == 0, finished.stderr
        return Report(json.loads(finished.stdout))


def interpreter(client: str) -> Path:
    """The Python that has the client installed; skips the test when there is none."""
    name = CLIENTS[client]
    python = ENVIRONMENTS / name / "bin" / "python"
    if not (ENVIRONMENTS / name / ".installed").exists():
        pytest.skip(f"the client is not installed in .envs/{name}: run 'make test'")
    if name == "kserve" and is_too_new(python):
        pytest.skip("kserve does not support Python 3.14: run 'make clean', 'make test PYTHON=python3.13'")
    return python


@cache
def is_too_new(python: Path) -> bool:
    """Whether pip has left kserve out, as its requirements tell it to."""
    look = "import sys; sys.exit(sys.version_info < (3, 14))"
    return subprocess.run([python, "-c", look]).returncode == 0


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained models, their configuration file, and `large.npy`: 16 MB of rows for the scaler."""
    folder = tmp_path_factory.mktemp("clients")
    write_models(folder)
    np.save(folder / "large.npy", np.random.default_rng(0).normal(5.0, 3.0, (500_000, 4)))
    return folder


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[ServerProcess]:
    """The one server, started from the configuration file; it has to end well, too."""
    with ServerProcess("--config", str(folder / "models.yaml")) as server:
        yield server
    assert server.exit_code == 0, server.output
    assert "Traceback" not in server.output, server.output


@pytest.fixture(scope="session")
def clients(server: ServerProcess, folder: Path) -> Clients:
    return Clients(server, folder)
