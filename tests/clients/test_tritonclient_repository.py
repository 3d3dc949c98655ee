"""tritonclient's repository calls, over HTTP and gRPC, against a real process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.conftest import PATIENCE, SCRIPTS, Report, interpreter
from tests.reload.stored import write_code
from tests.server_process import ServerProcess

# The same fault in the words of each transport.
STATUS = {
    "http": {"NOT_FOUND": "404", "UNSUPPORTED": "400", "NOT_READY": "503"},
    "grpc": {
        "NOT_FOUND": "StatusCode.NOT_FOUND",
        "UNSUPPORTED": "StatusCode.UNIMPLEMENTED",
        "NOT_READY": "StatusCode.UNAVAILABLE",
    },
}


@pytest.fixture(scope="module")
def explicit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    path = tmp_path_factory.mktemp("repository") / "code.py"
    write_code(path, 1)
    with ServerProcess(
        "--runtime", "python", "--model-uri", str(path), "--model-control", "explicit"
    ) as server:
        yield server
    assert server.exit_code == 0, server.output
    assert "Traceback" not in server.output, server.output


@pytest.fixture(scope="module", params=["http", "grpc"])
def front(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def report(explicit: ServerProcess, front: str) -> Report:
    """What the client's checks returned."""
    address = explicit.grpc_target if front == "grpc" else f"127.0.0.1:{explicit.http_port}"
    script = SCRIPTS / "tritonclient_repository.py"
    finished = subprocess.run(
        [interpreter(f"tritonclient_{front}"), script, address, Path(), front],
        env={**os.environ, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert finished.returncode == 0, finished.stderr
    return Report(json.loads(finished.stdout))


def test_index(report: Report, front: str) -> None:
    reason = {} if front == "http" else {"reason": ""}
    assert report["index"] == [{"name": "code", "version": "1", "state": "READY", **reason}]


def test_unload_and_load(report: Report, front: str) -> None:
    gone = [STATUS[front]["NOT_READY"], "model 'code' version '1' is UNLOADED"]
    assert report["unload_and_load"] == [
        [[True, True], [["code", "READY"]], [[2.0]]],
        [[True, False], [["code", "UNAVAILABLE"]], gone],
        [[True, True], [["code", "READY"]], [[2.0]]],
    ]


def test_reload(report: Report) -> None:
    assert report["reload"] == [[2.0]]


def test_unload_with_dependents(report: Report) -> None:
    assert report["with_dependents"] == [["code", "READY"]]


def test_mistakes(report: Report, front: str) -> None:
    unknown = [STATUS[front]["NOT_FOUND"], "no model 'nothing' is configured"]
    *others, (status, text) = report["mistakes"]
    assert others == [unknown, unknown]
    assert status == STATUS[front]["UNSUPPORTED"]
    assert text.startswith("parameter 'config': a load takes no parameters")
