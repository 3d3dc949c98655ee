"""A repository made for MLServer is served unchanged: its files, its variables, its URLs, its shapes."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import joblib
import pytest
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from oipserver.config import ConfigError, ServerConfig, load_config
from oipserver.config.mlserver_names import SERVER_NAMES
from oipserver.config.schema import SERVER_LEAVES
from oipserver.core import runtimes
from oipserver.core.model_config import ModelConfig
from tests.server_process import ServerProcess

SKLEARN = "mlserver_sklearn.SKLearnModel"
MLFLOW = "mlserver_mlflow.MLflowRuntime"


def write(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def load(
    root: Path, environ: Mapping[str, str] | None = None, flags: Mapping[str, str] | None = None
) -> ServerConfig:
    return load_config({"model_repository": str(root), **(flags or {})}, environ or {})


def problems(root: Path, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(root, environ)
    return caught.value.problems


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The smallest repository: one model, whose file lies beside its settings."""
    root = tmp_path / "models"
    write(root / "iris" / "model-settings.json", {"implementation": SKLEARN})
    (root / "iris" / "model.joblib").touch()
    return root


# ------------------------------------------------------------------------------------------ served unchanged


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of MLServer's own scikit-learn example, and of another version of it."""
    root = tmp_path_factory.mktemp("mlserver")
    digits, labels = load_digits(return_X_y=True)
    write(root / "settings.json", {"debug": "true", "parallel_workers": 0, "http_port": 1, "grpc_port": 1})
    for folder, version in (("mnist-svm", "v0.1.0"), ("older", "v0.0.9")):
        settings = {
            "name": "mnist-svm",
            "implementation": SKLEARN,
            "max_batch_size": 32,
            "max_batch_time": 0.001,
            "parameters": {"uri": "./mnist-svm.joblib", "version": version},
        }
        write(root / folder / "model-settings.json", settings)
        joblib.dump(SVC(gamma=0.001).fit(digits[:900], labels[:900]), root / folder / "mnist-svm.joblib")
    return root


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--model-repository", str(repository)) as server:
        yield server
    assert server.exit_code == 0, server.output


def ask(server: ServerProcess, path: str, body: object = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = Request(server.http_url + path, data, {"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as response:
        document: dict[str, Any] = json.load(response)
        return document


@pytest.mark.parametrize("version", ["", "/versions/v0.1.0", "/versions/v0.0.9"])
def test_mlservers_request_gets_mlservers_answer(server: ServerProcess, version: str) -> None:
    row = load_digits(return_X_y=True)[0][900:901]
    request = {"inputs": [{"name": "predict", "shape": row.shape, "datatype": "FP32", "data": row.tolist()}]}
    answer = ask(server, f"/v2/models/mnist-svm{version}/infer", request)
    assert answer["model_name"] == "mnist-svm"
    assert answer["model_version"] == (version.rpartition("/")[2] or answer["model_version"])
    assert answer["parameters"] == {"content_type": "np"}
    (output,) = answer["outputs"]
    assert (output["name"], output["shape"], output["datatype"]) == ("predict", [1, 1], "INT64")
    assert output["parameters"] == {"content_type": "np"}
    assert output["data"] == [int(load_digits().target[900])]


def test_it_is_as_ready_as_mlserver(server: ServerProcess) -> None:
    for path in (
        "/v2/health/ready",
        "/v2/models/mnist-svm/ready",
        "/v2/models/mnist-svm/versions/v0.1.0/ready",
    ):
        with urlopen(server.http_url + path, timeout=30) as response:
            assert response.status == 200
    assert sorted(ask(server, "/v2/models/mnist-svm")["versions"]) == ["v0.0.9", "v0.1.0"]


def test_it_says_what_has_no_effect(server: ServerProcess) -> None:
    assert server.output.count("without effect here, of MLServer's settings: parallel_workers") == 1


# In a process of its own: mlflow warns of a great deal when it is imported.
TRAIN_WINE = """
import sys
import mlflow
import pandas as pd
from sklearn.linear_model import ElasticNet

columns = ["fixed acidity", "volatile acidity", "citric acid"]
table = pd.DataFrame([[7.4, 0.7, 0.0], [7.8, 0.88, 0.1], [11.2, 0.28, 0.56]], columns=columns)
wine = ElasticNet(alpha=0.01).fit(table, [5.0, 5.5, 6.0])
signature = mlflow.models.infer_signature(table, wine.predict(table))
mlflow.sklearn.save_model(wine, sys.argv[1], signature=signature, pip_requirements=["mlflow"])
print(wine.predict(table)[0])
"""


@pytest.mark.skipif("mlflow" not in runtimes.names(), reason="the runtime 'mlflow' is not installed")
def test_mlservers_mlflow_example(tmp_path: Path) -> None:
    train = [sys.executable, "-c", TRAIN_WINE, str(tmp_path / "wine-classifier" / "model")]
    expected = float(subprocess.run(train, capture_output=True, text=True, check=True).stdout)
    write(
        tmp_path / "wine-classifier" / "model-settings.json",
        {"name": "wine-classifier", "implementation": MLFLOW, "parameters": {"uri": "./model"}},
    )
    request = {
        "parameters": {"content_type": "pd"},
        "inputs": [
            {"name": name, "shape": [1], "datatype": "FP32", "data": [value]}
            for name, value in {"fixed acidity": 7.4, "volatile acidity": 0.7, "citric acid": 0.0}.items()
        ],
    }
    with ServerProcess("--model-repository", str(tmp_path)) as server:
        answer = ask(server, "/v2/models/wine-classifier/infer", request)
    (output,) = answer["outputs"]
    assert (output["name"], output["shape"], output["datatype"]) == ("output-1", [1, 1], "FP64")
    assert output["data"] == [pytest.approx(expected, rel=1e-6)]


# ---------------------------------------------------------------------------------------------- the models


def test_the_smallest_model(root: Path) -> None:
    assert load(root).models == (ModelConfig("iris", "sklearn", str(root / "iris" / "model.joblib")),)


def test_every_folder_is_searched_but_hidden_ones(root: Path) -> None:
    for folder in ("", "a/b/c", ".hidden/d"):
        write(root / folder / "model-settings.json", {"implementation": SKLEARN})
    assert [model.name for model in load(root).models] == ["c", "iris", "models"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"name": "other"}, {"name": "other"}),
        ({"implementation": "mlserver_mlflow.MLflowRuntime"}, {"runtime": "mlflow"}),
        ({"implementation": "mlserver_sklearn.sklearn.SKLearnModel"}, {"runtime": "sklearn"}),
        ({"parameters": {"version": "v1"}}, {"version": "v1"}),
        ({"parameters": {"version": 2}}, {"version": "2"}),
        ({"parameters": {"version": ""}}, {"version": "1"}),
        ({"parameters": None, "name": None}, {"name": "iris"}),
        ({"parameters": {"extra": {"n_jobs": 2}}}, {"parameters": {"n_jobs": 2}}),
        ({"max_batch_size": 64, "max_batch_time": 0.25}, {"max_batch_size": 64, "delay": 250_000}),
        ({"max_batch_size": "64", "max_batch_time": "0.25"}, {"max_batch_size": 64, "delay": 250_000}),
        ({"max_batch_size": 64}, {"max_batch_size": 1024, "delay": None}),
        ({"max_batch_size": 0, "max_batch_time": 0.5}, {"max_batch_size": 1024, "delay": None}),
        ({"max_batch_size": 1, "max_batch_time": 0.5}, {"max_batch_size": 1024, "delay": None}),
        ({"parallel_workers": 4, "platform": "sklearn", "inputs": [{"name": "x"}]}, {"name": "iris"}),
    ],
)
def test_a_models_settings(root: Path, settings: dict[str, object], expected: dict[str, object]) -> None:
    write(root / "iris" / "model-settings.json", {"implementation": SKLEARN, **settings})
    (model,) = load(root).models
    delay = model.dynamic_batching.max_queue_delay_microseconds
    for name, value in expected.items():
        assert (delay if name == "delay" else getattr(model, name)) == value


@pytest.mark.parametrize(
    ("files", "uri", "taken"),
    [
        (["model.pkl", "model.pickle", "model.joblib"], None, "iris/model.joblib"),
        (["model.pkl", "model.pickle"], None, "iris/model.pickle"),
        (["model.pkl"], "./", "iris/model.pkl"),
        (["other.joblib"], None, "iris"),
        (["other.joblib", "model.joblib"], "./other.joblib", "iris/other.joblib"),
        (["1/model.joblib"], "1", "iris/1/model.joblib"),
        (["../shared.joblib"], "../shared.joblib", "shared.joblib"),
    ],
)
def test_where_the_model_is(tmp_path: Path, files: list[str], uri: str | None, taken: str) -> None:
    parameters = {} if uri is None else {"uri": uri}
    settings = {"implementation": SKLEARN, "parameters": parameters}
    for name in files:
        write(tmp_path / "iris" / name, "")
    write(tmp_path / "iris" / "model-settings.json", settings)
    (model,) = load(tmp_path).models
    assert model.model_uri == str(tmp_path / taken)


def test_a_uri_that_is_fetched_stays_one(root: Path) -> None:
    parameters = {"uri": "models:/wine/3"}
    write(root / "iris" / "model-settings.json", {"implementation": MLFLOW, "parameters": parameters})
    assert load(root).models[0].model_uri == "models:/wine/3"


# ---------------------------------------------------------------------------------------------- the server


@pytest.mark.parametrize(
    ("settings", "path", "value"),
    [
        ({"host": "0.0.0.0"}, "host", "0.0.0.0"),
        ({"http_port": 9000}, "http.port", 9000),
        ({"http_port": "9000"}, "http.port", 9000),
        ({"grpc_port": 9001}, "grpc.port", 9001),
        ({"grpc_max_message_length": 1000}, "grpc.max_message_bytes", 1000),
        ({"grpc_max_message_length": -1}, "grpc.max_message_bytes", 2**31 - 1),
        ({"grpc_max_message_length": None}, "grpc.max_message_bytes", 64 * 2**20),
        ({"log_level": "WARNING"}, "log.level", "warning"),
        ({"log_level": "CRITICAL"}, "log.level", "error"),
        ({"debug": True}, "log.level", "debug"),
        ({"debug": "true", "log_level": "ERROR"}, "log.level", "debug"),
        ({"debug": False, "log_level": "ERROR"}, "log.level", "error"),
    ],
)
def test_a_servers_setting(root: Path, settings: dict[str, object], path: str, value: object) -> None:
    def found(config: object) -> object:
        for name in path.split("."):
            config = getattr(config, name)
        return config

    variables = {
        f"MLSERVER_{name.upper()}": str(given) for name, given in settings.items() if given is not None
    }
    assert found(load(root, variables)) == value
    write(root / "settings.json", settings)
    assert found(load(root)) == value


def test_every_name_of_ours_exists() -> None:
    assert set(SERVER_NAMES.values()) <= SERVER_LEAVES.keys()


def test_who_wins(root: Path) -> None:
    ports = []
    environ: dict[str, str] = {}
    flags: dict[str, str] = {}
    for step in (
        lambda: environ.update(MLSERVER_HTTP_PORT="9001"),
        lambda: write(root / "settings.json", {"http_port": 9002}),
        lambda: flags.update(config=str(write(root.parent / "c.json", {"http": {"port": 9003}}))),
        lambda: environ.update(OIPSERVER_HTTP_PORT="9004"),
        lambda: flags.update(http_port="9005"),
    ):
        step()
        ports.append(load(root, environ, flags).http.port)
    assert ports == [9001, 9002, 9003, 9004, 9005]


def test_our_flags_are_laid_over_a_model(root: Path) -> None:
    (model,) = load(root, {"OIPSERVER_INSTANCES": "3"}, {"max_batch_size": "7"}).models
    assert (model.name, model.max_batch_size, model.instance_group.count) == ("iris", 7, 3)


# ------------------------------------------------------------------------------------------ the environment


def test_the_environment_fills_in_what_a_file_leaves_out(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "iris.joblib", "")  # two folders above the settings
    environ = {
        "MLSERVER_MODEL_NAME": "flowers",
        "MLSERVER_MODEL_VERSION": "v3",
        "MLSERVER_MODEL_URI": "../../iris.joblib",
        "MLSERVER_MODEL_IMPLEMENTATION": MLFLOW,
        "MLSERVER_MODEL_EXTRA": '{"n_jobs": 2}',
        "mlserver_model_max_batch_size": "8",
        "MLSERVER_MODEL_MAX_BATCH_TIME": "0.5",
    }
    (model,) = load(root, environ).models
    assert (model.name, model.version, model.runtime) == ("flowers", "v3", "sklearn")
    assert (model.model_uri, model.parameters) == (str(tmp_path / "iris.joblib"), {"n_jobs": 2})
    assert (model.max_batch_size, model.dynamic_batching.max_queue_delay_microseconds) == (8, 500_000)


@pytest.mark.parametrize(
    "variable", ["OIPSERVER_MODEL_REPOSITORY", "MLSERVER_MODELS_DIR", "MLSERVER_MODEL_REPOSITORY_ROOT"]
)
def test_the_environment_names_the_repository(root: Path, variable: str) -> None:
    assert [model.name for model in load_config({}, {variable: str(root)}).models] == ["iris"]


def test_a_file_of_ours_names_the_repository_that_lies_beside_it(root: Path) -> None:
    file = write(root.parent / "server.json", {"model_repository": "./models"})
    assert [model.name for model in load_config({"config": str(file)}, {}).models] == ["iris"]


def test_a_model_of_the_environment_needs_a_path() -> None:
    with pytest.raises(
        ConfigError, match=r"^MLSERVER_MODEL_URI: expected a local path or a URI, got nothing$"
    ):
        load_config({}, {"MLSERVER_MODEL_IMPLEMENTATION": SKLEARN})


def test_a_model_without_any_file_as_kserve_starts_mlserver(root: Path) -> None:
    (root / "iris" / "model-settings.json").unlink()
    environ = {
        "MLSERVER_MODEL_IMPLEMENTATION": SKLEARN,
        "MLSERVER_MODEL_NAME": "sklearn-iris",
        "MLSERVER_MODEL_URI": str(root / "iris"),
        "MLSERVER_HTTP_PORT": "8080",
        "MLSERVER_GRPC_PORT": "9000",
        "MLSERVER_MODELS_DIR": str(root),
    }
    config = load_config({}, environ)
    assert config.models == (ModelConfig("sklearn-iris", "sklearn", str(root / "iris" / "model.joblib")),)
    assert config.grpc.port == 9000


def test_a_model_of_ours_is_not_joined_by_one_of_the_environment(root: Path) -> None:
    environ = {"MLSERVER_MODEL_IMPLEMENTATION": SKLEARN, "MLSERVER_MODEL_URI": str(root)}
    flags = {"model_uri": str(root / "iris" / "model.joblib"), "runtime": "sklearn"}
    assert [model.name for model in load_config(flags, environ).models] == ["model"]


def test_what_kubernetes_injects_for_a_service_called_mlserver(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    environ = {
        "MLSERVER_SERVICE_HOST": "10.0.0.1",
        "MLSERVER_SERVICE_PORT": "8080",
        "MLSERVER_PORT": "tcp://10.0.0.1:8080",
        "MLSERVER_HTTP_PORT": "tcp://10.0.0.1:8080",
        "MLSERVER_PORT_8080_TCP_ADDR": "10.0.0.1",
    }
    assert load(root, environ).http.port == 8080
    assert caplog.records == []


# ------------------------------------------------------------------------------- without effect, unknown


def test_what_has_no_effect_is_told_once(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("iris", "a"):
        write(
            root / name / "model-settings.json",
            {
                "implementation": SKLEARN,
                "warm_workers": True,
                "flavour": 1,
                "parameters": {"uri": "../iris", "content_type": "np", "odd": 1},
            },
        )
    write(root / "settings.json", {"parallel_workers": 4, "kafka_enabled": False, "flavor": 2})
    with caplog.at_level(logging.INFO, "oipserver.config"):
        config = load(root, {"MLSERVER_METRICS_PORT": "8082", "MLSERVER_ODD": "1", "MLSERVER_MODEL_ODD": "1"})
    assert len(config.models) == 2
    without, unknown = [record.getMessage() for record in caplog.records]
    for name in (
        "parallel_workers",
        "kafka_enabled",
        "metrics_port",
        "warm_workers",
        "parameters.content_type",
    ):
        assert without.count(name) == 1
    assert unknown == (
        "not among MLServer's settings, and ignored: MLSERVER_ODD, MLSERVER_MODEL_ODD, "
        f"{root}/settings.json: flavor, "
        f"{root}/a/model-settings.json: flavour, {root}/a/model-settings.json: parameters.odd, "
        f"{root}/iris/model-settings.json: flavour, {root}/iris/model-settings.json: parameters.odd"
    )


# --------------------------------------------------------------------------------------------- what is wrong

ONES = (
    "of MLServer's implementations mlserver_sklearn.SKLearnModel and mlserver_mlflow.MLflowRuntime "
    "are supported"
)
OWN = "a class of your own has to become a runtime, or a function"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            {"implementation": "mlserver_huggingface.HuggingFaceRuntime"},
            f"implementation: {ONES}, got 'mlserver_huggingface.HuggingFaceRuntime'",
        ),
        (
            {"implementation": "models.MyModel"},
            f"implementation: {ONES}, got 'models.MyModel'; {OWN}",
        ),
        ({"implementation": 7}, f"implementation: {ONES}, got int 7; {OWN}"),
        ({}, "implementation: expected an installed runtime, got nothing"),
        (
            {"implementation": SKLEARN, "parameters": {"uri": "nothing.joblib"}},
            "parameters.uri: no such file or directory: ",
        ),
        ({"implementation": SKLEARN, "name": "a b"}, "name: expected 1 to 128 of the characters"),
        ({"implementation": SKLEARN, "parameters": []}, "parameters: expected an object, got list []"),
        (
            {"implementation": SKLEARN, "max_batch_time": "soon"},
            "max_batch_time: expected a number, got 'soon'",
        ),
        (
            {"implementation": SKLEARN, "max_batch_time": "inf"},
            "max_batch_time: expected a number, got 'inf'",
        ),
        (
            {"implementation": SKLEARN, "parameters": {"extra": 1}},
            "parameters.extra: expected a table of values",
        ),
    ],
)
def test_a_model_that_cannot_be_served(root: Path, settings: dict[str, object], problem: str) -> None:
    path = write(root / "iris" / "model-settings.json", settings)
    (found,) = problems(root)
    assert found.startswith(f"{path}: {problem}")


@pytest.mark.parametrize("name", ["settings.json", "iris/model-settings.json"])
@pytest.mark.parametrize(
    ("text", "problem"),
    [("{", "Expecting property name"), ("[]", "expected an object, got list []"), ("\x80", "'utf-8'")],
)
def test_a_file_that_cannot_be_read(root: Path, name: str, text: str, problem: str) -> None:
    (root / name).write_bytes(text.encode("latin-1"))
    assert problems(root)[0].startswith(f"{root / name}: {problem}")


def test_a_path_that_is_too_long_is_a_problem_like_any_other(root: Path) -> None:
    settings = {"implementation": SKLEARN, "parameters": {"uri": "a" * 5000}}
    write(root / "iris" / "model-settings.json", settings)
    (problem,) = problems(root)
    assert "parameters.uri: no such file or directory" in problem


def test_a_time_without_end_is_no_number(root: Path) -> None:
    settings = {
        "implementation": SKLEARN,
        "max_batch_size": 8,
        "max_batch_time": 1e308,
    }
    write(root / "iris" / "model-settings.json", settings)
    (problem,) = problems(root)
    assert "max_batch_time: expected a number, got float 1e+308" in problem


def test_a_bad_value_names_its_place(root: Path) -> None:
    write(root / "settings.json", {"http_port": "many"})
    (problem,) = problems(root)
    assert problem.startswith(f"{root}/settings.json: http_port: expected a port from 0")
    (root / "settings.json").unlink()
    (problem,) = problems(root, MLSERVER_GRPC_PORT="99999")
    assert problem.startswith("MLSERVER_GRPC_PORT: expected a port from 0")
    (problem,) = problems(root, MLSERVER_MODEL_EXTRA="{")
    assert problem.startswith("MLSERVER_MODEL_EXTRA: expected JSON")


def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    assert problems(tmp_path / "none") == [
        f"--model-repository: expected a directory that exists, got '{tmp_path}/none'"
    ]


def test_a_repository_without_models(tmp_path: Path) -> None:
    assert problems(tmp_path) == [f"--model-repository: no model-settings.json in '{tmp_path}' or below"]


def test_two_models_of_one_name_and_version(root: Path) -> None:
    write(root / "other" / "model-settings.json", {"implementation": SKLEARN, "name": "iris"})
    assert problems(root) == ["models: 'iris' version '1' is there 2 times"]
