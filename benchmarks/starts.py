"""How long a server takes until it is ready, and how much memory it then uses while nobody asks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from benchmarks.servers import Cores, Server, oipserver, program

IMPORT = "import sklearn"
_PROGRAM = f"{IMPORT}, sys; print('ready: imported', flush=True); sys.stdin.read()"


@dataclass(frozen=True, slots=True)
class Start:
    """One start.

    Attributes:
        seconds: from the start of the process until it is ready.
        rss_mb, pss_mb: of all its processes, in 10^6 bytes; 0 where the system does not tell.
    """

    seconds: float
    rss_mb: float
    pss_mb: float

    @classmethod
    def of(cls, server: Server, seconds: float) -> Start:
        """A server that has just become ready."""
        memory = server.memory()
        return cls(seconds, memory.rss if memory else 0.0, memory.pss if memory else 0.0)


def starter(iris: Path, cores: Cores) -> dict[str, Callable[[], AbstractContextManager[Server]]]:
    """What is started again and again: our server with the iris model, and a bare import of scikit-learn."""
    return {
        "oipserver": lambda: oipserver(iris, cores.server),
        IMPORT: lambda: program(_PROGRAM, cores.server),
    }


def start(served: Callable[[], AbstractContextManager[Server]]) -> Start:
    """Start one, look at it, and end it."""
    begin = perf_counter()
    with served() as server:
        return Start.of(server, perf_counter() - begin)
