"""The helper that other tests trust with processes."""

from __future__ import annotations

import signal

import pytest

from tests.server_process import ServerProcess


def test_a_server_is_ready_inside_and_has_ended_outside() -> None:
    with ServerProcess(command="demo") as server:
        assert server.exit_code is None
        assert server.http_port != server.grpc_port
        assert server.http_url == f"http://127.0.0.1:{server.http_port}"
    assert server.exit_code == 0
    assert "stopped" in server.output


def test_what_it_said_instead_is_shown() -> None:
    server = ServerProcess("--http-port=melon").start()
    with pytest.raises(AssertionError, match=r"never wrote '\[ \"\]ready: ':\noipserver: .*melon"):
        server.wait_ready()
    assert server.wait() == 2


def test_a_signal_of_the_tests_own() -> None:
    with ServerProcess("--http-port=off", command="demo") as server:
        server.signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
