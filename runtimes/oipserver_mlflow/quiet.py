"""MLflow without its noise: nothing goes out over the network, and its log is ours."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("oipserver.mlflow")

_ONE = threading.RLock()
# These speak once per request, of what a caller has sent.
_PER_REQUEST = ("mlflow.models.utils", "mlflow.pyfunc")


def prepare() -> None:
    """To be called before MLflow is imported.  Settings that are there already are left alone."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false") == "false":
        logger = logging.getLogger("mlflow")
        if not logger.handlers:
            logger.addHandler(_Relay())
            logger.propagate = False
    for name in _PER_REQUEST:
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Python warnings from the terminal while a model is loaded and tried; never around a request.

    One at a time: warnings are filtered, and MLflow is imported, in the whole process.
    """
    with _ONE, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Relay(logging.Handler):
    """MLflow's warnings as lines of our own log."""

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(line.strip() for line in record.getMessage().splitlines() if line.strip())
        log.log(record.levelno, "%s", text)
