"""Save the models as one of MLflow's: `mlflow_models.py MODELS DIRECTORY`.

An MLflow server has one model.  So that it is one process with three models, as the other peers are, the
model picks the estimator by the number of columns.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import joblib
import mlflow.pyfunc


class ByColumns(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Three estimators that differ in their number of features."""

    def load_context(self, context: Any) -> None:
        """Load them."""
        estimators = [joblib.load(path) for path in context.artifacts.values()]
        self._predict = {estimator.n_features_in_: estimator.predict for estimator in estimators}

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        """What the one with that many features says."""
        return self._predict[model_input.shape[1]](model_input)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    mlflow.pyfunc.save_model(
        target / "model",
        python_model=ByColumns(),
        artifacts={file.stem: str(file) for file in source.glob("*.joblib")},
        pip_requirements=[],
    )
