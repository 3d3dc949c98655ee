"""docs/python-models.md is true: its files are written into one folder, and what it serves is asked."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from oipserver import ModelConfig
from oipserver.core.runtimes import get_runtime
from tests.server_process import ServerProcess

PAGE = (Path(__file__).parents[2] / "docs/python-models.md").read_text()
BLOCKS = re.findall(r"```(\w+)(?: file=(\S+))?\n(.*?)```", PAGE, re.DOTALL)
FILES = {name: text for _, name, text in BLOCKS if name}


def blocks(language: str) -> list[str]:
    return [text for kind, name, text in BLOCKS if kind == language and not name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "plain.py").write_text("def total(x):\n    return x.sum(axis=1, keepdims=True)\n")
    (tmp_path / "labels.txt").write_text("cat dog")
    return tmp_path


def ask(server: ServerProcess, model: str, body: bytes) -> Any:
    request = urllib.request.Request(f"{server.http_url}/v2/models/{model}/infer", body)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return [output["data"] for output in json.load(answer)["outputs"]]


def rows(name: str, *values: float) -> bytes:
    tensor = {"name": name, "datatype": "FP64", "shape": [1, len(values)], "data": values}
    return json.dumps({"inputs": [tensor]}).encode()


def test_every_block_is_run_here() -> None:
    assert list(FILES) == ["model.py", "detector.py", "counter.py", "features.py", "train.py"]
    assert [len(blocks(language)) for language in ("sh", "yaml", "python")] == [1, 2, 1]
    assert len(BLOCKS) == 9
    assert PAGE.count("```") == 18


def test_the_function_is_served_and_curl_is_answered(folder: Path) -> None:
    serve, curl = blocks("sh")[0].splitlines()
    program, *flags = shlex.split(serve.replace("model.py", str(folder / "model.py")))
    assert program == "oipserver"
    with ServerProcess(*flags) as server:
        tool, url, option, body = shlex.split(curl)
        assert (tool, option) == ("curl", "-d")
        assert url == "localhost:8080/v2/models/model/infer"
        assert ask(server, "model", body.encode()) == [[6.0]]


@pytest.fixture
def configured(folder: Path) -> Iterator[ServerProcess]:
    subprocess.run([sys.executable, "train.py"], cwd=folder, check=True)
    first, second = blocks("yaml")
    (folder / "server.yaml").write_text(first + second.removeprefix("models:\n"))
    with ServerProcess("--config", str(folder / "server.yaml")) as server:
        yield server


def test_the_configurations_are_served(configured: ServerProcess) -> None:
    assert ask(configured, "total", rows("x", 1, 2, 3)) == [[6.0]]
    assert ask(configured, "iris", rows("inches", 2.0, 1.4, 0.6, 0.1)) == [["setosa"]]


def test_the_class_and_the_generator(folder: Path) -> None:
    def load(file: str) -> Any:
        config = ModelConfig("m", "python", str(folder / file), trust_pickle=True)
        return get_runtime("python").load(folder / file, config)

    picture = BytesIO()
    Image.new("RGB", (30, 20)).save(picture, "PNG")
    content = np.empty(1, dtype=np.object_)
    content[0] = picture.getvalue()
    found = load("detector.py").predict({"image": content}, [], {})
    assert {name: array.tolist() for name, array in found.items()} == {
        "boxes": [[0, 0, 30, 20]],
        "labels": [b"cat"],
        "scores": [0.5],
    }
    pieces = load("counter.py").stream({"n": np.array([3])}, ["i"], {})
    assert [piece["i"].tolist() for piece in pieces] == [[0], [1], [2]]


def test_the_function_is_served_from_python(folder: Path) -> None:
    (script,) = blocks("python")
    script = script.replace(
        'name="total"', 'name="total", http_port=0, grpc_port="off", shutdown_lame_duck=0'
    )
    with ServerProcess(program=["-c", script], environ={"PYTHONPATH": str(folder)}) as server:
        assert ask(server, "total", rows("x", 1, 2, 3)) == [[6.0]]
