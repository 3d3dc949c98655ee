"""The servers under load: processes that start, are pinned to one core, and always end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import processes

START_SECONDS = 60.0
STOP_SECONDS = 15.0

_HERE = Path(__file__).parent
# As each peer, ours has an environment with what it needs and no more; where it was not made, this one.
_OWN = _HERE.parent / ".envs" / "bench" / "oipserver" / "bin" / "python"
OUR_PYTHON = str(_OWN) if _OWN.exists() else sys.executable
_READY = re.compile(r"\bready: ")


@dataclass(frozen=True, slots=True)
class Cores:
    """One core for every server, another for the clients; both None where processes cannot be pinned."""

    server: int | None
    client: int | None

    @classmethod
    def available(cls) -> Cores:
        """The first two that this process may use."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        return cls(cores[0], cores[1]) if len(cores) > 1 else cls(None, None)


def pin(pid: int, core: int | None) -> None:
    """Keep a process (0 is this one) and the threads that it will start on one core."""
    if core is not None:
        os.sched_setaffinity(pid, {core})


@dataclass(frozen=True, slots=True)
class Server:
    """A running server; the port of a front that it does not have is 0."""

    pid: int
    http_port: int = 0
    grpc_port: int = 0

    def cpu_seconds(self) -> float | None:
        """User and system time of its process and all those below it; None where the system does not tell."""
        return processes.cpu_seconds(self.pid)

    def memory(self) -> processes.Memory | None:
        """Of its process and all those below it; None where the system does not tell."""
        return processes.memory(self.pid)


class Worker:
    """A process that answers a line of JSON with a line of JSON."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def ask(self, **question: Any) -> Any:
        """The answer.

        Raises:
            RuntimeError: it has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer.startswith(b"{"):
            raise RuntimeError((answer + self._process.stdout.read()).decode())
        return json.loads(answer)


@contextmanager
def oipserver(config: Path, core: int | None) -> Iterator[Server]:
    """Our server, with the models of a configuration file, when it is ready."""
    command = [
        *(OUR_PYTHON, "-m", "oipserver.cli", "serve", "--config", str(config)),
        *("--http-port", "0", "--grpc-port", "0", "--shutdown-lame-duck", "0", "--shutdown-drain", "5"),
    ]
    with _process(command, core) as process:
        log = _log_until_ready(process)
        yield Server(process.pid, _port(r"HTTP on \S+:(\d+)", log), _port(r"gRPC on \S+:(\d+)", log))


@contextmanager
def echo(kind: str, answer: bytes, core: int | None) -> Iterator[Server]:
    """One of the bare servers of `echoes.py`."""
    with _process([sys.executable, str(_HERE / "echoes.py"), kind], core) as process:
        assert process.stdin is not None
        process.stdin.write(answer)
        process.stdin.close()
        port = _port(r"port (\d+)", _log_until_ready(process))
        yield Server(process.pid, http_port=port, grpc_port=port)


@contextmanager
def in_process(models: Path, core: int | None) -> Iterator[Worker]:
    """What needs no server, in a process that is pinned like one."""
    with _process([sys.executable, str(_HERE / "in_process.py"), str(models)], core) as process:
        yield Worker(process)


@contextmanager
def program(text: str, core: int | None) -> Iterator[Server]:
    """A program in our server's Python that says "ready: " when it is, and waits until its input ends."""
    with _process([OUR_PYTHON, "-c", text], core) as process:
        _log_until_ready(process)
        yield Server(process.pid)


@contextmanager
def _process(command: Sequence[str], core: int | None) -> Iterator[subprocess.Popen[bytes]]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OIPSERVER_")}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ
    )
    with process:
        pin(process.pid, core)
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it; what it started and left behind holds its output open, and has to go as well."""
    left = processes.family(process.pid)
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
    for pid in left:
        if pid != process.pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _log_until_ready(process: subprocess.Popen[bytes]) -> str:
    """What a server writes up to "ready: "; the rest is read as well, and dropped.

    By another process: this one is the client, and a server may log every request.

    Raises:
        RuntimeError: it ended, or took too long.
    """
    assert process.stdout is not None
    too_slow = threading.Timer(START_SECONDS, process.kill)
    too_slow.start()
    try:
        log = ""
        while not _READY.search(log):
            line = process.stdout.readline().decode()
            if not line or "not ready: " in line:
                raise RuntimeError(f"a server did not start:\n{log}")
            log += line
    finally:
        too_slow.cancel()
    rest = {"stdin": process.stdout, "stdout": subprocess.DEVNULL}
    threading.Thread(target=subprocess.run, args=(["cat"],), kwargs=rest, daemon=True).start()
    return log


def _port(pattern: str, log: str) -> int:
    found = re.search(pattern, log)
    if not found:
        raise RuntimeError(f"no port in what a server wrote:\n{log}")
    return int(found[1])
