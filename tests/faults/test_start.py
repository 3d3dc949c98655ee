"""What cannot work is told at the start: one line that names the setting, exit 2, in a second of work."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server_process import ServerProcess


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


WRONG = {
    "a taken HTTP port": ("--http-port={taken}", "http.port: cannot listen on 127.0.0.1:{taken}"),
    "a taken gRPC port": ("--grpc-port={taken}", "grpc.port: cannot listen on 127.0.0.1:{taken}"),
    "a host of nobody": ("--host=no-such-host.invalid", "host: cannot find 'no-such-host.invalid'"),
    "a setting out of range": ("--http-port=70000", "--http-port: expected a port from 0"),
    "no such configuration": ("--config={folder}/none.yaml", "--config: cannot read '{folder}/none.yaml'"),
    "a broken configuration": ("--config={folder}/broken.yaml", "--config: '{folder}/broken.yaml'"),
    "no such model": ("--model-uri={folder}/none.py", "--model-uri: no such file or directory"),
    "no such certificate": ("--tls-cert-file={folder}/none.crt", "tls.key_file: expected a file beside"),
    "no such keys": ("--access-keys-file={folder}/none.yaml", "access.keys_file: "),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_it_ends_with_exit_2_and_one_line(tmp_path: Path, taken: int, wrong: str) -> None:
    (tmp_path / "model.py").write_text("def model(x):\n    return x\n")
    (tmp_path / "broken.yaml").write_text("models: [")
    flag, complaint = (text.format(taken=taken, folder=tmp_path) for text in WRONG[wrong])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    server = ServerProcess("--runtime=python", f"--model-uri={tmp_path / 'model.py'}", flag).start()
    assert server.wait() == 2
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # On a slow machine, and with modules still to be compiled, it may be more.
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < 4
    lines = [line for line in server.output.splitlines() if " INFO " not in line]
    assert len(lines) == 1, server.output
    assert lines[0].startswith(f"oipserver: {complaint}")
