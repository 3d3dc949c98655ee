"""A repository of the Hugging Face hub, from a server that speaks as much of its API as the library asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.sources.scripted import Answer, Handler, Server, get

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


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    constants = pytest.importorskip("huggingface_hub.constants")
    with Server(hub(REPOSITORY)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.uri(""))
        yield server


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("uri", ["hf://org/iris", "hf://org/iris/", "hf://org/iris@main"])
def test_a_repository(tmp_path: Path, uri: str) -> None:
    fetched = get(uri, tmp_path)
    found = {str(p.relative_to(fetched.path)): p.read_bytes() for p in fetched.path.rglob("*.*")}
    assert (fetched.path.name, found) == ("iris", REPOSITORY)
    assert not fetched.trusted
    assert get(uri, tmp_path) == fetched


@pytest.mark.usefixtures("server")
def test_one_file_of_a_repository(tmp_path: Path) -> None:
    fetched = get("hf://org/iris/onnx/model.onnx", tmp_path)
    assert (fetched.path.name, fetched.path.read_bytes()) == ("model.onnx", REPOSITORY["onnx/model.onnx"])


@pytest.mark.usefixtures("server")
def test_no_such_repository(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot fetch 'hf://org/tulip': the store says: "):
        get("hf://org/tulip", tmp_path, retries=0)
