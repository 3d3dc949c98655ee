"""docs/tls.md is true: its commands run, and what it says of settings is so."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from oipserver.config import TlsConfig
from tests.server_process import ServerProcess

PAGE = (Path(__file__).parents[2] / "docs/tls.md").read_text()
SHELL = re.findall(r"```sh\n(.*?)\n```", PAGE, re.DOTALL)
(PYTHON,) = re.findall(r"```python\n(.*?)\n```", PAGE, re.DOTALL)
AUTHORITY, SERVE, ASK, CLIENT, SERVE_CLIENTS, ASK_AS_CLIENT = SHELL

needs_programs = pytest.mark.skipif(
    not (shutil.which("openssl") and shutil.which("curl")), reason="openssl or curl is not installed"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader works."""
    folder = tmp_path_factory.mktemp("docs")
    joblib.dump(LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True)), folder / "iris.joblib")
    for commands in (AUTHORITY, CLIENT):
        subprocess.run(["sh", "-e", "-c", commands], cwd=folder, check=True, capture_output=True)
    return folder


@contextmanager
def serving(folder: Path, command: str) -> Iterator[ServerProcess]:
    program, *flags = shlex.split(command)
    assert program == "oipserver"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with ServerProcess(*flags) as server:
            yield server


def shell(folder: Path, command: str, server: ServerProcess) -> str:
    command = command.replace(":8080", f":{server.http_port}")
    return subprocess.run(shlex.split(command), cwd=folder, capture_output=True, text=True).stdout


@needs_programs
def test_both_fronts_answer_as_it_says(folder: Path) -> None:
    with serving(folder, SERVE) as server:
        assert shell(folder, ASK, server) == '{"name":"iris","ready":true}'
        script = PYTHON.replace(":8081", f":{server.grpc_port}")
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True
        )
        assert done.stdout == "True\n"


@needs_programs
def test_a_client_with_a_certificate_is_served_and_no_other(folder: Path) -> None:
    with serving(folder, SERVE_CLIENTS) as server:
        assert shell(folder, ASK_AS_CLIENT, server) == '{"name":"iris","ready":true}'
        assert shell(folder, ASK, server) == ""


def test_it_lists_every_setting() -> None:
    assert re.findall(r"^\| `tls\.(\w+)`", PAGE, re.MULTILINE) == [each.name for each in fields(TlsConfig)]
