"""docs/custom-routes.md is true: its files are served as it says, and its commands answer what it says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from tests.server_process import ServerProcess

TEXT = (Path(__file__).parents[2] / "docs/custom-routes.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
SERVED = [text.strip() for kind, text in BLOCKS if kind == "sh" and text.startswith("oipserver ")]


def after(command: str) -> tuple[str, str]:
    """The block that follows a serve command, and its language."""
    at = next(at for at, (_, text) in enumerate(BLOCKS) if text.strip() == command)
    language, text = BLOCKS[at + 1]
    return language, text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the reader works: the files of the page, and a model."""
    folder = tmp_path_factory.mktemp("docs")
    joblib.dump(LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True)), folder / "iris.joblib")
    for kind, text in BLOCKS:
        if kind == "python" and (name := re.match(r"# (\w+\.py)\n", text)):
            (folder / name[1]).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def test_every_block_is_run() -> None:
    files = [text for kind, text in BLOCKS if kind == "python" and text.startswith("# ")]
    assert len(files) == len(SERVED) == 4
    assert len(BLOCKS) == 3 * len(SERVED)


@pytest.mark.parametrize("command", SERVED)
def test_what_is_served_answers_as_it_says(folder: Path, command: str) -> None:
    with ServerProcess(*shlex.split(command)[1:]) as server:
        kind, text = after(command)
        text = text.replace("http://localhost:8080", server.http_url)
        text = text.replace("localhost:8081", server.grpc_target)
        if kind == "python":
            done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
            assert done.stdout.strip() == text.split("  # ")[1].strip()
        else:
            run_shell(text)


def run_shell(text: str) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    lines = text.strip().splitlines()
    expected = [json.loads(line[2:]) for line in lines if line.startswith("# ")]
    answers = []
    for line in lines:
        if not line.startswith("# "):
            done = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)
            answers += [json.loads(done.stdout)] if line.startswith("curl") else []
    assert answers == expected
