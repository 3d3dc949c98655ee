"""The CPUs that this process may really use, and the native thread pools held to that number.

A container's quota is invisible to BLAS and OpenMP: they start one thread per CPU of the host, and the
kernel then stops all of them for most of each period.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from threadpoolctl import ThreadpoolController


def cpu_quota(root: Path = Path("/"), affinity: int | None = None) -> int:
    """Whole CPUs that this process may use, at least 1: the least of CPU affinity and cgroup quotas.

    A quota of 1.5 CPUs counts as 1: two threads would be throttled.

    Args:
        root: where `proc` and `sys` are found.
        affinity: CPUs that the scheduler may place this process on; None asks the kernel.
    """
    if affinity is None:
        affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([affinity, *_cgroup_quotas(root)])))


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


class ThreadBudget:
    """Holds the thread pools of the native libraries loaded so far to `cpus` threads; never raises them."""

    def __init__(self, cpus: int) -> None:
        self.cpus = cpus
        controller = ThreadpoolController()
        self.pools = sorted({library.internal_api for library in controller.lib_controllers})
        self._openmp = controller.select(user_api="openmp")
        self._thread = threading.local()
        self._bound(controller)

    def enter(self) -> None:
        """To be called in each thread that computes: OpenMP keeps its bound per thread, BLAS per process."""
        if not hasattr(self._thread, "bounded"):
            self._bound(self._openmp)
            self._thread.bounded = True

    def _bound(self, controller: ThreadpoolController) -> None:
        for library in controller.lib_controllers:
            library.set_num_threads(min(library.num_threads or self.cpus, self.cpus))
