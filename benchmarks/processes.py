"""What a server's processes use, all of its tree together, as /proc tells it."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_ROLLUP = re.compile(r"^(Rss|Pss): +(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes (10^6 bytes): shared pages counted in each process, and shared out between them."""

    rss: float
    pss: float


def family(pid: int) -> list[int]:
    """A process, the members of the group that it leads, and all their descendants."""
    members = {pid}
    # A child's number can be smaller than its parent's, so until no more are found.
    known = list(_parents())
    while found := {child for child, kin in known if child not in members and members & kin}:
        members |= found
    return sorted(members)


def _parents() -> Iterator[tuple[int, set[int]]]:
    """Each process with the numbers of its parent and of its group's leader."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it has ended
                _state, parent, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                yield int(entry.name), {int(parent), int(group)}


def cpu_seconds(pid: int) -> float | None:
    """User and system time of the tree so far; None where the system does not tell."""
    try:
        return sum(_cpu_seconds(member) for member in family(pid))
    except OSError:
        return None


def _cpu_seconds(pid: int) -> float:
    with suppress(OSError):
        return time.clock_gettime(
            ~pid << 3 | 2
        )  # clock_getcpuclockid(3), in nanoseconds where stat has ticks
    return 0.0


def memory(pid: int) -> Memory | None:
    """Of the tree, now; None where the system does not tell."""
    sums = {"Rss": 0.0, "Pss": 0.0}
    try:
        for member in family(pid):
            with suppress(ProcessLookupError, FileNotFoundError):
                for name, kilobytes in _ROLLUP.findall(Path(f"/proc/{member}/smaps_rollup").read_text()):
                    sums[name] += int(kilobytes) * 1024 / 1e6
    except OSError:
        return None
    return Memory(sums["Rss"], sums["Pss"])


def idle_share(pid: int, seconds: float = 1.0) -> float:
    """The share of a core that the tree uses while nobody asks anything of it."""
    before = cpu_seconds(pid) or 0.0
    time.sleep(seconds)
    return ((cpu_seconds(pid) or 0.0) - before) / seconds


def tell(pid: int, number: signal.Signals) -> None:
    """Signal each process of the tree."""
    for member in family(pid):
        with suppress(ProcessLookupError):
            os.kill(member, number)


@contextmanager
def awake(pid: int) -> Iterator[None]:
    """Let a tree that stands still run for a while."""
    tell(pid, signal.SIGCONT)
    try:
        yield
    finally:
        tell(pid, signal.SIGSTOP)
