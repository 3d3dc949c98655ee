"""A real server in its own process, for tests of what only a process has: ports, signals, exit codes."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

# Without a lame duck, and with a short drain; a later flag of the test's own wins.
QUICK = ("--http-port=0", "--grpc-port=0", "--shutdown-lame-duck=0", "--shutdown-drain=5")
# Seconds that are only waited for when something is wrong; a busy machine imports MLflow for a minute.
PATIENCE = 120.0
_ENVIRON = {"PYTHONUNBUFFERED": "1", "OIPSERVER_LOG_FORMAT": "text", "OIPSERVER_LOG_REQUESTS": "0"}


def lasting_port() -> int:
    """A free port for who comes back to it: below those that are given to whoever asks for any."""
    while True:
        port = random.SystemRandom().randrange(20_000, 30_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class ServerProcess:
    """`python -m oipserver serve ...` on free ports; as a context manager it is ready inside.

        with ServerProcess("--config", "models.yaml") as server:
            urlopen(server.http_url + "/v2/health/ready")
        assert server.exit_code == 0

    Args:
        flags: of the command.
        command: "serve" or "demo".
        program: a Python program and its arguments, in place of all that.
        environ: variables besides the inherited ones, of which none begins with OIPSERVER_; its log is text,
            without requests, unless they say otherwise.
    """

    def __init__(
        self,
        *flags: str,
        command: str = "serve",
        program: Sequence[str] | None = None,
        environ: dict[str, str] | None = None,
    ) -> None:
        self._arguments = [sys.executable, *(program or ["-m", "oipserver", command, *QUICK, *flags])]
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("OIPSERVER_")}
        self._environ = {**inherited, **_ENVIRON, **(environ or {})}
        self._lines: list[str] = []
        self._ended = False  # its output, and so the process as far as anybody can hear it
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._process: subprocess.Popen[str]

    def start(self) -> Self:
        """Start the process; returns before it is ready."""
        self._process = subprocess.Popen(
            self._arguments,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader.start()
        return self

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def http_port(self) -> int:
        return self._port(r"HTTP on https?://\S+:(\d+)")

    @property
    def grpc_port(self) -> int:
        return self._port(r"gRPC on \S+:(\d+)")

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc_target(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def output(self) -> str:
        """Everything written so far, stdout and stderr as they came."""
        with self._changed:
            return "".join(self._lines)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._process.poll()

    def wait_ready(self) -> None:
        """Return when every model serves; the ports are known then."""
        self.wait_for(r'[ "]ready: ')

    def wait_for(self, pattern: str, timeout: float = PATIENCE) -> re.Match[str]:
        """The first match in the output, old or new.

        Raises:
            AssertionError: the process ended, or the time was over, without it.
        """
        found: re.Match[str] | None = None

        def arrived() -> bool:
            nonlocal found
            found = next((match for line in self._lines if (match := re.search(pattern, line))), None)
            return found is not None or self._ended

        with self._changed:
            self._changed.wait_for(arrived, timeout)
        assert found, f"the server never wrote {pattern!r}:\n{self.output}"
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit code, when the process has ended; it is killed when it does not in time."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server did not end in {timeout} s:\n{self.output}") from None
        self._reader.join()
        return code

    def stop(self) -> int:
        """SIGTERM, unless it has ended already; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def _port(self, pattern: str) -> int:
        return int(self.wait_for(pattern)[1])

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
