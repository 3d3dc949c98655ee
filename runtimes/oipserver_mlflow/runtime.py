"""What the server calls: load a folder with an MLmodel file, or take a loaded pyfunc model."""

from __future__ import annotations

from pathlib import Path

from oipserver import Model, ModelConfig, Runtime
from oipserver_mlflow.quiet import quiet


class MlflowRuntime(Runtime):
    """Serves MLflow models through their python_function flavor.  MLflow is imported when one is loaded.

    Parameters of the model's configuration:
        batchable: whether the rows of several callers may be computed in one call; when not given, true for
            the flavors of known libraries and false for a PythonModel, which may look at all rows at once.
    """

    def load(self, path: Path, config: ModelConfig) -> Model:
        """The model in the folder of an MLmodel file, which is `path` or lies one level below it.

        Raises:
            FileNotFoundError: no MLmodel file.
            ImportError: MLflow, or a library that the model needs, is not installed.
            ValueError: several MLmodel files, no python_function flavor, an artifact that is not trusted, a
                model that cannot be read or whose answers cannot be carried.
        """
        with quiet():
            from oipserver_mlflow.loading import load

            loaded = load(path, config)
            from oipserver_mlflow.model import serve

            return serve(loaded, config)

    def wrap(self, model: object, config: ModelConfig) -> Model | None:
        """A Model for what `mlflow.pyfunc.load_model` returned; None for any other object."""
        kind = type(model)
        if kind.__name__ != "PyFuncModel" or not kind.__module__.startswith("mlflow."):
            return None
        with quiet():
            from oipserver_mlflow.model import serve

            return serve(model, config)
