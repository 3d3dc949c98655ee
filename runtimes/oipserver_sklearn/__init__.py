"""The scikit-learn runtime of oipserver: estimators from joblib, pickle and skops files, or from memory."""

from __future__ import annotations

from oipserver_sklearn.runtime import SklearnRuntime

__all__ = ["SklearnRuntime"]
