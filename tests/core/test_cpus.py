"""The CPUs of this process, read from made-up trees of /proc and /sys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oipserver import cpu_quota
from oipserver.core.cpus import Cpus, find_cpus

HOST = 16


def quota(root: Path, cgroup: str, files: dict[str, str]) -> int:
    """The quota of a process in `cgroup`, on a host of 16 CPUs."""
    for name, content in {"proc/self/cgroup": cgroup, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return find_cpus(root, affinity=HOST).usable


@pytest.mark.parametrize(
    ("cgroup", "files", "cpus"),
    [
        ("", {}, HOST),
        ("0::/\n", {}, HOST),
        ("0::/\n", {"cpu.max": "max 100000\n"}, HOST),
        ("0::/\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "3200000 100000\n"}, HOST),
        ("0::/\n", {"cpu.max": "nonsense\n"}, HOST),
        ("0::/\n", {"cpu.max": "100000 0\n"}, HOST),
        ("0::/pod/app\n", {"pod/app/cpu.max": "800000 100000", "pod/cpu.max": "300000 100000"}, 3),
        ("0::/pod/app\n", {"pod/app/cpu.max": "max 100000", "pod/cpu.max": "max 100000"}, HOST),
        ("0::/../../pod\n", {"cpu.max": "200000 100000"}, 2),
        ("0::/\n", {"unified/cpu.max": "500000 100000"}, 5),
        (
            "4:cpu,cpuacct:/docker/1\n2:memory:/docker/1\n",
            {
                "cpu,cpuacct/docker/1/cpu.cfs_quota_us": "250000\n",
                "cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        (
            "4:cpu,cpuacct:/docker/1\n",  # in a container: the path is the host's, the mount is its own
            {"cpu/cpu.cfs_quota_us": "600000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            6,
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, HOST),
        (
            "3:cpuset:/a\n",
            {"cpuset/a/cpu.cfs_quota_us": "100000", "cpuset/a/cpu.cfs_period_us": "100000"},
            HOST,
        ),
    ],
)
def test_quota_of_a_cgroup(tmp_path: Path, cgroup: str, files: dict[str, str], cpus: int) -> None:
    assert quota(tmp_path, cgroup, {f"sys/fs/cgroup/{name}": text for name, text in files.items()}) == cpus


def test_affinity_bounds_the_quota(tmp_path: Path) -> None:
    assert find_cpus(tmp_path, affinity=3).usable == 3
    assert find_cpus(tmp_path).usable == len(os.sched_getaffinity(0))


def test_this_machine_has_a_quota() -> None:
    assert 1 <= cpu_quota() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("cpus", "limited", "text"),
    [
        (Cpus(16, None), False, "16 (affinity 16, no cgroup quota)"),
        (Cpus(16, 2.5), True, "2 (affinity 16, cgroup quota 2.5)"),
        (Cpus(2, 8.0), False, "2 (affinity 2, cgroup quota 8)"),
        (Cpus(1, 0.2), False, "1 (affinity 1, cgroup quota 0.2)"),
    ],
)
def test_what_is_told_of_them(cpus: Cpus, limited: bool, text: str) -> None:
    assert (cpus.is_limited, str(cpus)) == (limited, text)
