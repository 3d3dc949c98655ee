"""One server with every extension on, and both its fronts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
import yaml
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from tests.protocol.fronts import Front, Grpc, Http
from tests.server_process import ServerProcess

CODE = """
import numpy as np
from oipserver_python import Input, Output, function


@function(
    inputs=[Input("x", "FP64", [-1, 2])], outputs=[Output("y", "FP64", [-1, 2])], batchable=True
)
def double(x):
    if (x == -13).any():
        raise ValueError("unlucky")
    return x * 2


@function(
    inputs=[Input("word", "BYTES", [-1]), Input("times", "INT64", [-1])],
    outputs=[Output("text", "BYTES", [-1]), Output("long", "BOOL", [-1])],
    batchable=True,
)
def repeat(word, times):
    text = [each * int(count) for each, count in zip(word, times)]
    return {"text": text, "long": [len(each) > 4 for each in text]}


@function(inputs=[Input("n", "INT64", [1])], outputs=[Output("squares", "FP32", [-1])])
def squares(n):
    return np.arange(n[0], dtype=np.float32) ** 2
"""
FUNCTIONS = {"double": {}, "counted": {"max_batch_size": 64}, "repeat": {}, "squares": {"max_batch_size": 0}}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration file: `species` of scikit-learn, and the functions."""
    folder = tmp_path_factory.mktemp("protocol")
    iris = load_iris()
    joblib.dump(
        LogisticRegression(max_iter=1000).fit(iris.data, iris.target_names[iris.target]),
        folder / "species.joblib",
    )
    (folder / "code.py").write_text(CODE)
    served: list[dict[str, Any]] = [{"name": "species", "runtime": "sklearn", "model_uri": "species.joblib"}]
    for name, more in FUNCTIONS.items():
        code = "code.py:double" if name == "counted" else f"code.py:{name}"
        served.append({"name": name, "runtime": "python", "model_uri": code, **more})
    path = folder / "models.yaml"
    path.write_text(yaml.safe_dump({"shared_memory": True, "models": served}))
    return path


@pytest.fixture(scope="session")
def server(models: Path) -> Iterator[ServerProcess]:
    """It has to end well, too."""
    with ServerProcess("--config", str(models)) as server:
        yield server
    assert server.exit_code == 0, server.output
    # But for the one that the failing model is to write.
    assert server.output.count("Traceback") == server.output.count("ValueError: unlucky"), server.output


@pytest.fixture(scope="session")
def fronts(server: ServerProcess) -> Iterator[dict[str, Front]]:
    http, grpc = Http(server.http_port), Grpc(server.grpc_port)
    yield {"http": http, "grpc": grpc}
    grpc.close()


@pytest.fixture(params=["http", "grpc"])
def front(request: pytest.FixtureRequest, fronts: dict[str, Front]) -> Front:
    return fronts[request.param]
