"""The pools of native libraries that are held to the CPUs of this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from oipserver_sklearn.private_copy import private_copy
from oipserver_sklearn.threads import ThreadBudget
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import StandardScaler
from threadpoolctl import ThreadpoolController, threadpool_info


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
def test_threads_that_compute_at_the_same_time_share_the_cpus() -> None:
    assert [ThreadBudget(8, instances).per_call for instances in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]
    budget = ThreadBudget(cpus=2, instances=2)
    seen: list[set[int]] = []

    def compute() -> None:
        budget.enter()
        seen.append(openmp_threads())

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
