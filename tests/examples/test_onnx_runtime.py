"""The example onnx_runtime: a package beside oipserver's own, installed with it, that does what it says.

Both are built and installed into an environment that is made for it, as `pip install` would: nothing of the
working tree is imported.  Only their libraries are found in the environment that `make test` keeps.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.examples.walkthrough import EXAMPLES, ROOT, Step, Walkthrough, interpreter

EXAMPLE = "onnx_runtime"
PARTS = ("oipserver", "runtimes", "pyproject.toml", "README.md", "LICENSE")
OFFLINE = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def packages(python: Path) -> Path:
    """Where an interpreter's packages are."""
    return Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())


def environment(folder: Path, *libraries: Path) -> Path:
    """The interpreter of a new environment that also finds what is in other folders."""
    run(interpreter(EXAMPLE), "-m", "venv", "--without-pip", folder)
    python = folder / "bin/python"
    (packages(python) / "libraries.pth").write_text("".join(f"{each}\n" for each in libraries))
    return python


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with both packages."""
    folder = tmp_path_factory.mktemp("onnx")
    sources = folder / "oipserver"
    sources.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copyfile
        copy(ROOT / part, sources / part)
    shutil.copytree(EXAMPLES / EXAMPLE, folder / "example")
    builder = interpreter(EXAMPLE)
    python = environment(folder / "env", packages(builder))
    run(builder, "-m", "pip", "--python", python, "install", *OFFLINE, sources, folder / "example")
    return python


class Installed(Walkthrough):
    """The README, read by somebody who has installed both."""

    def __init__(self, folder: Path, python: Path) -> None:
        super().__init__(EXAMPLE, folder)
        self._python = python
        self._path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(scope="module")
def walk(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walkthrough]:
    with Installed(tmp_path_factory.mktemp("example"), installed) as walk:
        yield walk


def test_it_is_installed_beside_oipserver_and_found(installed: Path) -> None:
    where = "import oipserver, oipserver_onnx; print(oipserver.__file__); print(oipserver_onnx.__file__)"
    for file in run(installed, "-c", where, cwd=installed.parent).splitlines():
        assert Path(file).is_relative_to(installed.parents[1]), file
    onnx = told(installed)
    assert (onnx["package"], onnx["target"]) == ("oipserver-onnx", "oipserver_onnx:OnnxRuntime")
    assert (onnx["missing"], onnx["install"]) == ([], "")


def told(python: Path) -> dict[str, Any]:
    """What `oipserver runtimes` says of it."""
    listed: list[dict[str, Any]] = json.loads(run(python, "-m", "oipserver", "runtimes", "--json"))
    (onnx,) = (one for one in listed if one["name"] == "onnx")
    return onnx


def test_readme(step: Step, walk: Walkthrough) -> None:
    walk.check(step)


def test_its_errors_are_those_of_every_model(walk: Walkthrough) -> None:
    body = {"inputs": [{"name": "point", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
    ask = f"curl -s http://localhost:8080/v2/models/points/infer -d '{json.dumps(body)}'"
    document = json.loads(walk.run(Step("sh", ask)))
    assert document["error_code"] == "BAD_REQUEST"
    assert "expects shape [-1, 2] (2 columns), got [1, 3]" in document["error"]


def test_a_missing_library_names_its_cure(installed: Path, tmp_path: Path) -> None:
    """In an environment with all but onnxruntime."""
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    for entry in packages(interpreter(EXAMPLE)).iterdir():
        if not entry.name.startswith("onnxruntime"):
            (libraries / entry.name).symlink_to(entry)
    python = environment(tmp_path / "env", packages(installed), libraries)
    assert told(python)["missing"] == ["onnxruntime"]
    check = "from oipserver.testing import check_runtime; check_runtime('onnx', '.')"
    done = subprocess.run([python, "-c", check], capture_output=True, text=True, cwd=tmp_path)
    assert 'needs onnxruntime: pip install "oipserver-onnx[onnx]"' in done.stderr
