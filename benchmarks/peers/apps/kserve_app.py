"""KServe's Python server with the predict of its sklearnserver: `kserve_app.py HTTP_PORT GRPC_PORT FILE…`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import joblib
from kserve import Model, ModelServer
from kserve.utils.utils import get_predict_input, get_predict_response


class SklearnModel(Model):  # type: ignore[misc]
    """An estimator under the name of its file."""

    def __init__(self, file: Path) -> None:
        super().__init__(file.stem)
        self._estimator = joblib.load(file)
        self.ready = True

    def predict(self, payload: Any, headers: dict[str, str] | None = None) -> Any:
        """As in sklearnserver, which is no package of its own."""
        answer = self._estimator.predict(get_predict_input(payload))
        return get_predict_response(payload, answer, self.name)


if __name__ == "__main__":
    http_port, grpc_port, *files = sys.argv[1:]
    logging.disable(logging.INFO)  # its three lines per request
    server = ModelServer(
        http_port=int(http_port), grpc_port=int(grpc_port), workers=1, enable_latency_logging=False
    )
    server.start([SklearnModel(Path(file)) for file in files])
