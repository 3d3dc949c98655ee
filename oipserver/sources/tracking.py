"""Models of an MLflow tracking server: `runs:/RUN/PATH` and `models:/NAME/VERSION`.

The server is the one that MLFLOW_TRACKING_URI names, with the credentials that MLflow takes from the
environment.  MLflow tells no version that changes with the bytes, so they are fetched at each start.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oipserver.config.uris import last_part
from oipserver.sources.cache import Shelf
from oipserver.sources.errors import SourceError, TryAgain
from oipserver.sources.meter import Meter
from oipserver.sources.names import plain
from oipserver.sources.retry import within

# What no second try will mend, in MLflow's words.
_FINAL = {
    "RESOURCE_DOES_NOT_EXIST",
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "ENDPOINT_NOT_FOUND",
    "NOT_FOUND",
}


def bring(uri: str, shelf: Shelf, meter: Meter, deadline: float) -> tuple[Path, str]:
    """Fetch a logged model into `shelf.partial`.

    Returns:
        The complete directory or file, and no version.

    Raises:
        TryAgain: the tracking server failed.
        SourceError: it cannot be had.
    """
    artifacts = _artifacts()
    expected = _ask(deadline, lambda: list(_sizes(artifacts, uri)))
    meter.files(len(expected))
    meter.start(0, sum(expected))
    shelf.begin("")
    incoming = str(shelf.incoming())
    arrived = _ask(deadline, lambda: artifacts.download_artifacts(artifact_uri=uri, dst_path=incoming))
    for size in _checked_sizes(Path(arrived)):
        meter.add(size)
    # MLflow calls it as it is stored, which says nothing.
    model = shelf.partial / plain(last_part(uri), "model")
    os.rename(arrived, model)
    return model, ""


def _artifacts() -> Any:
    if not sys.stderr.isatty():  # bars of progress are for terminals
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        import mlflow.artifacts
    except ImportError as error:
        raise SourceError('runs:/ and models:/ need mlflow: pip install "oipserver[mlflow]"') from error
    return mlflow.artifacts


def _sizes(artifacts: Any, uri: str) -> Iterator[int]:
    """Of each file below, where MLflow tells it."""
    for one in artifacts.list_artifacts(artifact_uri=uri):
        if one.is_dir:
            yield from _sizes(artifacts, f"{uri.rstrip('/')}/{one.path.rpartition('/')[2]}")
        else:
            yield one.file_size or 0


def _checked_sizes(model: Path) -> Iterator[int]:
    """The size of each file; whatever is neither file nor directory is refused."""
    for path in (model, *model.rglob("*")):
        found = path.lstat()
        if stat.S_ISREG(found.st_mode):
            yield found.st_size
        elif not stat.S_ISDIR(found.st_mode):
            raise SourceError(f"'{path.name}' is neither a file nor a directory")


def _ask(deadline: float, work: Any) -> Any:
    try:
        return within(deadline, work)
    except SourceError:
        raise
    except Exception as error:  # MlflowException, and what its stores raise
        text = f"MLflow says: {error}"
        if getattr(error, "error_code", "") in _FINAL:
            raise SourceError(text) from error
        raise TryAgain(text) from error
