"""The MLflow runtime of oipserver: whatever was logged with MLflow and has the python_function flavor."""

from __future__ import annotations

from oipserver_mlflow.runtime import MlflowRuntime

__all__ = ["MlflowRuntime"]
