"""docs/runtimes.md is true: its package is built, tested, installed and served here, as its reader would."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oipserver import Model, TensorMetadata
from tests.server_process import ServerProcess

GUIDE = (Path(__file__).parent.parent / "docs" / "runtimes.md").read_text()
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
COMMANDS = [
    line.split("    #")[0].strip() for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()
]
WEIGHTS = '{"weights": [1.0, 2.0, 3.0]}'
OFFLINE = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")


def snippet(containing: str) -> str:
    (found,) = (text for kind, text in BLOCKS if kind != "sh" and containing in text)
    return found


def command(beginning: str) -> str:
    (found,) = (line for line in COMMANDS if line.startswith(beginning))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the guide, under the names that it gives them, and the package installed in `site`."""
    folder = tmp_path_factory.mktemp("guide")
    for name in ("oipserver_weighted.py", "test_weighted.py", "pyproject.toml"):
        (folder / name).write_text(snippet(f"# {name}\n"))
    (folder / "model.json").write_text(WEIGHTS)
    pip = [sys.executable, "-m", *shlex.split(command("pip install")), *OFFLINE, "--target", "site"]
    subprocess.run(pip, cwd=folder, check=True)
    return folder


def environ(folder: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(folder / "site")}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, **environ(folder)},
        capture_output=True,
        text=True,
    )


def ask(server: ServerProcess) -> dict[str, Any]:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    curl = shlex.split(command("curl").replace("http://localhost:8080", server.http_url))
    document: dict[str, Any] = json.loads(subprocess.run(curl, capture_output=True, check=True).stdout)
    return document


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    flags = shlex.split(command("oipserver --runtime").replace("model.json", str(folder / "model.json")))[1:]
    with ServerProcess(*flags, environ=environ(folder)) as server:
        yield server


def test_nothing_stands_in_the_guide_that_no_test_runs() -> None:
    assert len(BLOCKS) == 5
    assert [line.split()[0] for line in COMMANDS] == ["pip", "echo", "oipserver", "oipserver", "curl"]


def test_its_test_passes(folder: Path) -> None:
    done = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_weighted.py")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_its_test_fails_when_a_promise_is_broken(folder: Path) -> None:
    broken = snippet("# oipserver_weighted.py").replace("values * self.weights", "values.mean() * values")
    (folder / "broken").mkdir()
    (folder / "broken" / "oipserver_weighted.py").write_text(broken)
    (folder / "broken" / "test_weighted.py").write_text(snippet("# test_weighted.py"))
    done = run(folder / "broken", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_weighted.py")
    assert "of a row depends on the rows beside it: batchable must be False" in done.stdout, done.stdout


def test_the_package_is_found(folder: Path) -> None:
    lists = next(line for line in GUIDE.splitlines() if line.startswith("oipserver runtimes"))
    done = run(folder, "-m", "oipserver", "runtimes")
    assert lists.partition("lists: ")[2] in [line.split()[0] for line in done.stdout.splitlines()]


def test_it_is_served(server: ServerProcess) -> None:
    (output,) = ask(server)["outputs"]
    assert (output["name"], output["shape"], output["data"]) == ("sum", [1, 1], [6.0])


def test_a_model_in_memory_is_served(folder: Path) -> None:
    serve = snippet("oipserver.serve(").replace('name="model"', 'name="model", http_port=0, grpc_port=0')
    (folder / "notebook.py").write_text(serve.replace("grpc_port=0", "grpc_port=0, shutdown_lame_duck=0"))
    with ServerProcess(program=[str(folder / "notebook.py")], environ=environ(folder)) as server:
        assert ask(server)["outputs"][0]["data"] == [6.0]


def test_the_table_has_every_attribute_of_a_model() -> None:
    rows = {
        name
        for line in GUIDE.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert rows == set(Model.__annotations__)
    assert set(re.findall(r"`(allow_nan|optional|constraint)=", GUIDE)) <= set(TensorMetadata.__annotations__)
