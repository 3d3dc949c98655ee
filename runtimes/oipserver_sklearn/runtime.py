"""What the server calls: load a file, or take an estimator that is already in memory."""

from __future__ import annotations

from pathlib import Path

from sklearn.base import BaseEstimator

from oipserver import Model, ModelConfig, Runtime, read_golden
from oipserver_sklearn.compiled import execute
from oipserver_sklearn.loading import read
from oipserver_sklearn.model import serve


class SklearnRuntime(Runtime):
    """Serves fitted scikit-learn estimators, computed by scikit-learn or compiled.

    Parameters of the model's configuration:
        trusted: for `.skops` files, the names of types to accept besides those that skops trusts.
        version_mismatch: "refuse" a file that another version of scikit-learn saved, or "warn" (the default).
        n_jobs: threads for the trees of a forest, never more than the CPU quota; 1 when not given.
    """

    def load(self, path: Path, config: ModelConfig) -> Model:
        """The estimator in a `.joblib`, `.pkl`, `.pickle` or `.skops` file, or in a directory with one.

        Raises:
            FileNotFoundError: a directory without a model file.
            ImportError: a library that the file needs is not installed.
            ValueError: the file cannot be read, or holds nothing that can be served.
        """
        stored = read(path, config)
        model = serve(stored.estimator, config, stored.saved_with)
        execute(model, stored.estimator, config, read_golden(path, config))
        return model

    def wrap(self, model: object, config: ModelConfig) -> Model | None:
        """A Model for a fitted estimator, which is not changed; None for any other object.

        Raises:
            ValueError: the estimator is not fitted, or can neither predict nor transform.
        """
        if not isinstance(model, BaseEstimator):
            return None
        served = serve(model, config)
        execute(served, model, config)
        return served
