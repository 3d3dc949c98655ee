"""Compiled execution: the same answers as scikit-learn's, or scikit-learn itself and the reason."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import grpc
import joblib
import numpy as np
import pandas
import pytest
from oipserver_sklearn import SklearnRuntime
from oipserver_sklearn.model import SklearnModel
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsRegressor,
    KNeighborsTransformer,
    LocalOutlierFactor,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import oipserver
from oipserver import Array, Arrays, InvalidInput, ModelConfig
from oipserver.config import ConfigError, load_config
from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest, ModelInferResponse
from tests.server_process import ServerProcess

IRIS, SPECIES = load_iris(return_X_y=True)
CANCER, BENIGN = load_breast_cancer(return_X_y=True)
DIABETES, PROGRESS = load_diabetes(return_X_y=True)
NAMES = load_iris().target_names
HOLED = np.where(np.random.default_rng(0).random(CANCER.shape) < 0.05, np.nan, CANCER)
DATA = {4: IRIS, 30: CANCER, 10: DIABETES}

INFER = "/inference.GRPCInferenceService/ModelInfer"


def forest(**options: Any) -> RandomForestClassifier:
    return RandomForestClassifier(20, random_state=0, **options)


TREES = {
    "forest": (forest(), CANCER, BENIGN),
    "forest with missing values": (forest(), HOLED, BENIGN),
    "forest of texts": (forest(min_samples_leaf=4), IRIS, NAMES[SPECIES]),
    "extra trees": (ExtraTreesClassifier(20, random_state=0), CANCER, BENIGN.astype(bool)),
    "tree": (DecisionTreeClassifier(random_state=0), IRIS, SPECIES.astype(float)),
    "boosted": (GradientBoostingClassifier(n_estimators=20), IRIS, SPECIES),
    "boosted, two classes": (GradientBoostingClassifier(n_estimators=20), CANCER, BENIGN),
    "boosted, exponential": (GradientBoostingClassifier(loss="exponential", n_estimators=9), CANCER, BENIGN),
    "boosted histograms": (HistGradientBoostingClassifier(max_iter=5), IRIS, SPECIES),
    "boosted histograms, two classes": (HistGradientBoostingClassifier(max_iter=5), HOLED, BENIGN),
    "forest regressor": (RandomForestRegressor(20, random_state=0), DIABETES, PROGRESS),
    "forest of two numbers": (RandomForestRegressor(9), DIABETES, np.c_[PROGRESS, -PROGRESS]),
    "tree regressor": (DecisionTreeRegressor(), DIABETES, PROGRESS),
    "boosted regressor": (GradientBoostingRegressor(n_estimators=20), DIABETES, PROGRESS),
    "boosted histograms regressor": (HistGradientBoostingRegressor(max_iter=5), DIABETES, PROGRESS),
    "poisson": (HistGradientBoostingRegressor(loss="poisson", max_iter=5), DIABETES, PROGRESS),
}
OTHERS = {
    "forest that never splits": (forest(), np.zeros((20, 4)), np.arange(20) % 2),
    "logistic": (LogisticRegression(max_iter=1000), IRIS, SPECIES),
    "logistic, two classes": (LogisticRegression(solver="newton-cholesky"), CANCER, BENIGN),
    "scaled": (make_pipeline(StandardScaler(), LogisticRegression()), IRIS, NAMES[SPECIES]),
    "scaled forest": (make_pipeline(MinMaxScaler(), forest()), IRIS, SPECIES),
    "imputed": (make_pipeline(SimpleImputer(), StandardScaler(), forest()), HOLED, BENIGN),
    "network": (MLPClassifier(hidden_layer_sizes=(8,), tol=1e9, max_iter=20), IRIS, SPECIES),
    "network of numbers": (MLPRegressor(hidden_layer_sizes=(8,), tol=1e9, max_iter=20), IRIS, SPECIES),
    "linear": (LinearRegression(), DIABETES, PROGRESS),
    "ridge": (Ridge(), DIABETES, PROGRESS),
    "ridge classifier": (RidgeClassifier(), IRIS, SPECIES),
    "margin": (LinearSVC(), IRIS, SPECIES),
    "bayes": (GaussianNB(), IRIS, SPECIES),
    "bagging": (BaggingClassifier(random_state=0), IRIS, SPECIES),
    "clusters": (KMeans(3, n_init=1, random_state=0), IRIS, None),
    "scaler": (StandardScaler(), IRIS, None),
}
NATIVE = {
    "kernel": (SVC(), IRIS, SPECIES, "a number differs by "),
    "kernel of numbers": (SVR(), IRIS, SPECIES, "it cannot be converted: "),
    "words": (
        make_pipeline(TfidfVectorizer(), LogisticRegression()),
        ["a cat", "a dog"],
        [0, 1],
        "it cannot be converted: the model reads text",
    ),
    "categories": (
        HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]),
        np.c_[np.arange(99) % 5, np.arange(99)],
        np.arange(99) % 2,
        "it cannot be converted: ",
    ),
    "own function": (
        TransformedTargetRegressor(LinearRegression(), func=np.log1p, inverse_func=np.expm1),
        DIABETES,
        PROGRESS,
        "it cannot be converted: ",
    ),
    "two targets": (forest(), IRIS, np.c_[SPECIES, SPECIES], "it cannot be converted: "),
}
MODELS = {name: given[:3] for name, given in (TREES | OTHERS | NATIVE).items()}


@cache
def fitted(name: str) -> Any:
    estimator, rows, answers = MODELS[name]
    return estimator.fit(rows, answers)


def wrap(estimator: Any, execution: str = "compiled", **options: Any) -> SklearnModel:
    config = ModelConfig("m", "sklearn", execution=execution, **options)  # type: ignore[arg-type]
    model = SklearnRuntime().wrap(estimator, config)
    assert isinstance(model, SklearnModel)
    return model


@cache
def compiled(name: str) -> SklearnModel:
    return wrap(fitted(name))


def ask(model: SklearnModel, rows: Any, output: str) -> Array:
    inputs: Arrays = rows if isinstance(rows, dict) else {"input-0": rows}
    return model.predict(inputs, [output], {})[output]


def refusal(model: SklearnModel, rows: Any, output: str) -> str:
    """Why the rows are refused; "" when they are answered."""
    try:
        ask(model, rows, output)
    except InvalidInput as refused:
        return str(refused)
    return ""


def assert_same(model: SklearnModel, native: SklearnModel, rows: Any, output: str) -> None:
    """Both refuse the rows, in the same words, or give the same answer."""
    refused = refusal(native, rows, output)
    assert refusal(model, rows, output) == refused
    if not refused:
        ours, theirs = ask(model, rows, output), ask(native, rows, output)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-12)


def has_forks(model: Any) -> bool:
    return not (isinstance(model, HistGradientBoostingClassifier | HistGradientBoostingRegressor))


def beside_thresholds(estimator: Any, rows: Array) -> Array:
    """The rows, with values at the forks of the first trees and one float32 step away from them."""
    trees = [one.tree_ for one in np.ravel(getattr(estimator, "estimators_", [estimator]))[:5]]
    made: list[Array] = []
    for tree in trees:
        forks = (tree.feature >= 0) & np.isfinite(tree.threshold)  # an infinite one keeps NaN apart
        for feature, threshold in zip(tree.feature[forks], tree.threshold[forks], strict=True):
            short = np.float32(threshold)
            for value in (threshold, short, np.nextafter(short, np.inf), np.nextafter(short, -np.inf)):
                row = rows[len(made) % len(rows)].copy()
                row[feature] = value
                made.append(row)
    return np.array(made)


# ----------------------------------------------------------------------------------------------- same answers


@pytest.mark.parametrize("name", TREES | OTHERS)
def test_it_is_compiled_and_says_what_was_compared(name: str) -> None:
    model, facts = compiled(name), compiled(name).parameters
    assert facts["execution"] == "compiled"
    assert "execution_native" not in facts
    assert str(facts["execution_engine"]).startswith("onnxruntime 1.")
    assert facts["execution_tolerance"] == 1e-6
    checked: Any = facts["execution_checked"]
    assert list(checked) == list(model.calls)
    for found in checked.values():
        assert found["rows"] >= 256
        assert found["real_rows"] == 0
        assert 0 <= found["max_difference"] <= 1e-6


@pytest.mark.parametrize("name", TREES | OTHERS)
def test_every_method_answers_as_natively(name: str) -> None:
    model, native = compiled(name), wrap(fitted(name), "native")
    for count, output in product((1, 7, 150), model.calls):
        rows = np.asfortranarray(DATA[model.inputs[0].shape[1]][:count] * 1.01)
        rows.flags.writeable = False
        ours, theirs = ask(model, rows, output), ask(native, rows, output)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        if theirs.dtype.kind == "f":
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-12)
        else:
            assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("name", [name for name, (model, *_) in TREES.items() if has_forks(model)])
def test_sums_of_leaves_are_equal_to_the_last_bit_at_every_fork(name: str) -> None:
    estimator, model = fitted(name), compiled(name)
    rows = beside_thresholds(estimator, DATA[estimator.n_features_in_])
    # Boosting makes its probabilities of the sums, by an exponential.
    for method in model.calls.keys() - ({"predict_proba"} if name.startswith("boosted") else set()):
        assert model.calls[method](rows).tolist() == getattr(estimator, method)(rows).tolist()


# --------------------------------------------------------------------------- what scikit-learn refuses or not


@pytest.mark.filterwarnings("ignore:(overflow|invalid value):RuntimeWarning")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e39, 1e300])
@pytest.mark.parametrize("name", ["forest", "forest with missing values", "boosted", "logistic", "imputed"])
def test_unusual_numbers_are_taken_or_refused_as_natively(name: str, value: float) -> None:
    rows = DATA[fitted(name).n_features_in_][:3].copy()
    rows[1, 2] = value
    native = wrap(fitted(name), "native")
    for output in compiled(name).calls:
        assert_same(compiled(name), native, rows, output)


FRAME = pandas.DataFrame(
    {
        "age": np.arange(120) % 60 + 18.0,
        "city": np.array(["Paris", "Rome", "Ulm"], dtype=object)[np.arange(120) % 3],
        "floor": np.arange(120) % 4,
        "pets": np.arange(120) % 5 > 2,
    }
)
RICH = (FRAME.age > 40) & (FRAME.city != "Ulm")


@cache
def mixed(handle_unknown: str) -> Pipeline:
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age"]),
            ("cities", OneHotEncoder(handle_unknown=handle_unknown, sparse_output=False), ["city"]),
            ("floors", OneHotEncoder(handle_unknown=handle_unknown, sparse_output=False), ["floor"]),
            ("rest", "passthrough", ["pets"]),
        ]
    )
    return make_pipeline(columns, forest()).fit(FRAME, RICH)


def tensors(frame: pandas.DataFrame) -> dict[str, Array]:
    columns = {name: frame[name].to_numpy().reshape(-1, 1) for name in frame}
    columns["city"] = np.array([[city.encode()] for city in frame.city], dtype=object)
    return columns | {name: columns[name].astype(float) for name in ("floor", "pets")}


@pytest.mark.parametrize("handle_unknown", ["error", "ignore"])
def test_named_columns_of_text_and_numbers(handle_unknown: str) -> None:
    estimator = mixed(handle_unknown)
    model, native = wrap(estimator), wrap(estimator, "native")
    assert list(model.parameters["execution_checked"]) == ["predict", "predict_proba"]  # type: ignore[call-overload]
    assert np.array_equal(ask(model, tensors(FRAME), "predict_proba"), estimator.predict_proba(FRAME))
    for column, value in (("city", "Oslo"), ("floor", 9), ("floor", 1.5)):
        rows = tensors(FRAME.astype({"floor": float}).assign(**{column: value})[:2])
        assert_same(model, native, rows, "predict_proba")
        assert bool(refusal(native, rows, "predict_proba")) == (handle_unknown == "error")


def test_categories_in_a_matrix() -> None:
    rows = np.c_[np.arange(60) % 3, np.arange(60) % 7].astype(float)
    model = wrap(make_pipeline(OrdinalEncoder(), forest()).fit(rows, rows.sum(axis=1) > 4))
    assert model.parameters["execution"] == "compiled"
    with pytest.raises(InvalidInput, match="unknown categories"):
        ask(model, np.array([[1.0, 1.5]]), "predict")


# ----------------------------------------------------------------------------------------- otherwise natively


@pytest.mark.parametrize("name", NATIVE)
def test_it_stays_native_and_says_why(name: str, caplog: pytest.LogCaptureFixture) -> None:
    estimator, reason = fitted(name), NATIVE[name][3]
    model = wrap(estimator)
    native = wrap(estimator, "native")
    assert model.parameters["execution"] == "native"
    assert str(model.parameters["execution_reason"]).startswith(reason)
    (warning,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert f"model 'm': executed natively: {reason}" in warning.getMessage()
    for output in native.calls:
        assert ask(model, model.example["input-0"], output).tolist() == ask(  # type: ignore[index]
            native, model.example["input-0"], output  # type: ignore[index]
        ).tolist()  # fmt: skip


def test_no_difference_is_within_no_tolerance() -> None:
    model = wrap(fitted("network"), execution_tolerance=0.0)
    assert model.parameters["execution"] == "native"
    assert str(model.parameters["execution_reason"]).endswith("above 0")
    assert wrap(fitted("forest"), execution_tolerance=0.0).parameters["execution"] == "compiled"


def test_a_tolerance_can_let_more_through() -> None:
    assert wrap(fitted("kernel"), execution_tolerance=1e-2).parameters["execution"] == "compiled"


def test_one_method_may_stay_native(caplog: pytest.LogCaptureFixture) -> None:
    clusters = KMeans(3, n_init=1, random_state=0).fit(IRIS)
    clusters.predict = lambda rows: KMeans.predict(clusters, rows) + 1
    model = wrap(clusters)
    assert list(model.parameters["execution_checked"]) == ["transform"]  # type: ignore[call-overload]
    assert model.parameters["execution_native"] == {"predict": "labels are not the same"}
    assert "model 'm': predict is executed natively: labels are not the same" in caplog.text


@pytest.mark.parametrize("before", [[], [StandardScaler()]])
def test_clusters_stay_native_where_the_distances_to_them_differ(before: list[Any]) -> None:
    estimator = make_pipeline(*before, KMeans(3, n_init=1, random_state=0)).fit(IRIS)
    clusters = estimator.steps[-1][1]
    clusters.transform = lambda rows: 2.0 * KMeans.transform(clusters, rows)
    model = wrap(estimator if before else clusters)
    assert model.parameters["execution"] == "native"
    reason = str(model.parameters["execution_reason"])
    assert reason.removeprefix("transform differs: ").startswith("a number differs by 5.0e-01")


NEIGHBOURS = {
    "classifier": KNeighborsClassifier(),
    "regressor": KNeighborsRegressor(),
    "outliers": LocalOutlierFactor(novelty=True),
    "pipeline": make_pipeline(StandardScaler(), KNeighborsClassifier()),
    "bagging": BaggingRegressor(KNeighborsRegressor(), 2, random_state=0),
    "search": GridSearchCV(Pipeline([("last", Ridge())]), {"last": [KNeighborsRegressor()]}, cv=2),
    "frozen": TransformedTargetRegressor(FrozenEstimator(KNeighborsRegressor().fit(IRIS, SPECIES))),
    "columns": make_pipeline(ColumnTransformer([("a", KNeighborsTransformer(), [0, 1, 2, 3])]), Ridge()),
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_neighbours_stay_native(name: str) -> None:
    facts = wrap(NEIGHBOURS[name].fit(IRIS, SPECIES)).parameters
    assert facts["execution"] == "native"
    assert facts["execution_reason"] == "ties between neighbours are decided by their order"


def test_ties_between_neighbours_are_decided_as_natively() -> None:
    estimator = KNeighborsClassifier().fit(IRIS, SPECIES)
    grid = np.random.default_rng(0).uniform(IRIS.min(axis=0), IRIS.max(axis=0), (2000, 4)).round(1)
    assert np.array_equal(ask(wrap(estimator), grid, "predict_proba"), estimator.predict_proba(grid))


def test_auto_compiles_what_is_faster_so(caplog: pytest.LogCaptureFixture) -> None:
    fast = wrap(fitted("bayes"), "auto")
    assert fast.parameters["execution"] == "compiled"
    caplog.set_level(logging.INFO)
    slow = wrap(fitted("linear"), "auto")
    assert slow.parameters["execution"] == "native"
    assert str(slow.parameters["execution_reason"]).startswith("it is not faster: ")
    assert not [one for one in caplog.records if one.levelno > logging.INFO]
    assert "it is not faster: " in caplog.text


def test_native_is_the_default_and_loads_nothing() -> None:
    assert wrap(fitted("forest"), "native").parameters["execution"] == "native"
    assert ModelConfig("m", "sklearn").execution == "native"
    program = (
        "import sys; from oipserver_sklearn import SklearnRuntime as R;"
        "from oipserver import ModelConfig as C;"
        "from sklearn.dummy import DummyClassifier as D; R().wrap(D().fit([[0]], [0]), C('m', 'sklearn'));"
        "print(' '.join(sys.modules)); print('ready: ')"
    )
    process = ServerProcess(program=["-c", program]).start()
    assert process.wait() == 0
    assert "oipserver_sklearn" in process.output
    assert not {"onnx", "onnxruntime", "skl2onnx"} & set(process.output.split())


# ---------------------------------------------------------------------------------------------- a real server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    joblib.dump(fitted("forest"), folder / "forest.joblib")
    oipserver.write_golden(fitted("forest"), {"input-0": CANCER[:25]}, folder / "forest.golden.json")
    joblib.dump(fitted("kernel"), folder / "kernel.joblib")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    models = [
        {"runtime": "sklearn", "model_uri": f"{name}.joblib", "execution": "compiled"}
        for name in ("forest", "kernel")
    ]
    (folder / "models.json").write_text(json.dumps({"models": models}))
    with ServerProcess("--config", str(folder / "models.json")) as server:
        yield server


def read(server: ServerProcess, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urlopen(server.http_url + path, data, timeout=30) as answer:
        return json.load(answer)


def question(rows: Array) -> dict[str, Any]:
    tensor = {"name": "input-0", "shape": list(rows.shape), "datatype": "FP64", "data": rows.tolist()}
    return {"inputs": [tensor], "outputs": [{"name": "predict"}, {"name": "predict_proba"}]}


def test_metadata_tells_what_was_compared(server: ServerProcess) -> None:
    facts = read(server, "/v2/models/forest")["parameters"]
    assert facts["execution"] == "compiled"
    assert facts["execution_checked"] == {
        method: {"rows": 1049, "real_rows": 25, "max_difference": 0.0}
        for method in ("predict", "predict_proba")
    }
    assert "same answers as natively within 1e-06: predict on 1049 rows" in server.output


def test_the_answers_over_http(server: ServerProcess) -> None:
    labels, chances = read(server, "/v2/models/forest/infer", question(CANCER[:9]))["outputs"]
    assert labels["data"] == fitted("forest").predict(CANCER[:9]).tolist()
    assert chances["data"] == fitted("forest").predict_proba(CANCER[:9]).ravel().tolist()
    infinite = CANCER[:1].copy()
    infinite[0, 0] = 1e39
    with pytest.raises(HTTPError) as refused:
        read(server, "/v2/models/forest/infer", question(infinite))
    assert refused.value.code == 422
    assert "too large for dtype('float32')" in refused.value.read().decode()


def test_the_answers_over_grpc(server: ServerProcess) -> None:
    request = ModelInferRequest(model_name="forest")
    request.inputs.add(name="input-0", datatype="FP64", shape=[9, 30])
    request.raw_input_contents.append(CANCER[:9].tobytes())
    request.outputs.add(name="predict_proba")
    with grpc.insecure_channel(server.grpc_target) as channel:
        infer = channel.unary_unary(
            INFER,
            request_serializer=ModelInferRequest.SerializeToString,
            response_deserializer=ModelInferResponse.FromString,
        )
        answer = infer(request, timeout=30)
    chances = np.frombuffer(answer.raw_output_contents[0]).reshape(9, 2)
    assert np.array_equal(chances, fitted("forest").predict_proba(CANCER[:9]))


def test_a_model_that_stays_native_is_served_and_warned_of(server: ServerProcess) -> None:
    facts = read(server, "/v2/models/kernel")["parameters"]
    assert facts["execution"] == "native"
    assert f"model 'kernel': executed natively: {facts['execution_reason']}" in server.output


def test_without_the_library_it_is_native_and_says_what_to_install(folder: Path) -> None:
    program = "import sys; sys.modules['skl2onnx'] = None; from oipserver.cli import main; sys.exit(main())"
    flags = ("--runtime=sklearn", "--model-uri", str(folder / "forest.joblib"), "--execution=compiled")
    ports = ("--http-port=0", "--grpc-port=off", "--shutdown-lame-duck=0")
    with ServerProcess(program=["-c", program, *flags, *ports]) as server:
        facts = read(server, "/v2/models/forest")["parameters"]
        assert facts["execution"] == "native"
        assert 'pip install "oipserver[compiled]"' in facts["execution_reason"]
        assert facts["execution_reason"] in server.output


# ---------------------------------------------------------------------------------------------- configuration


def test_flag_environment_and_file(folder: Path) -> None:
    given = {"runtime": "sklearn", "model_uri": str(folder / "forest.joblib")}
    (model,) = load_config({**given, "execution": "AUTO"}, {"OIPSERVER_EXECUTION_TOLERANCE": "1e-4"}).models
    assert (model.execution, model.execution_tolerance) == ("auto", 1e-4)
    file = folder / "models.yaml"
    file.write_text(
        "models: [{runtime: sklearn, model_uri: forest.joblib, execution: compiled, execution_tolerance: 0}]"
    )
    (model,) = load_config({"config": str(file)}, {}).models
    assert (model.execution, model.execution_tolerance) == ("compiled", 0.0)
    with pytest.raises(ConfigError) as wrong:
        load_config({**given, "execution": "fast", "execution_tolerance": "-1"}, {})
    assert wrong.value.problems == [
        "--execution: expected one of native, compiled, auto, got 'fast'",
        "--execution-tolerance: expected a number from 0 to below 1, got '-1'",
    ]
