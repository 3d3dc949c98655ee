"""From a path to a pyfunc model.

An MLmodel file names a Python module to import, and most flavors are pickles: loading one runs its code, so
that it is loaded only where the artifact is trusted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oipserver import ModelConfig, require_trust
from oipserver_mlflow.quiet import prepare

MLMODEL = "MLmodel"


def find(path: Path) -> Path:
    """The folder of the MLmodel file: `path`, the one folder below that has one, or that of the file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several.
    """
    if path.name == MLMODEL and path.is_file():
        return path.parent
    if (path / MLMODEL).is_file():
        return path
    below = sorted(file.parent for file in path.glob(f"*/{MLMODEL}")) if path.is_dir() else []
    if not below:
        raise FileNotFoundError(f"'{path}' holds no {MLMODEL} file, nor does a folder in it")
    if len(below) > 1:
        listed = ", ".join(folder.name for folder in below)
        raise ValueError(f"'{path}' holds several MLflow models: {listed}; name one of them")
    return below[0]


def load(path: Path, config: ModelConfig) -> Any:
    """The `mlflow.pyfunc.PyFuncModel` stored at `path`; see `MlflowRuntime.load`."""
    folder = find(path)
    require_trust(config, folder)
    pyfunc = import_pyfunc()
    from mlflow.exceptions import MlflowException

    try:
        return pyfunc.load_model(str(folder.resolve()))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise ImportError(
            f"the model in '{folder.name}' needs the Python package '{package}', which is not installed"
        ) from error
    except ImportError:
        raise
    except MlflowException as error:
        raise ValueError(f"MLflow cannot load '{folder.name}': {error.message}") from error
    except Exception as error:
        raise ValueError(f"'{folder.name}' cannot be read: {type(error).__name__}: {error}") from error


def import_pyfunc() -> Any:
    """The module `mlflow.pyfunc`; it takes seconds.

    Raises:
        ImportError: it is not installed; the text names the cure.
    """
    prepare()
    try:
        import mlflow.pyfunc
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the runtime 'mlflow' needs {error.name}: pip install \"oipserver[mlflow]\""
        ) from error
    return mlflow.pyfunc
