"""File descriptors run out in a real process: who is served stays served, nothing spins, and it recovers."""

from __future__ import annotations

import os
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.server_process import PATIENCE, QUICK, ServerProcess
from tests.tls.encrypted import MODEL, Client, grpc_infer

FILES = 60  # the process has about 20 open by itself
SERVE = """
import resource, sys
import oipserver.cli
resource.setrlimit(resource.RLIMIT_NOFILE, ({0}, {1}))
sys.exit(oipserver.cli.main(sys.argv[1:]))
"""
ROWS = [[1.0, 2.0]]
DOUBLED = [[2.0, 4.0]]


def serving(folder: Path, soft: int, hard: int, *flags: str) -> ServerProcess:
    (folder / "model.py").write_text(MODEL)
    flags = ("serve", *QUICK, "--runtime=python", f"--model-uri={folder / 'model.py'}", *flags)
    return ServerProcess(program=["-c", SERVE.format(soft, hard), *flags])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with serving(tmp_path, FILES, FILES) as server:
        yield server


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_a_soft_limit_is_raised_as_far_as_the_connections_need_it(tmp_path: Path) -> None:
    with serving(tmp_path, 200, 2000, "--http-max-connections=300", "--grpc-max-connections=100") as server:
        (line,) = re.findall("Max open files +.*", Path(f"/proc/{server.pid}/limits").read_text())
        assert line.split()[3:5] == [str(300 + 100 + 512), "2000"]


def cpu_seconds(server: ServerProcess) -> float:
    """What the process has computed so far."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for_files(server: ServerProcess, wanted: Callable[[int], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not wanted(len(os.listdir(f"/proc/{server.pid}/fd"))):
        assert time.monotonic() < deadline


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("front", ["http", "grpc"])
def test_who_is_served_stays_served_and_it_recovers(server: ServerProcess, front: str) -> None:
    address = ("127.0.0.1", getattr(server, f"{front}_port"))
    array = np.array(ROWS)
    with Client(server.http_port, None) as client, grpc.insecure_channel(server.grpc_target) as channel:
        assert client.infer(ROWS) == DOUBLED
        assert np.array_equal(grpc_infer(channel, array), DOUBLED)
        with ExitStack() as stack:
            for _ in range(2 * FILES):
                stack.enter_context(socket.create_connection(address, PATIENCE))
            wait_for_files(server, lambda count: count >= FILES - 2)
            for _ in range(20):
                assert client.infer(ROWS) == DOUBLED
                assert np.array_equal(grpc_infer(channel, array), DOUBLED)
            computed = cpu_seconds(server)
            assert select.select([client.sock], [], [], 0.5) == ([], [], [])  # nothing comes meanwhile
            assert cpu_seconds(server) - computed < 0.25
        wait_for_files(server, lambda count: count <= FILES - 10)
        with Client(server.http_port, None) as fresh:
            assert fresh.infer(ROWS) == DOUBLED
        with grpc.insecure_channel(server.grpc_target, [("grpc.use_local_subchannel_pool", 1)]) as fresh:
            assert np.array_equal(grpc_infer(fresh, array), DOUBLED)
    assert len(server.output.splitlines()) < 100
