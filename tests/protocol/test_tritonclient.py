"""tritonclient's own calls for the extensions, over both transports, against a real process."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import PATIENCE, Report, interpreter
from tests.clients.conftest import SCRIPTS as HARNESS
from tests.server_process import ServerProcess

SCRIPT = Path(__file__).parent / "scripts" / "tritonclient_extensions.py"
CODES = {
    "http": {"NOT_FOUND": "404", "BAD_REQUEST": "400", "ALREADY_EXISTS": "400"},
    "grpc": {
        "NOT_FOUND": "StatusCode.NOT_FOUND",
        "BAD_REQUEST": "StatusCode.INVALID_ARGUMENT",
        "ALREADY_EXISTS": "StatusCode.ALREADY_EXISTS",
    },
}


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    return {}


@pytest.fixture(params=["http", "grpc"])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def report(kind: str, reports: dict[str, Report], server: ServerProcess) -> Report:
    """What the client's checks returned; asked once for each transport."""
    if kind not in reports:
        address = f"127.0.0.1:{server.http_port}" if kind == "http" else server.grpc_target
        finished = subprocess.run(
            [interpreter(f"tritonclient_{kind}"), SCRIPT, f"{kind}={address}", Path()],
            env={**os.environ, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(HARNESS)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert finished.returncode == 0, finished.stderr
        reports[kind] = Report(json.loads(finished.stdout))
    return reports[kind]


def test_the_extensions_are_announced(report: Report) -> None:
    assert set(report["extensions"]) == {
        "binary_tensor_data",
        "classification",
        "model_configuration",
        "model_repository",
        "statistics",
        "system_shared_memory",
    }


def test_classification(report: Report) -> None:
    found: Any = report["classification"]
    assert found["shape"] == [3, 2]
    assert [text.split(":")[1:] for text in found["classes"][::2]] == [
        ["0", "setosa"],
        ["1", "versicolor"],
        ["2", "virginica"],
    ]


def test_statistics(report: Report) -> None:
    found: Any = report["statistics"]
    assert (found["requests"], found["rows"], found["calls"]) == (3, 6, 3)
    assert found["models"] == ["counted", "double", "repeat", "species", "squares"]


def test_config(report: Report, kind: str) -> None:
    found: Any = report["config"]
    assert (found["name"], found["platform"], found["backend"]) == ("squares", "python", "python")
    assert found["instance_group"] == [{"name": "squares", "kind": "KIND_CPU", "count": 1}]
    # protobuf's JSON has no 64-bit integers, and leaves out what is 0.
    number = int if kind == "http" else str
    assert found["input"] == [{"name": "n", "data_type": "TYPE_INT64", "dims": [number(1)]}]
    assert found["output"] == [{"name": "squares", "data_type": "TYPE_FP32", "dims": [number(-1)]}]
    assert found.get("max_batch_size", 0) == 0
    assert "dynamic_batching" not in found


def test_tensors_in_shared_memory(report: Report) -> None:
    assert report["shared"] == {
        "registered": ["in", "out"],
        "shape": [2, 2],
        "memory": [0.0, 0.0, 2.0, 4.0, 6.0, 8.0, 0.0, 0.0],
    }


def test_texts_in_shared_memory(report: Report) -> None:
    assert report["shared_texts"] == ["abab", "grün"]


def test_mistakes(report: Report, kind: str) -> None:
    found: Any = report["mistakes"]
    codes = CODES[kind]
    assert {name: status for name, (status, _) in found.items()} == {
        "twice": codes["ALREADY_EXISTS"],
        "too large": codes["BAD_REQUEST"],
        "no region": codes["NOT_FOUND"],
        "no status": codes["NOT_FOUND"],
    }
    assert "is not within the 16 bytes" in found["too large"][1]
