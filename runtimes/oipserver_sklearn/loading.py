"""From a path to an estimator.

Pickle is code, and joblib files are pickles: they are loaded when the configuration trusts them.  A `.skops`
file is read with an allow-list of types and needs no trust.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import sklearn
from sklearn.exceptions import InconsistentVersionWarning

from oipserver import ModelConfig, require_trust
from oipserver_sklearn.caught import caught_warnings

log = logging.getLogger("oipserver.sklearn")

SUFFIXES = (".joblib", ".pkl", ".pickle", ".skops")


@dataclass(frozen=True, slots=True)
class Stored:
    """What a file held.

    Attributes:
        saved_with: the scikit-learn version that wrote it, where it is not the one that runs.
    """

    estimator: object
    saved_with: str | None


def read(path: Path, config: ModelConfig) -> Stored:
    """The object in the model file at `path`, or in the one model file of that directory.

    Raises:
        FileNotFoundError: a directory without a model file.
        ImportError: a library that the file needs is not installed.
        ValueError: an unknown kind of file, several candidates, a broken file, an untrusted type; a pickle
            that is not trusted; another version's file, where that is to be refused.
    """
    file, refuse_mismatch = find(path), _refuses_mismatch(config)
    if file.suffix != ".skops":
        require_trust(config, file)
    with caught_warnings() as caught, _explained(file):
        estimator = _read_skops(file, _trusted(config)) if file.suffix == ".skops" else joblib.load(file)
    saved_with = None
    for warning in (entry.message for entry in caught):
        if isinstance(warning, InconsistentVersionWarning):
            saved_with = warning.original_sklearn_version
        else:
            log.warning("%s: %s", file.name, warning)
    if saved_with and refuse_mismatch:
        raise ValueError(
            f"'{file.name}' was saved with scikit-learn {saved_with} and {sklearn.__version__} is installed, "
            f"which version_mismatch: refuse forbids: pip install scikit-learn=={saved_with}"
        )
    return Stored(estimator, saved_with)


def find(path: Path) -> Path:
    """The model file itself, or the one in a directory; of several, the one called `model`."""
    if not path.is_dir():
        if path.suffix not in SUFFIXES:
            raise ValueError(f"'{path.name}' is not a model file of scikit-learn: {', '.join(SUFFIXES)}")
        return path
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
    chosen = [file for file in files if file.stem == "model"] or files
    if not chosen:
        raise FileNotFoundError(f"directory '{path}' holds no model file ({', '.join(SUFFIXES)})")
    if len(chosen) > 1:
        listed = ", ".join(file.name for file in chosen)
        raise ValueError(f"directory '{path}' holds several model files: {listed}; name one of them")
    return chosen[0]


def _refuses_mismatch(config: ModelConfig) -> bool:
    policy = config.parameters.get("version_mismatch", "warn")
    if policy not in ("warn", "refuse"):
        raise ValueError(f"parameter 'version_mismatch' must be 'warn' or 'refuse', got {policy!r}")
    return policy == "refuse"


def _trusted(config: ModelConfig) -> Sequence[str]:
    names = config.parameters.get("trusted", ())
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError("parameter 'trusted' must be a list of type names")
    return names


def _read_skops(file: Path, trusted: Sequence[str]) -> Any:
    try:
        from skops.io import get_untrusted_types, load
    except ModuleNotFoundError as error:
        raise ImportError("a .skops file needs skops: pip install 'oipserver[sklearn]'") from error
    refused = sorted(set(get_untrusted_types(file=file)) - set(trusted))
    if refused:
        raise _Refused(
            f"'{file.name}' holds types that are not trusted: {', '.join(refused)}; "
            "list them in the model's parameter 'trusted' if you trust them"
        )
    return load(file, trusted=list(trusted))


class _Refused(ValueError):
    """A sentence of our own, to be shown as it is."""


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    """Whatever unpickling raises (anything at all), as a sentence about the file."""
    try:
        yield
    except (_Refused, FileNotFoundError, PermissionError):
        raise
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise ImportError(
            f"'{file.name}' needs the Python package '{package}', which is not installed: "
            f"pip install {package}"
        ) from error
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(f"'{file.name}' cannot be read: {type(error).__name__}: {error}") from error
