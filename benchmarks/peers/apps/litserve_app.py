"""LitServe with a path for each model: `litserve_app.py PORT BATCH FILE…`, BATCH 1 for no batching."""

import sys
from pathlib import Path
from typing import Any

import joblib
import litserve as ls  # type: ignore[import-not-found]
import numpy as np

_BATCH_SECONDS = 0.005


class Estimator(ls.LitAPI):  # type: ignore[misc]
    """A scikit-learn model; in a batch of requests each has rows of its own."""

    def __init__(self, file: Path, batch: int) -> None:
        batching = {"max_batch_size": batch, "batch_timeout": _BATCH_SECONDS} if batch > 1 else {}
        super().__init__(api_path=f"/models/{file.stem}/predict", **batching)
        self._file = file

    def setup(self, device: str) -> None:
        """Load the model, in the process that predicts."""
        self._predict = joblib.load(self._file).predict

    # LitServe takes an annotation for the type of the request; without one it hands over the parsed JSON.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """`[rows, features]`."""
        return np.asarray(request["rows"])

    def batch(self, inputs: list[Any]) -> Any:
        """Those of all requests, and how many each has."""
        return np.concatenate(inputs), [len(rows) for rows in inputs]

    def predict(self, x: Any) -> Any:
        """One call for them all."""
        if isinstance(x, tuple):
            rows, counts = x
            return np.split(self._predict(rows), np.cumsum(counts)[:-1])
        return self._predict(x)

    def unbatch(self, output: Any) -> Any:
        """They are apart already."""
        return output

    def encode_response(self, output: Any) -> dict[str, Any]:
        """A list for each row, or a number."""
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    port, batch, *files = sys.argv[1:]
    models = [Estimator(Path(file), int(batch)) for file in files]
    server = ls.LitServer(models, accelerator="cpu", workers_per_device=1, fast_queue=False)
    server.run(
        host="127.0.0.1",
        port=int(port),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
