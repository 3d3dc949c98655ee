"""Nobody reads the log: the server serves on, counts what it loses, and says so when somebody reads again."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from oipserver.log import MAX_WAITING, Sink
from tests.observability.served import MODELS, until
from tests.server_process import PATIENCE, QUICK

# The smallest pipe that Linux makes.
PIPE_BYTES = 4096
BURST = 500


class Blocked:
    """A real server whose stderr is a small pipe that is read only when the test wants to."""

    def __init__(self, folder: Path) -> None:
        (folder / "models.py").write_text(MODELS)
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        environ = {key: value for key, value in os.environ.items() if not key.startswith("OIPSERVER_")}
        arguments = ["serve", *QUICK, "--runtime=python", f"--model-uri={folder}/models.py:double"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "oipserver", *arguments, "--model-name=double"],
            env=environ,
            stderr=writing,
        )
        os.close(writing)
        self._log = os.fdopen(reading, "rb")
        ready = self.read_to(b'"message":"ready: ')
        port = re.search(rb"HTTP on http://127.0.0.1:(\d+)", ready)
        assert port
        self.port = int(port[1])

    def read_to(self, text: bytes) -> bytes:
        """What is in the pipe up to a line with this text."""
        lines = []
        for line in self._log:
            lines.append(line)
            if text in line:
                return b"".join(lines)
        raise AssertionError(f"the log ended without {text!r}")

    def dropped(self) -> int:
        """Lines lost, by the metrics."""
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=PATIENCE) as answer:
            found = re.search(r"^oip_log_lines_dropped_total (\S+)$", answer.read().decode(), re.M)
        assert found
        return int(float(found[1]))

    def end(self) -> int:
        """SIGTERM; the exit code."""
        rest = threading.Thread(target=self._log.read)
        self.process.terminate()
        rest.start()
        code = self.process.wait(PATIENCE)
        rest.join()
        self._log.close()
        return code


@pytest.fixture
def blocked(tmp_path: Path) -> Iterator[Blocked]:
    blocked = Blocked(tmp_path)
    yield blocked
    assert blocked.end() == 0


def burst(port: int) -> None:
    """Many requests over one connection, all of which must be answered well."""
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [1]}]}).encode()
    head = f"POST /v2/models/double/infer HTTP/1.1\r\nhost: a\r\nx-request-id: {'i' * 64}\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        sender = threading.Thread(target=connection.sendall, args=(request * BURST,))
        sender.start()
        answers = b""
        while answers.count(b'"outputs"') < BURST:
            piece = connection.recv(2**20)
            assert piece
            answers += piece
        sender.join()
    assert answers.count(b"HTTP/1.1 200") == BURST


def test_a_full_pipe_on_stderr_holds_up_nobody(blocked: Blocked) -> None:
    bursts = 0
    while blocked.dropped() == 0:
        burst(blocked.port)
        bursts += 1
        assert bursts * BURST * 200 < 10 * MAX_WAITING
    burst(blocked.port)
    until(lambda: blocked.dropped() >= BURST)  # lines are gathered for a moment before they are lost
    lost = blocked.dropped()
    log = blocked.read_to(b"lines of this log were dropped")
    lines = [json.loads(line) for line in log.splitlines()]
    told = int(lines[-1]["message"].split()[0])
    assert lines[-1]["level"] == "WARNING"
    assert told >= lost  # lines that were still being gathered when the metrics were read
    assert any(one["event"] == "request" for one in lines)
    # It is read again: the next request is logged.
    with urlopen(f"http://127.0.0.1:{blocked.port}/v2", timeout=PATIENCE) as answer:
        request_id = answer.headers["x-request-id"]
    blocked.read_to(f'"request_id":"{request_id}"'.encode())


# --- the sink alone ---


def lost(lines: int) -> bytes:
    return b"%d lost\n" % lines


def sink_of(write: Callable[[bytes], None], size: int = 100) -> Sink:
    return Sink(write, lost, size)


def test_lines_come_out_in_their_order() -> None:
    written: list[bytes] = []
    sink = sink_of(written.append)
    for number in range(20):
        sink.write(b"%d\n" % number)
    sink.flush(PATIENCE)
    assert b"".join(written) == b"".join(b"%d\n" % number for number in range(20))
    assert sink.dropped == 0


def test_what_does_not_fit_is_dropped_whole_and_told_once() -> None:
    gate, written = threading.Event(), list[bytes]()

    def write(data: bytes) -> None:
        assert gate.wait(PATIENCE)
        written.append(data)

    sink = sink_of(write, 10)
    sink.write(b"12345678\n")
    sink.write(b"too much\n", 3)
    assert sink.dropped == 3
    gate.set()
    sink.flush(PATIENCE)
    assert written == [b"12345678\n", b"3 lost\n"]
    sink.write(b"again\n")
    sink.flush(PATIENCE)
    assert written[2:] == [b"again\n"]


def test_a_stream_that_fails_loses_lines_and_nothing_else() -> None:
    failing, written = [True], list[bytes]()

    def write(data: bytes) -> None:
        if failing:
            raise OSError(28, "No space left on device")
        written.append(data)

    sink = sink_of(write)
    sink.write(b"lost\n", 2)
    sink.flush(PATIENCE)
    assert sink.dropped == 2
    failing.clear()
    sink.write(b"here\n")
    sink.flush(PATIENCE)
    assert written == [b"here\n", b"2 lost\n"]


def test_a_flush_does_not_wait_for_ever() -> None:
    gate = threading.Event()

    def write(data: bytes) -> None:
        gate.wait(PATIENCE)

    sink = sink_of(write)
    sink.write(b"never\n")
    sink.flush(0.01)
    gate.set()
