"""The CPU quota, read from made-up trees of /proc and /sys, and the pools that are held to it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from oipserver_sklearn.private_copy import private_copy
from oipserver_sklearn.threads import ThreadBudget, cpu_quota
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import StandardScaler
from threadpoolctl import ThreadpoolController, threadpool_info

HOST = 16


def quota(root: Path, cgroup: str, files: dict[str, str]) -> int:
    """The quota of a process in `cgroup`, on a host of 16 CPUs."""
    for name, content in {"proc/self/cgroup": cgroup, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return cpu_quota(root, affinity=HOST)


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
    assert cpu_quota(tmp_path, affinity=3) == 3
    assert cpu_quota(tmp_path) == len(os.sched_getaffinity(0))


def test_this_machine_has_a_quota() -> None:
    assert 1 <= cpu_quota() <= len(os.sched_getaffinity(0))


def openmp_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"}


@pytest.fixture
def _pools_restored() -> Iterator[None]:
    before = [(library, library.num_threads) for library in ThreadpoolController().lib_controllers]
    yield
    for library, threads in before:
        library.set_num_threads(threads)


@pytest.mark.usefixtures("_pools_restored")
def test_pools_are_bounded_in_every_thread_that_enters() -> None:
    budget = ThreadBudget(cpus=1)
    assert {pool["num_threads"] for pool in threadpool_info()} == {1}

    def compute() -> None:
        budget.enter()
        seen.append(openmp_threads())

    seen: list[set[int]] = []
    thread = threading.Thread(target=compute)
    thread.start()
    thread.join()
    assert seen == [{1}]


@pytest.mark.usefixtures("_pools_restored")
def test_pools_are_never_raised() -> None:
    ThreadBudget(cpus=1)
    ThreadBudget(cpus=8).enter()
    assert {pool["num_threads"] for pool in threadpool_info()} == {1}


X = np.random.default_rng(0).normal(size=(20, 2))


def test_a_forest_has_the_jobs_that_were_asked_for_and_others_one() -> None:
    forest = RandomForestClassifier(2, n_jobs=-1).fit(X, X[:, 0] > 0)
    assert private_copy(forest).n_jobs == 1
    assert private_copy(forest, n_jobs=2).n_jobs == 2
    several = MultiOutputRegressor(KNeighborsRegressor(n_jobs=4)).fit(X, X).set_params(n_jobs=-1)
    copy = private_copy(several, n_jobs=2)
    assert [copy.n_jobs, *(inner.n_jobs for inner in copy.estimators_)] == [1, 1, 1]
    assert [several.n_jobs, *(inner.n_jobs for inner in several.estimators_)] == [-1, 4, 4]


def test_a_copy_shares_the_arrays() -> None:
    forest = RandomForestClassifier(2).fit(X, X[:, 0] > 0)
    copy = private_copy(forest)
    assert copy.estimators_[0] is not forest.estimators_[0]
    assert copy.estimators_[0].tree_ is forest.estimators_[0].tree_


def test_copies_reach_into_tuples_and_keep_what_is_shared_shared() -> None:
    scaler = StandardScaler()
    both = ColumnTransformer([("a", scaler, [0]), ("b", scaler, [1])], n_jobs=3)
    copy = private_copy(both)
    assert copy.n_jobs == 1
    assert copy.transformers[0][1] is copy.transformers[1][1]
    assert copy.transformers[0][1] is not scaler
