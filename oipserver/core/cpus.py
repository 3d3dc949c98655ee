"""The CPUs that this process may really use.

A container's quota is invisible to BLAS and OpenMP: they start one thread per CPU of the host, and the
kernel then stops all of them for most of each period.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class Cpus:
    """What is measured.

    Attributes:
        affinity: CPUs that the scheduler may place this process on.
        quota: CPUs' worth of time that its cgroups give it; None without a limit.
    """

    affinity: int
    quota: float | None

    @property
    def usable(self) -> int:
        """Whole CPUs, at least 1.  A quota of 1.5 CPUs counts as 1: two threads would be throttled."""
        return self.affinity if self.quota is None else max(1, min(self.affinity, int(self.quota)))

    @property
    def is_limited(self) -> bool:
        """Whether libraries that ask the kernel for its CPUs count too many."""
        return self.usable < self.affinity

    def __str__(self) -> str:
        quota = "no cgroup quota" if self.quota is None else f"cgroup quota {self.quota:g}"
        return f"{self.usable} (affinity {self.affinity}, {quota})"


def find_cpus(root: Path = Path("/"), affinity: int | None = None) -> Cpus:
    """Affinity and the least of the cgroup quotas.

    Args:
        root: where `proc` and `sys` are found.
        affinity: None asks the kernel.
    """
    if affinity is None:
        affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Cpus(affinity, min(_cgroup_quotas(root), default=None))


def cpu_quota() -> int:
    """Whole CPUs that this process may use, at least 1: the least of CPU affinity and cgroup quotas."""
    return find_cpus().usable


def _cgroup_quotas(root: Path) -> Iterator[float]:
    """The quotas, in CPUs, of this process's cgroup and its ancestors, as far as they have one."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mounts = ["", "unified"]
        elif "cpu" in controllers.split(","):
            mounts = [controllers, "cpu"]
        else:
            continue
        for mount in mounts:
            for folder in _lineage(root / "sys/fs/cgroup" / mount, path):
                yield from _quota_v1(folder) if controllers else _quota_v2(folder)


def _lineage(mount: Path, path: str) -> Iterator[Path]:
    """A cgroup's folder and its ancestors up to the mount point, where a container finds its own quota.

    A path with ".." lies outside of this process's cgroup namespace and cannot be read.
    """
    relative = PurePosixPath(path.lstrip("/"))
    if ".." not in relative.parts:
        yield from (mount / folder for folder in (relative, *relative.parents) if folder.name)
    yield mount


def _quota_v2(folder: Path) -> Iterator[float]:
    """`cpu.max` is "<quota> <period>" in microseconds, or "max <period>"."""
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    yield from _ratio(quota, period)


def _quota_v1(folder: Path) -> Iterator[float]:
    """`cpu.cfs_quota_us` is -1 without a quota."""
    yield from _ratio(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> Iterator[float]:
    quota, period = quota.strip(), period.strip()
    if quota.isdecimal() and period.isdecimal() and int(period) > 0:
        yield int(quota) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
