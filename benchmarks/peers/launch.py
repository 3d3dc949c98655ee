"""How a peer starts and ends: a family of processes on one core, waited for until every model answers."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from benchmarks import processes
from benchmarks.asking import WrongAnswer, ask
from benchmarks.questions import HttpQuestion
from benchmarks.servers import STOP_SECONDS, Server

# The files here run in the peers' own interpreters and import nothing of ours.
APPS = Path(__file__).parent / "apps"
HOST = "127.0.0.1"
START_SECONDS = 120.0
_LOG_TAIL = 4_000
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Place:
    """What a peer is given.

    Attributes:
        environment: the folder of its virtual environment.
        models: the folder of the trained models.
        directory: an empty one, its working directory.
    """

    environment: Path
    models: Path
    directory: Path
    http_port: int
    grpc_port: int

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.environment / "bin" / "python")

    def file(self, model: str) -> Path:
        """Where a trained model is."""
        return self.models / f"{model}.joblib"


@dataclass(frozen=True, slots=True)
class Program:
    """A command, and what its environment has besides."""

    command: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)


def environ_of(environment: Path) -> dict[str, str]:
    """Ours without what concerns our Python, and with a peer's commands before all others."""
    ours = ("OIPSERVER_", "PYTHON", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "PATH": f"{environment / 'bin'}:{kept.get('PATH', os.defpath)}"}


def run_once(directory: Path, command: Sequence[str], environment: Path) -> None:
    """Let a command, which gets the directory as its last argument, fill it; nothing where it stands already.

    Raises:
        RuntimeError: it failed; with the tail of what it wrote.
    """
    if directory.exists():
        return
    with tempfile.TemporaryDirectory(prefix="peer-", dir=directory.parent) as name:
        done = subprocess.run(
            [*command, name],
            env=environ_of(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed\n{done.stdout[-_LOG_TAIL:]}")
        shutil.copytree(name, directory)


@contextmanager
def launched(
    environment: Path,
    models: Path,
    program: Callable[[Place], Program],
    questions: Iterable[HttpQuestion],
    core: int | None,
) -> Iterator[Server]:
    """A running peer that has answered each question with status 200.

    Raises:
        RuntimeError: it ended or took too long; with the tail of what it wrote.
    """
    with tempfile.TemporaryDirectory(prefix="peer-") as name, open(Path(name) / "log", "w+b") as log:
        directory = Path(name) / "work"
        directory.mkdir()
        place = Place(environment, models, directory, *_free_ports(2))
        process = _start(program(place), place, log, core)
        try:
            try:
                _wait(process, place, questions)
            except RuntimeError as error:
                tail = _tail(log)
                last = tail.rpartition("\n")[2]
                raise RuntimeError(f"{error}: {last}\n{tail}") from None
            yield Server(process.pid, place.http_port, place.grpc_port)
        finally:
            _end(process)


def _start(program: Program, place: Place, log: IO[bytes], core: int | None) -> subprocess.Popen[bytes]:
    with _on(core):
        return subprocess.Popen(
            program.command,
            cwd=place.directory,
            env={**environ_of(place.environment), **program.environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@contextmanager
def _on(core: int | None) -> Iterator[None]:
    """Keep this thread on a core, and so, from their first instruction on, the processes that it starts."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _wait(process: subprocess.Popen[bytes], place: Place, questions: Iterable[HttpQuestion]) -> None:
    deadline = time.monotonic() + START_SECONDS
    for question in questions:
        # Whether it is right is for others to judge.
        question = replace(question, right=lambda body: True)
        while (fault := _fault(place, question)) is not None:
            if process.poll() is not None:
                raise RuntimeError(f"it ended with exit code {process.returncode}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{question.path}: {fault}, still after {START_SECONDS:g} s")
            time.sleep(_LOOK_SECONDS)


def _fault(place: Place, question: HttpQuestion) -> str | None:
    """What comes instead of an answer."""
    try:
        ask(place.http_port, place.grpc_port, question)
    except WrongAnswer as error:
        return str(error)
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and everything that it started, also what left its process group."""
    with ExitStack() as stack:
        # Handles, because a number could be somebody else's by the time of the second signal.
        handles = _handles(process.pid, stack)
        # What it started it ends itself, if it is let; and what stands still has to go on for that.
        process.terminate()
        _tell(handles, signal.SIGCONT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        handles += _handles(process.pid, stack)
        _tell(handles, signal.SIGKILL)
        process.wait()
        for handle in handles:
            select.select([handle], [], [], STOP_SECONDS)


def _handles(pid: int, stack: ExitStack) -> list[int]:
    """Of a process and all below it."""
    handles = []
    for member in processes.family(pid):
        with suppress(ProcessLookupError):
            handles.append(os.pidfd_open(member))
            stack.callback(os.close, handles[-1])
    return handles


def _tell(handles: Iterable[int], number: signal.Signals) -> None:
    for handle in handles:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)


def _tail(log: IO[bytes]) -> str:
    log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL))
    return log.read().decode(errors="replace").strip()


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at the moment."""
    listeners = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports: list[int] = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports
