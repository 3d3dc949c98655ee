"""A repository of the Hugging Face hub, from a server that speaks as much of its API as the library asks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.sources.scripted import Answer, Handler, Server

REPOSITORY = {"config.json": b"{}", "onnx/model.onnx": bytes(range(256)) * 10}


def hub(files: dict[str, bytes]) -> Answer:
    """The repository org/iris with one revision."""

    def answer(handler: Handler) -> None:
        path = urlsplit(handler.path).path
        if path.startswith("/api/models/org/iris/tree/main"):
            below = path.removeprefix("/api/models/org/iris/tree/main").strip("/")
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": f"{hash(data):040x}"}
                for name, data in files.items()
                if name.startswith(below)
            ]
            send(handler, tree)
        elif path.startswith("/api/models/org/iris"):
            send(handler, {"id": "org/iris", "sha": "0" * 40})
        elif path.startswith("/org/iris/resolve/main/"):
            part(handler, files[path.removeprefix("/org/iris/resolve/main/")])
        else:
            handler.head(404, {"Content-Length": "0", "X-Error-Code": "RepoNotFound"})

    return answer


def send(handler: Handler, document: object) -> None:
    body = json.dumps(document).encode()
    handler.head(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
    handler.wfile.write(body)


def part(handler: Handler, data: bytes) -> None:
    first, last = str(handler.headers["Range"]).removeprefix("bytes=").split("-")
    piece = data[int(first) : int(last) + 1]
    there = f"bytes {first}-{int(first) + len(piece) - 1}/{len(data)}"
    handler.head(206, {"Content-Range": there, "Content-Length": str(len(piece)), "ETag": '"1"'})
    handler.wfile.write(piece)


# The library reads its endpoint when it is imported.
FETCH = """
import sys
from pathlib import Path
from tests.sources.scripted import get
try:
    path = get(sys.argv[1], Path(sys.argv[2]), retries=0).path
except ValueError as error:
    print(error)
else:
    names = [one for one in path.rglob("*.*")] or [path]
    print(path.name, {str(one.relative_to(path)): len(one.read_bytes()) for one in sorted(names)})
"""


def fetched(uri: str, tmp_path: Path) -> str:
    """What a process says of a URI whose hub is ours."""
    pytest.importorskip("huggingface_hub")
    with Server(hub(REPOSITORY)) as server:
        ours = {"HF_ENDPOINT": server.uri(""), "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": "."}
        command = [sys.executable, "-c", FETCH, uri, str(tmp_path)]
        environ = {**os.environ, **ours}
        done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("uri", ["hf://org/iris", "hf://org/iris/", "hf://org/iris@main"])
def test_a_repository(tmp_path: Path, uri: str) -> None:
    assert fetched(uri, tmp_path) == "iris {'config.json': 2, 'onnx/model.onnx': 2560}"


def test_one_file_of_a_repository(tmp_path: Path) -> None:
    assert fetched("hf://org/iris/onnx/model.onnx", tmp_path) == "model.onnx {'.': 2560}"


def test_no_such_repository(tmp_path: Path) -> None:
    assert fetched("hf://org/tulip", tmp_path).startswith("cannot fetch 'hf://org/tulip': the store says: ")
