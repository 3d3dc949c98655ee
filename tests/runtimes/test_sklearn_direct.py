"""The direct functions give every bit of scikit-learn's own answers, and are used where they are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pytest
from oipserver_sklearn import SklearnRuntime
from oipserver_sklearn.direct import direct_call, trees
from oipserver_sklearn.direct.parity import difference
from oipserver_sklearn.private_copy import private_copy
from sklearn.base import BaseEstimator
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Perceptron,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from threadpoolctl import threadpool_limits

from oipserver import Array, InvalidInput, Model, ModelConfig

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, y = load_iris(return_X_y=True)
SINGLE = X.astype(np.float32)
TWO = y == 1
NAMES = np.array(["setosa", "versicolor", "virginica"])[y]
OBJECTS = NAMES.astype(object)
TARGETS = np.column_stack([y, X[:, 0]])
LABELS = np.column_stack([y, y == 1])
SEVERAL = np.column_stack([y == 1, y == 2]).astype(int)

PROBABLE = ("predict", "predict_proba")
SCORED = ("predict", "decision_function")
ALL = ("predict", "predict_proba", "decision_function")


def network(**options: Any) -> dict[str, Any]:
    return {"hidden_layer_sizes": (8, 5), "solver": "lbfgs", "max_iter": 5, "random_state": 0, **options}


# name → (estimator, its rows, its targets, the methods that are direct)
CASES: dict[str, tuple[BaseEstimator, Array, Array, tuple[str, ...]]] = {
    "logistic": (LogisticRegression(), X, y, ALL),
    "logistic binary": (LogisticRegression(), X, TWO, ALL),
    "logistic names": (LogisticRegression(), X, NAMES, ALL),
    "logistic objects": (LogisticRegression(), X, OBJECTS, ALL),
    "logistic float32": (LogisticRegression(), SINGLE, y, ALL),
    "no intercept": (LogisticRegression(fit_intercept=False), X, y, ALL),
    "ridge classifier": (RidgeClassifier(), X, y, SCORED),
    "ridge classifier binary": (RidgeClassifier(), X, NAMES == "setosa", SCORED),
    "descent": (SGDClassifier(random_state=0), X, y, SCORED),
    "descent log": (SGDClassifier(loss="log_loss", random_state=0), X, y, ALL),
    "descent log binary": (SGDClassifier(loss="log_loss", random_state=0), X, TWO, ALL),
    "discriminant": (LinearDiscriminantAnalysis(), X, NAMES, ALL),
    "discriminant binary": (LinearDiscriminantAnalysis(), X, TWO, ALL),
    "perceptron": (Perceptron(), X, y, SCORED),
    "linear svc": (LinearSVC(), X, NAMES, SCORED),
    "linear": (LinearRegression(), X, X[:, 0] * 2 - y, ("predict",)),
    "linear targets": (LinearRegression(), X, TARGETS, ("predict",)),
    "linear float32": (LinearRegression(), SINGLE, TARGETS.astype(np.float32), ("predict",)),
    "ridge": (Ridge(), X, TARGETS, ("predict",)),
    "lasso": (Lasso(0.1), X, y, ("predict",)),
    "elastic net": (ElasticNet(0.1), X, TARGETS, ("predict",)),
    "linear svr": (LinearSVR(), X, y, ("predict",)),
    "descent regressor": (SGDRegressor(random_state=0), X, y, ("predict",)),
    "tree": (DecisionTreeClassifier(random_state=0), X, NAMES, PROBABLE),
    "tree labels": (DecisionTreeClassifier(random_state=0), X, LABELS, PROBABLE),
    "tree regressor": (DecisionTreeRegressor(random_state=0), X, X[:, 0], ("predict",)),
    "tree targets": (DecisionTreeRegressor(random_state=0), X, TARGETS, ("predict",)),
    "forest": (RandomForestClassifier(13, random_state=0), X, y, PROBABLE),
    "forest float32": (RandomForestClassifier(13, random_state=0), SINGLE, y, PROBABLE),
    "forest binary": (RandomForestClassifier(13, random_state=0), X, TWO, PROBABLE),
    "forest names": (RandomForestClassifier(13, random_state=0), X, NAMES, PROBABLE),
    "forest labels": (RandomForestClassifier(13, random_state=0), X, LABELS, PROBABLE),
    "forest of stumps": (RandomForestRegressor(9, max_depth=1, random_state=0), X, -X[:, 0], ("predict",)),
    "forest of roots": (RandomForestRegressor(9), X, np.full(len(X), -0.1), ("predict",)),
    "forest regressor": (RandomForestRegressor(13, random_state=0), X, X[:, 0] / 3, ("predict",)),
    "forest targets": (RandomForestRegressor(13, random_state=0), X, TARGETS / 3, ("predict",)),
    "extra trees": (ExtraTreesClassifier(13, random_state=0), X, y, PROBABLE),
    "extra trees regressor": (ExtraTreesRegressor(13, random_state=0), X, X[:, 0] / 3, ("predict",)),
    "boosting": (GradientBoostingClassifier(n_estimators=7), X, NAMES, ALL),
    "boosting binary": (GradientBoostingClassifier(n_estimators=7), X, TWO, ALL),
    "boosting exponential": (GradientBoostingClassifier(n_estimators=7, loss="exponential"), X, TWO, ALL),
    "boosting from zero": (GradientBoostingClassifier(n_estimators=7, init="zero"), X, y, ALL),
    "boosting regressor": (GradientBoostingRegressor(n_estimators=7), X, X[:, 0], ("predict",)),
    "boosting quantile": (GradientBoostingRegressor(n_estimators=7, loss="quantile"), X, y, ("predict",)),
    "histograms": (HistGradientBoostingClassifier(max_iter=5), X, NAMES, ALL),
    "histograms binary": (HistGradientBoostingClassifier(max_iter=5), X, TWO, ALL),
    "histograms regressor": (HistGradientBoostingRegressor(max_iter=5), X, X[:, 0], ("predict",)),
    "histograms poisson": (HistGradientBoostingRegressor(max_iter=5, loss="poisson"), X, y, ("predict",)),
    "network": (MLPClassifier(**network()), X, NAMES, PROBABLE),
    "network binary": (MLPClassifier(**network(activation="tanh")), X, TWO, PROBABLE),
    "network labels": (MLPClassifier(**network()), X, SEVERAL, ("predict_proba",)),
    "network float32": (MLPClassifier(**network(solver="sgd")), SINGLE, y, PROBABLE),
    "network regressor": (MLPRegressor(**network(activation="logistic")), X, y, ("predict",)),
    "network targets": (MLPRegressor(**network(activation="identity")), X, TARGETS, ("predict",)),
    "svc": (SVC(), X, NAMES, ("predict",)),
    "svc binary": (SVC(kernel="linear"), X, TWO, ("predict",)),
    "svr": (SVR(), X, y, ("predict",)),
    "standard": (StandardScaler(), X, y, ("transform",)),
    "standard without mean": (StandardScaler(with_mean=False), X, y, ("transform",)),
    "standard that does nothing": (StandardScaler(with_mean=False, with_std=False), X, y, ("transform",)),
    "standard float32": (StandardScaler(), SINGLE, y, ("transform",)),
    "range": (MinMaxScaler((-1, 3)), X, y, ("transform",)),
    "range clipped": (MinMaxScaler(clip=True), X, y, ("transform",)),
    "components": (PCA(2), X, y, ("transform",)),
    "components whitened": (PCA(3, whiten=True), X, y, ("transform",)),
    "components float32": (PCA(2), SINGLE, y, ("transform",)),
    "pipeline with components": (make_pipeline(StandardScaler(), PCA(2), SVC()), X, y, ("predict",)),
    "pipeline": (make_pipeline(StandardScaler(), LogisticRegression()), X, NAMES, ALL),
    "pipeline with a forest": (
        make_pipeline(MinMaxScaler(), "passthrough", RandomForestClassifier(13, random_state=0)),
        X,
        y,
        PROBABLE,
    ),
    "pipeline of scalers": (make_pipeline(StandardScaler(), MinMaxScaler()), X, y, ("transform",)),
    "pipeline in a pipeline": (
        make_pipeline(make_pipeline(StandardScaler()), MLPRegressor(**network())),
        X,
        y,
        ("predict",),
    ),
    "search": (GridSearchCV(LogisticRegression(), {"C": [1, 2]}, cv=2), X, y, ALL),
}
PAIRS = [(name, method) for name, case in CASES.items() for method in case[3]]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Busy machines take long to start the threads of tiny products."""
    with threadpool_limits(1):
        yield


@cache
def fitted(name: str) -> Any:
    estimator, rows, targets, _ = CASES[name]
    return private_copy(estimator.fit(rows, targets))


@cache
def direct(name: str, method: str) -> Callable[[Any], Any]:
    call = direct_call(fitted(name), method)
    assert call is not None
    return call


def wrap(estimator: Any, **parameters: object) -> Model:
    config = ModelConfig(name="test", runtime="sklearn", parameters=parameters)
    model = SklearnRuntime().wrap(estimator, config)
    assert model is not None
    return model


def is_direct(model: Model, method: str) -> bool:
    """Whether what is called is no method of an estimator."""
    return not hasattr(model.calls[method], "__self__")  # type: ignore[attr-defined]


def assert_same_bits(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(ours, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same_bits(one, other)
        return
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    assert ours.tolist() == theirs.tolist() if ours.dtype.hasobject else ours.tobytes() == theirs.tobytes()


def batch(rows: int) -> Array:
    """Rows like those of the training, and as a request's may be: read-only."""
    random = np.random.default_rng(rows)
    made = X[random.integers(0, len(X), rows)] + random.normal(scale=0.3, size=(rows, 4))
    made.flags.writeable = False
    return np.asarray(made)


@pytest.mark.parametrize("rows", [1, 3, 64, 1500])
@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_no_bit_differs(name: str, method: str, rows: int) -> None:
    made = batch(rows)
    before = made.tobytes()
    assert_same_bits(direct(name, method)(made), getattr(fitted(name), method)(made))
    assert made.tobytes() == before


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_no_bit_differs_whatever_the_memory_order(name: str, method: str) -> None:
    for made in (np.asfortranarray(batch(7)), np.repeat(batch(7), 2, axis=1)[:, ::2], batch(14)[::-2]):
        assert_same_bits(direct(name, method)(made), getattr(fitted(name), method)(made))


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_rows_that_scikit_learn_refuses_are_refused(name: str, method: str) -> None:
    for wrong in (np.nan, np.inf, -np.inf, 1e39, 1e300):
        rows = X[:3].copy()
        rows[1, 2] = wrong
        with np.errstate(all="ignore"):
            ours, theirs = outcome(direct(name, method), rows), outcome(getattr(fitted(name), method), rows)
        if isinstance(theirs, str):
            assert ours == theirs
        else:
            assert_same_bits(ours, theirs)
    with pytest.raises(ValueError, match="features"):
        direct(name, method)(X[:3, :1])


def outcome(call: Callable[[Any], Any], rows: Array) -> Any:
    try:
        return call(rows)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("name", CASES)
def test_models_are_served_by_direct_functions(name: str) -> None:
    estimator, _, _, methods = CASES[name]
    fitted(name)
    model = wrap(estimator)
    for method in methods:
        if method in model.calls:  # type: ignore[attr-defined]
            assert is_direct(model, method)
    answer = model.predict({"input-0": X[:2]}, [methods[0]], {})[methods[0]]
    own = np.asarray(getattr(estimator, methods[0])(X[:2]) if methods[0] != "predict_proba" else answer)
    expected = own.reshape(2, -1).tolist()
    assert [[getattr(value, "decode", lambda v=value: v)() for value in row] for row in answer] == expected


def patched() -> LogisticRegression:
    estimator = LogisticRegression().fit(X, y)
    estimator.predict = lambda rows: np.zeros(len(rows))
    return estimator


class Overridden(LogisticRegression):  # type: ignore[misc]  # sklearn is untyped
    def predict(self, rows: Any) -> Any:
        return super().predict(rows)[::-1]


class Inherited(RandomForestClassifier):  # type: ignore[misc]
    pass


UNKNOWN: dict[str, tuple[Callable[[], Any], str]] = {
    "patched": (patched, "predict"),
    "overridden": (lambda: Overridden().fit(X, y), "predict"),
    "inherited": (lambda: Inherited(3).fit(X, y), "predict"),
    "unknown": (lambda: KNeighborsClassifier().fit(X, y), "predict"),
    "unknown step": (lambda: make_pipeline(StandardScaler(), KNeighborsClassifier()).fit(X, y), "predict"),
    "overridden step": (lambda: make_pipeline(StandardScaler(), Overridden()).fit(X, y), "predict"),
    "sparse": (lambda: LogisticRegression().fit(X, y).sparsify(), "predict"),
    "network of labels": (lambda: MLPClassifier(**network()).fit(X, SEVERAL), "predict"),
    "ridge of labels": (lambda: RidgeClassifier().fit(X, SEVERAL), "predict"),
    "several jobs": (lambda: RandomForestClassifier(3, n_jobs=2).fit(X, y), "predict"),
    "own kernel": (lambda: SVC(kernel=lambda one, other: one @ other.T).fit(X, y), "predict"),
    "ties": (lambda: SVC(break_ties=True, decision_function_shape="ovr").fit(X, y), "predict"),
    "frames": (lambda: StandardScaler().set_output(transform="pandas").fit(X), "transform"),
    "boosting of another": (
        lambda: GradientBoostingClassifier(n_estimators=2, init=LogisticRegression()).fit(X, y),
        "predict",
    ),
    "boosting of chance": (
        lambda: GradientBoostingClassifier(n_estimators=2, init=DummyClassifier(strategy="stratified")).fit(
            X, y
        ),
        "predict",
    ),
    "categories": (
        lambda: HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]).fit(X.round(), y),
        "predict",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_called_as_it_is(name: str) -> None:
    fit, method = UNKNOWN[name]
    assert direct_call(fit(), method) is None


def test_a_patched_class_is_called_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LogisticRegression, "predict", lambda self, rows: np.zeros(len(rows)))
    assert direct_call(LogisticRegression().fit(X, y), "predict") is None


def test_what_another_release_has_renamed_is_called_as_it_is() -> None:
    estimator = DecisionTreeClassifier().fit(X, y)
    estimator.tree = estimator.__dict__.pop("tree_")
    assert direct_call(estimator, "predict") is None


def test_a_function_that_differs_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    forest = RandomForestRegressor(5, random_state=0).fit(X, X[:, 0] / 3)
    forest.n_jobs = 1
    assert direct_call(forest, "predict") is not None
    monkeypatch.setattr(trees, "summed", lambda values: values[::-1].sum(axis=0))
    assert direct_call(forest, "predict") is None


@pytest.mark.parametrize(
    "other",
    [
        lambda rows: -(rows[:, 0] * 0),
        lambda rows: rows[:, 0].astype(np.float32) * 0,
        lambda rows: rows[:, :1] * 0,
        lambda rows: (rows[:, 0] * 0).tolist(),
        lambda rows: [rows[:, 0] * 0],
        lambda rows: rows[:, 4],
    ],
)
def test_parity_sees_every_bit(other: Callable[[Any], Any]) -> None:
    def zeros(rows: Array) -> Any:
        return np.zeros(len(rows))

    assert difference(zeros, zeros, 4) is None
    assert difference(other, zeros, 4) is not None


def test_forests_keep_their_way_with_missing_values() -> None:
    holed = X.copy()
    holed[::3, 1] = np.nan
    estimator = RandomForestClassifier(7, random_state=0).fit(holed, y)
    model = wrap(estimator)
    assert is_direct(model, "predict_proba")
    assert model.inputs[0].allow_nan
    answer = model.predict({"input-0": holed[:9]}, ["predict_proba"], {})["predict_proba"]
    assert_same_bits(answer, private_copy(estimator).predict_proba(holed[:9]))
    with pytest.raises(InvalidInput, match="infinity"):
        model.predict({"input-0": np.full((1, 4), np.inf)}, ["predict"], {})


def test_a_forest_too_large_to_be_copied_is_asked_tree_by_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "_MOST_NODES", 0)
    monkeypatch.setattr(trees, "_together", None)
    for name in ("forest labels", "forest targets", "forest regressor"):
        call = direct_call(fitted(name), "predict")
        assert call is not None
        assert_same_bits(call(X), fitted(name).predict(X))


def test_many_rows_are_walked_tree_by_tree_with_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "_TOGETHER", 13 * 4)
    call = direct_call(fitted("forest"), "predict_proba")
    assert call is not None
    for rows in (4, 5):
        assert_same_bits(call(X[:rows]), fitted("forest").predict_proba(X[:rows]))


def test_a_model_fitted_on_a_frame_takes_arrays_and_is_direct() -> None:
    frame = load_iris(as_frame=True).data
    model = wrap(make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, y))
    assert is_direct(model, "predict")
    framed = wrap(make_pipeline(StandardScaler().set_output(transform="pandas"), PCA(2)).fit(frame))
    assert not is_direct(framed, "transform")


@pytest.mark.parametrize("name", ["forest", "histograms", "network", "pipeline"])
def test_threads_share_a_function(name: str) -> None:
    call = direct(name, "predict_proba")
    batches = [batch(rows) for rows in range(1, 40)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(call, batches))
    for made, answer in zip(batches, answers, strict=True):
        assert_same_bits(answer, fitted(name).predict_proba(made))


def test_n_jobs_is_what_was_asked_for() -> None:
    forest = RandomForestClassifier(3, random_state=0).fit(X, y)
    assert is_direct(wrap(forest), "predict")
    assert direct_call(private_copy(forest, n_jobs=2), "predict") is None
