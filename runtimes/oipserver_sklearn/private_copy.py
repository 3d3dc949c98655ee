"""The estimator as it is served: a copy that shares every array with the user's object, tuned for requests.

Only scikit-learn's own classes are copied, level by level through the lists that hold them; anything else
stays as it is.  The user's estimator is never changed.
"""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator

from oipserver_sklearn.kinds import is_a

# They spread one prediction over threads; all others would start processes.
_THREADED = tuple(
    f"sklearn.ensemble.{name}"
    for name in (
        "RandomForestClassifier",
        "RandomForestRegressor",
        "ExtraTreesClassifier",
        "ExtraTreesRegressor",
    )
)


def private_copy(estimator: Any, n_jobs: int = 1, named: bool = True) -> Any:
    """A copy of `estimator` for serving.

    Args:
        n_jobs: threads for the trees of a forest.  A pool costs about 20 ms per call, more than most
            forests need for a batch.
        named: False forgets the names of columns, so that plain arrays are taken without a warning.
    """
    return _Copier(n_jobs, named).copy(estimator)


class _Copier:
    def __init__(self, n_jobs: int, named: bool) -> None:
        self._n_jobs = n_jobs
        self._named = named
        self._copies: dict[int, Any] = {}

    def copy(self, value: Any) -> Any:
        if type(value) in (list, tuple):
            return self._sequence(value)
        if isinstance(value, BaseEstimator) and type(value).__module__.startswith("sklearn."):
            # No truth value here: many estimators have a length.
            return self._copies[id(value)] if id(value) in self._copies else self._estimator(value)
        return value

    def _sequence(self, values: Any) -> Any:
        copies = [self.copy(value) for value in values]
        changed = any(copy is not value for copy, value in zip(copies, values, strict=True))
        return type(values)(copies) if changed else values

    def _estimator(self, estimator: Any) -> Any:
        twin = object.__new__(type(estimator))
        self._copies[id(estimator)] = twin
        state = {name: self.copy(value) for name, value in vars(estimator).items()}
        if not self._named:
            state.pop("feature_names_in_", None)
        twin.__dict__.update(state | self._tuned(estimator, state))
        return twin

    def _tuned(self, estimator: Any, state: dict[str, Any]) -> dict[str, Any]:
        """No pool per call, no report per call, and no writing into the caller's rows."""
        n_jobs = self._n_jobs if is_a(estimator, *_THREADED) else 1
        tuned = {"n_jobs": n_jobs, "verbose": 0, "copy": True}
        return {name: value for name, value in tuned.items() if name in state}
