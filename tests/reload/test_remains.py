"""What went leaves nothing behind, though libraries and first models are out of the collector's sight."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import grpc
import joblib
import mlflow
import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.reload.stored import BODY, connected, get, over_grpc, over_http, post, write_estimator
from tests.runtimes import mlflow_models
from tests.server_process import PATIENCE, ServerProcess

TOLD = re.compile(r"what went left (nothing) behind|looked for (what) was left behind")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("models")
    x = np.arange(20.0).reshape(-1, 1)
    forest = make_pipeline(StandardScaler(), RandomForestRegressor(3, random_state=0)).fit(x, x[:, 0])
    write_estimator(folder / "linear.joblib", 0)
    joblib.dump(forest, folder / "forest.joblib")
    line = LinearRegression().fit(x, x[:, 0])
    mlflow_models.save(folder / "flow", mlflow.sklearn.save_model, line)
    forest.itself = forest
    joblib.dump(forest, folder / "knot.joblib")
    (folder / "models.yaml").write_text(
        "model_control: explicit\n"
        "models:\n"
        "  - {name: linear, runtime: sklearn, model_uri: linear.joblib}\n"
        "  - {name: forest, runtime: sklearn, model_uri: forest.joblib}\n"
        "  - {name: flow, runtime: mlflow, model_uri: flow}\n"
        "  - {name: knot, runtime: sklearn, model_uri: knot.joblib}\n"
    )
    with ServerProcess("--config", str(folder / "models.yaml"), "--log-level=debug") as running:
        yield running


@pytest.mark.parametrize(
    ("model", "told"),
    # The last one refers to itself; and after a look at everything the next one has to wait.
    [("linear", "nothing"), ("forest", "nothing"), ("flow", "nothing"), ("knot", "what")],
)
def test_the_collector_looks_at_everything_only_where_it_must(
    server: ServerProcess, model: str, told: str
) -> None:
    """Those who have asked stay connected, and hold on to nothing."""
    before = len(TOLD.findall(server.output))
    with (
        connected(server) as often,
        connected(server) as once,
        grpc.insecure_channel(server.grpc_target) as channel,
    ):
        for ask in (over_http(often, model), over_grpc(channel, model)):
            for _ in range(3):
                ask()
        once.request("POST", f"/v2/models/{model}/infer", json.dumps(BODY | {"id": "of-a-head-of-its-own"}))
        assert once.getresponse().read()
        assert post(server, f"/v2/repository/models/{model}/load") == (200, None)
        end = time.monotonic() + PATIENCE
        while len(found := TOLD.findall(server.output)) == before:
            assert time.monotonic() < end, server.output
            get(server, "/v2/health/live")
    assert ["".join(each) for each in found[before:]] == [told]
