"""200 models are loaded and let go of in one process, large ones that refer to themselves: nothing stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import LinearRegression

from tests.reload.stored import ask, get, post
from tests.server_process import PATIENCE, ServerProcess

CYCLES = 100  # of each of two models
MEGABYTES = 4

CODE = f"""
import numpy as np
from oipserver_python import Input, Output, function

WEIGHTS = np.ones({MEGABYTES} << 17)  # a module's functions refer to the module, and the other way round

@function(
    inputs=[Input("input-0", "FP64", [-1, 1])], outputs=[Output("y", "FP64", [-1, 1])], batchable=True
)
def total(x):
    return x + WEIGHTS[0]
"""


def write_models(folder: Path) -> None:
    (folder / "code.py").write_text(CODE)
    model = LinearRegression()
    model.coef_, model.intercept_, model.n_features_in_ = np.ones(1), 1.0, 1
    model.weights, model.itself = np.ones(MEGABYTES << 17), model
    joblib.dump(model, folder / "estimator.joblib")
    (folder / "models.yaml").write_text(
        "model_control: explicit\n"
        "models:\n"
        "  - {name: code, runtime: python, model_uri: code.py}\n"
        "  - {name: estimator, runtime: sklearn, model_uri: estimator.joblib}\n"
    )


def holds(server: ServerProcess) -> tuple[int, int, int]:
    """Bytes in memory, threads and descriptors."""
    place = Path(f"/proc/{server.pid}")
    pages = (place / "statm").read_text().split()[1]
    threads, descriptors = (len(os.listdir(place / what)) for what in ("task", "fd"))
    return int(pages) * os.sysconf("SC_PAGE_SIZE"), threads, descriptors


def test_memory_threads_and_descriptors_come_back(tmp_path: Path) -> None:
    write_models(tmp_path)
    with ServerProcess("--config", str(tmp_path / "models.yaml")) as server:

        def cycle(model: str, times: int) -> None:
            for number in range(times):
                if number % 2:
                    assert post(server, f"/v2/repository/models/{model}/unload") == (200, None)
                assert post(server, f"/v2/repository/models/{model}/load") == (200, None)
                assert ask(server, model) == 1

        def settle(*limits: float) -> None:
            """What has gone is cleared up a moment later."""
            end = time.monotonic() + PATIENCE
            while any(found > limit for found, limit in zip(holds(server), limits, strict=True)):
                assert time.monotonic() < end, (holds(server), limits)
                get(server, "/v2/health/live")

        for model in ("code", "estimator"):
            cycle(model, 2)
        memory, threads, descriptors = holds(server)
        for model in ("code", "estimator"):
            cycle(model, CYCLES)
        settle(1.1 * memory, threads + 2, descriptors + 2)
    assert server.exit_code == 0, server.output
