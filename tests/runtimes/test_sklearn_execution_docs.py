"""docs/execution.md is true: its snippets and its command run here, in one folder, in their order."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from oipserver.config import load_config
from tests.server_process import ServerProcess

PAGE = (Path(__file__).parents[2] / "docs/execution.md").read_text()
BLOCKS = re.findall(r"```(\w+)(?: file=(\S+))?\n(.*?)```", PAGE, re.DOTALL)


def block(language: str, file: str = "") -> str:
    (text,) = [text for kind, name, text in BLOCKS if (kind, name) == (language, file)]
    return str(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("execution")
    (folder / "models.yaml").write_text(block("yaml"))
    (folder / "measure.py").write_text(block("python", "measure.py"))
    subprocess.run([sys.executable, "-c", block("python")], cwd=folder, check=True)
    return folder


def test_every_block_is_run_here() -> None:
    assert sorted((kind, name) for kind, name, _ in BLOCKS) == [
        ("json", ""),
        ("python", ""),
        ("python", "measure.py"),
        ("sh", ""),
        ("yaml", ""),
    ]
    assert PAGE.count("```") == 2 * len(BLOCKS)


def test_the_command_serves_what_the_page_shows(folder: Path) -> None:
    program, *flags = shlex.split(block("sh").replace("forest.joblib", str(folder / "forest.joblib")))
    assert program == "oipserver"
    with ServerProcess(*flags) as server, urlopen(f"{server.http_url}/v2/models/forest") as answer:
        facts = json.load(answer)["parameters"]
    shown = json.loads(block("json"))
    assert facts["execution_engine"].startswith("onnxruntime ")
    for name in ("execution", "execution_checked"):
        assert facts[name] == shown[name]


def test_the_configuration_is_read(folder: Path) -> None:
    (model,) = load_config({"config": str(folder / "models.yaml")}, {}).models
    assert (model.execution, model.execution_tolerance) == ("compiled", 1e-9)
    assert model.execution_tolerance == json.loads(block("json"))["execution_tolerance"]
    assert model.parameters == {"n_jobs": 1}


def test_the_measurement_prints_the_tables_rows(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "measure.py", "2"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # threads that wait for each other on a busy machine
    )
    rows = [line.rsplit("|", 4)[0] for line in done.stdout.splitlines()]
    assert rows == [line.rsplit("|", 4)[0] for line in PAGE.splitlines() if re.match(r"\| \w+ \| \d+ ", line)]
