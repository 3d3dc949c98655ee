"""docs/access.md is true: its commands run in their order, in one folder, and its list is one."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from oipserver.access.entry import check_names, read_file
from oipserver.access.new import digest_of
from oipserver.config import AccessConfig, IdempotencyConfig
from tests.server_process import ServerProcess

DOCUMENT = (Path(__file__).parents[2] / "docs" / "access.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", DOCUMENT, re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]


def starting(with_: str) -> list[str]:
    return [line for line in COMMANDS if line.startswith(with_)]


class Reader(NamedTuple):
    """Where somebody works who does what the document says."""

    folder: Path
    environ: Mapping[str, str]
    server: ServerProcess

    def curl(self, command: str) -> str:
        """What a command prints."""
        line = command.replace("http://localhost:8080", self.server.http_url)
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("reader")
    joblib.dump(LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True)), folder / "iris.joblib")
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}
    (folder / "request.json").write_text(json.dumps({"inputs": [tensor]}))
    (made,) = starting("oipserver keys new")
    program = [sys.executable, "-m", *shlex.split(made)]
    done = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=True)
    (served,) = starting("oipserver --")
    flags = [str(folder / flag) if (folder / flag).exists() else flag for flag in shlex.split(served)[1:]]
    with ServerProcess(*flags) as server:
        yield Reader(folder, {**os.environ, "KEY": done.stdout.strip()}, server)


def test_nothing_stands_in_the_document_that_no_test_runs() -> None:
    assert {kind for kind, _ in BLOCKS} == {"sh", "yaml"}
    assert len(COMMANDS) == 5
    run = starting("oipserver keys new") + starting("oipserver --") + starting("curl ")
    assert sorted(run) == sorted(COMMANDS)


def test_the_key_was_shown_once_and_its_digest_stored(reader: Reader) -> None:
    [stored] = read_file(str(reader.folder / "keys.yaml"))
    assert stored.sha256 == digest_of(reader.environ["KEY"])


@pytest.mark.parametrize("command", [line for line in starting("curl ") if "infer" not in line])
def test_asked_with_the_key(reader: Reader, command: str) -> None:
    assert json.loads(reader.curl(command))["name"] == "iris"
    assert json.loads(reader.curl(command.replace("$KEY", "wrong")))["error_code"] == "UNAUTHORIZED"


def test_asked_twice(reader: Reader) -> None:
    (command,) = [line for line in starting("curl ") if "infer" in line]
    first, second = (json.loads(reader.curl(command)) for _ in range(2))
    assert first["outputs"] == second["outputs"]
    executed = reader.curl(f"curl -s {reader.server.http_url}/metrics")
    assert 'code="OK"' in executed


def test_the_list_is_one(tmp_path: Path) -> None:
    (text,) = (text for kind, text in BLOCKS if kind == "yaml")
    (tmp_path / "keys.yaml").write_text(text)
    entries = read_file(str(tmp_path / "keys.yaml"))
    check_names(entries)
    assert [entry.name for entry in entries] == ["ci", "nightly"]


def test_the_defaults_are_as_told() -> None:
    access = AccessConfig()
    assert (access.header, access.check_interval) == ("x-api-key", 5.0)
    assert access.open == ("health", "metrics", "docs")
    assert IdempotencyConfig().ttl == 300.0
