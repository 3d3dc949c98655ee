"""The facts of the image that matter, read from the Dockerfile; what needs no Docker is run as well."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its arguments, continuation lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = (line.strip() for line in text.splitlines())
    parts = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return [(name.upper(), rest.strip()) for name, _, rest in parts]


def final_stage() -> dict[str, str]:
    """The last word of each instruction in the stage that becomes the image."""
    found = instructions()
    start = max(index for index, (name, _) in enumerate(found) if name == "FROM")
    return dict(found[start:])


def copied_from_context() -> list[str]:
    """The paths of this repository that enter the build."""
    copies = [rest.split() for name, rest in instructions() if name == "COPY"]
    return [path for words in copies if not words[0].startswith("--from") for path in words[:-1]]


def test_user_is_a_number_and_not_root() -> None:
    user, _, group = final_stage()["USER"].partition(":")
    assert int(user) >= 10_000
    assert int(group) >= 10_000


def test_process_one_is_the_server_and_gets_the_signal() -> None:
    stage = final_stage()
    assert json.loads(stage["ENTRYPOINT"]) == ["oipserver"]
    assert stage["STOPSIGNAL"] == "SIGTERM"


def test_both_ports_are_exposed_and_reachable() -> None:
    stage = final_stage()
    assert stage["EXPOSE"].split() == ["8080", "8081"]
    assert "OIPSERVER_HOST=0.0.0.0" in stage["ENV"].split()


def test_nothing_comes_from_elsewhere() -> None:
    names = [name for name, _ in instructions()]
    assert "ADD" not in names
    assert all(rest.startswith("python:3.") for name, rest in instructions() if name == "FROM")


def test_copied_paths_exist_and_are_not_ignored() -> None:
    let_through = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"]
    assert sorted(copied_from_context()) == sorted(let_through)
    assert [path for path in copied_from_context() if not (ROOT / path).exists()] == []


def test_wheel_from_the_copied_paths_holds_every_file(tmp_path: Path) -> None:
    context, dist = tmp_path / "src", tmp_path / "dist"
    context.mkdir()
    for path in copied_from_context():
        copy(ROOT / path, context / path)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", dist, "."], cwd=context, check=True)
    (wheel,) = dist.glob("oipserver-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    assert files_below(ROOT, "oipserver") | files_below(ROOT / "runtimes", ".") <= packed


def copy(source: Path, target: Path) -> None:
    """A file or a whole folder, without what Python left there."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    else:
        shutil.copy(source, target)


def files_below(base: Path, folder: str) -> set[str]:
    """All files of a source folder, relative to `base`."""
    paths = (path for path in (base / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(base)) for path in paths if "__pycache__" not in path.parts}


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_health_check_asks_the_live_route(status: int, healthy: bool) -> None:
    with answering("/v2/health/live", status) as port:
        assert (health_check(port) == 0) is healthy


def test_health_check_fails_when_nobody_listens() -> None:
    with answering("/", 200) as port:
        pass
    assert health_check(port) != 0


def health_check(port: int) -> int:
    """The exit code of the image's health check; a proxy in the environment must not matter."""
    command = json.loads(final_stage()["HEALTHCHECK"].partition(" CMD ")[2])
    assert command[0] == "python"
    environment = os.environ | {"OIPSERVER_HTTP_PORT": str(port), "http_proxy": "http://192.0.2.1:9"}
    done = subprocess.run([sys.executable, *command[1:]], env=environment, capture_output=True, check=False)
    return done.returncode


@contextmanager
def answering(path: str, status: int) -> Iterator[int]:
    """The port of an HTTP server that answers one path with `status` and all others with 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == path else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
