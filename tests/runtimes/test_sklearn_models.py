"""Every kind of estimator: what is announced is what is answered, and it is the estimator's own answer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from oipserver_sklearn import SklearnRuntime
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import DBSCAN, KMeans
from sklearn.datasets import load_diabetes, load_iris, load_linnerud
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PowerTransformer, StandardScaler
from sklearn.svm import SVC

from oipserver import BOOL, BYTES, FP64, INT64, Arrays, Datatype, InvalidInput, Model, ModelConfig

CONFIG = ModelConfig(name="test", runtime="sklearn")

X, y = load_iris(return_X_y=True)
FRAME = load_iris(as_frame=True).data
NAMES = np.array(["setosa", "versicolor", "virginica"])[y]
SUGAR_X, SUGAR = load_diabetes(return_X_y=True)
BODY_X, BODY = load_linnerud(return_X_y=True)
TWO_TARGETS = np.column_stack([y, (y + 1) % 3])


def logistic() -> LogisticRegression:
    return LogisticRegression(max_iter=1000)


# name → (fit, default output, its datatype, its columns, optional outputs with their trailing shapes)
Case = tuple[Callable[[], Any], str, Datatype, int, dict[str, tuple[int, ...]]]
CASES: dict[str, Case] = {
    "svc": (lambda: SVC().fit(X, y), "predict", INT64, 1, {"decision_function": (3,)}),
    "logistic": (
        lambda: logistic().fit(X, y),
        "predict",
        INT64,
        1,
        {"predict_proba": (3,), "decision_function": (3,)},
    ),
    "binary": (
        lambda: logistic().fit(X, y == 1),
        "predict",
        BOOL,
        1,
        {"predict_proba": (2,), "decision_function": (1,)},
    ),
    "string labels": (
        lambda: logistic().fit(X, NAMES),
        "predict",
        BYTES,
        1,
        {"predict_proba": (3,), "decision_function": (3,)},
    ),
    "object labels": (
        lambda: logistic().fit(X, NAMES.astype(object)),
        "predict",
        BYTES,
        1,
        {"predict_proba": (3,), "decision_function": (3,)},
    ),
    "small int labels": (
        lambda: KNeighborsClassifier().fit(X, y.astype(np.uint8)),
        "predict",
        INT64,
        1,
        {"predict_proba": (3,)},
    ),
    "float labels": (
        lambda: KNeighborsClassifier().fit(X, y.astype(float)),
        "predict",
        FP64,
        1,
        {"predict_proba": (3,)},
    ),
    "on a frame": (
        lambda: logistic().fit(FRAME, y),
        "predict",
        INT64,
        1,
        {"predict_proba": (3,), "decision_function": (3,)},
    ),
    "calibrated on a frame": (
        lambda: CalibratedClassifierCV(logistic(), cv=2).fit(FRAME, y),
        "predict",
        INT64,
        1,
        {"predict_proba": (3,)},
    ),
    "voting on a frame": (
        lambda: VotingClassifier([("a", logistic()), ("b", make_pipeline(StandardScaler(), logistic()))]).fit(
            FRAME, y
        ),
        "predict",
        INT64,
        1,
        {"transform": (2,)},
    ),
    "frames between steps": (
        lambda: make_pipeline(StandardScaler(), logistic()).set_output(transform="pandas").fit(FRAME, y),
        "predict",
        INT64,
        1,
        {"predict_proba": (3,), "decision_function": (3,)},
    ),
    "grid search": (
        lambda: GridSearchCV(SVC(), {"C": [1, 10]}, cv=2).fit(FRAME, y),
        "predict",
        INT64,
        1,
        {"decision_function": (3,)},
    ),
    "forest": (
        lambda: RandomForestClassifier(n_estimators=10, n_jobs=-1).fit(X, y),
        "predict",
        INT64,
        1,
        {"predict_proba": (3,)},
    ),
    "two targets": (
        lambda: MultiOutputClassifier(logistic()).fit(X, TWO_TARGETS),
        "predict",
        INT64,
        2,
        {"predict_proba": (2, 3)},
    ),
    "targets with differing classes": (
        lambda: RandomForestClassifier(n_estimators=5).fit(X, np.column_stack([y, y == 1])),
        "predict",
        INT64,
        2,
        {},
    ),
    "linear": (lambda: LinearRegression().fit(SUGAR_X, SUGAR), "predict", FP64, 1, {}),
    "integer targets": (lambda: RandomForestRegressor(n_estimators=5).fit(X, y), "predict", FP64, 1, {}),
    "several targets": (lambda: LinearRegression().fit(BODY_X, BODY), "predict", FP64, 3, {}),
    "network": (
        lambda: make_pipeline(
            StandardScaler(),
            MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", alpha=1.0, max_iter=2000, random_state=0),
        ).fit(X, y / 2),
        "predict",
        FP64,
        1,
        {},
    ),
    "clusters": (
        lambda: KMeans(n_clusters=3, n_init=1, random_state=0).fit(X),
        "predict",
        INT64,
        1,
        {"transform": (3,)},
    ),
    "mixture": (
        lambda: GaussianMixture(2, random_state=0).fit(X),
        "predict",
        INT64,
        1,
        {"predict_proba": (2,)},
    ),
    "outliers": (
        lambda: IsolationForest(n_estimators=10, random_state=0).fit(X),
        "predict",
        INT64,
        1,
        {"decision_function": (1,)},
    ),
    "discriminant": (
        lambda: LinearDiscriminantAnalysis().fit(X, y),
        "predict",
        INT64,
        1,
        {"transform": (2,), "predict_proba": (3,), "decision_function": (3,)},
    ),
    "boosting": (
        lambda: HistGradientBoostingClassifier(max_iter=5).fit(X, y),
        "predict",
        INT64,
        1,
        {"predict_proba": (3,), "decision_function": (3,)},
    ),
    "components": (lambda: PCA(2).fit(X), "transform", FP64, 2, {}),
    "scaler": (lambda: StandardScaler().fit(X), "transform", FP64, 4, {}),
    "scaler that writes into its input": (
        lambda: StandardScaler(copy=False).fit(X.copy()),
        "transform",
        FP64,
        4,
        {},
    ),
    "sparse": (lambda: OneHotEncoder().fit([[1, 4], [2, 5], [3, 5]]), "transform", FP64, 5, {}),
    "positive only": (lambda: PowerTransformer("box-cox").fit(X), "transform", FP64, 4, {}),
    "imputer": (
        lambda: make_pipeline(SimpleImputer(), logistic()).fit(X, y),
        "predict",
        INT64,
        1,
        {"predict_proba": (3,), "decision_function": (3,)},
    ),
}


@cache
def fitted(name: str) -> Any:
    return CASES[name][0]()


@cache
def served(name: str) -> Model:
    return wrap(fitted(name))


def wrap(estimator: Any, **parameters: object) -> Model:
    model = SklearnRuntime().wrap(
        estimator, ModelConfig(name="test", runtime="sklearn", parameters=parameters)
    )
    assert model is not None
    return model


def rows_for(name: str, rows: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    width = served(name).inputs[0].shape[1]
    source = {4: X[::30], 10: SUGAR_X, 3: BODY_X, 2: np.array([[1.0, 5.0], [3.0, 4.0]] * 3)}[width]
    matrix = np.ascontiguousarray(source[:rows], dtype=np.float64)
    matrix.flags.writeable = False
    return matrix


def own_answer(estimator: Any, method: str, rows: Any) -> Any:
    """What the untouched estimator says, in the shape that the protocol gives it."""
    if hasattr(estimator, "feature_names_in_"):
        rows = pd.DataFrame(rows, columns=estimator.feature_names_in_)
    answer = getattr(estimator, method)(rows.copy())
    if isinstance(answer, list):
        answer = np.stack(answer, axis=1)
    answer = answer.toarray() if hasattr(answer, "toarray") else np.asarray(answer)
    return answer.reshape(-1, 1) if answer.ndim == 1 else answer


@pytest.mark.parametrize("name", CASES)
def test_announces_the_expected_tensors(name: str) -> None:
    _, method, datatype, columns, optional = CASES[name]
    model = served(name)
    assert [(tensor.name, tensor.datatype, tensor.shape) for tensor in model.outputs] == [
        (method, datatype, (-1, columns))
    ]
    assert {tensor.name: tensor.shape[1:] for tensor in model.optional_outputs} == optional
    assert all(tensor.datatype is FP64 for tensor in model.optional_outputs)
    assert [(tensor.name, tensor.datatype) for tensor in model.inputs] == [("input-0", FP64)]
    assert model.inputs[0].shape == (-1, fitted(name).n_features_in_)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("name", CASES)
def test_answers_what_it_announces(name: str, rows: int) -> None:
    model = served(name)
    announced = {tensor.name: tensor for tensor in (*model.outputs, *model.optional_outputs)}
    matrix = rows_for(name, rows)
    answers = model.predict({"input-0": matrix}, list(announced), {})
    assert list(answers) == list(announced)
    for output, tensor in announced.items():
        answer = answers[output]
        assert answer.dtype == tensor.datatype.dtype
        assert answer.shape == (rows, *tensor.shape[1:])
        own = own_answer(fitted(name), output, matrix)
        if tensor.datatype is BYTES:
            assert answer.tolist() == [[label.encode() for label in row] for row in own.tolist()]
        else:
            np.testing.assert_allclose(answer, own, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_example_is_one_valid_row(name: str) -> None:
    model = served(name)
    assert model.example is not None
    assert {key: array.shape[0] for key, array in model.example.items()} == {"input-0": 1}
    assert len(model.predict(model.example, [model.outputs[0].name], {})[model.outputs[0].name]) == 1


@pytest.mark.parametrize("name", ["on a frame", "calibrated on a frame", "voting on a frame", "grid search"])
def test_named_columns_are_taken_in_any_order(name: str) -> None:
    model = served(name)
    assert [tensor.name for tensor in model.named_inputs] == list(FRAME.columns)
    assert {tensor.shape for tensor in model.named_inputs} == {(-1, 1)}
    by_name: Arrays = {column: FRAME[[column]].to_numpy()[::30] for column in reversed(list(FRAME.columns))}
    matrix: Arrays = {"input-0": FRAME.to_numpy()[::30]}
    ours = model.predict(by_name, ["predict"], {})["predict"]
    assert ours.tolist() == model.predict(matrix, ["predict"], {})["predict"].tolist()


def test_unnamed_columns_have_no_named_inputs() -> None:
    assert served("logistic").named_inputs == ()


def test_only_what_is_requested_is_computed() -> None:
    class Strict(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
        n_features_in_ = 1

        def fit(self, rows: Any, targets: Any) -> Strict:
            return self

        def __sklearn_is_fitted__(self) -> bool:
            return True

        def predict(self, rows: Any) -> Any:
            return rows[:, 0]

        def transform(self, rows: Any) -> Any:
            if np.any(rows == 7):
                raise RuntimeError("seven")
            return rows

    model = wrap(Strict())
    seven = {"input-0": np.array([[7.0]])}
    assert model.predict(seven, ["predict"], {})["predict"].tolist() == [[7.0]]
    with pytest.raises(RuntimeError, match="seven"):  # no ValueError: the model's failure, not the caller's
        model.predict(seven, ["transform"], {})


def test_what_an_estimator_refuses_is_the_callers_fault_in_one_line() -> None:
    model = served("sparse")
    with pytest.raises(InvalidInput) as refusal:
        model.predict({"input-0": np.array([[9.0, 4.0]])}, ["transform"], {})
    assert "unknown categories" in refusal.value.message
    assert "\n" not in refusal.value.message


def test_class_labels_stand_with_the_probabilities() -> None:
    labels = {
        name: {t.name: t.parameters for t in served(name).optional_outputs}["predict_proba"]["classes"]
        for name in ("logistic", "string labels", "binary", "two targets")
    }
    assert labels == {
        "logistic": [0, 1, 2],
        "string labels": ["setosa", "versicolor", "virginica"],
        "binary": [False, True],
        "two targets": [[0, 1, 2], [0, 1, 2]],
    }


def test_parameters_describe_the_estimator() -> None:
    assert served("on a frame").parameters == {
        "estimator": "LogisticRegression",
        "classes": [0, 1, 2],
        "feature_names": list(FRAME.columns),
        "sklearn_version": sklearn.__version__,
        "execution": "native",
    }
    assert served("imputer").parameters["steps"] == ["SimpleImputer", "LogisticRegression"]


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("logistic", False), ("svc", False), ("boosting", True), ("forest", True), ("scaler", True),
        ("imputer", True), ("network", False), ("components", False), ("frames between steps", False),
    ],
)  # fmt: skip
def test_nan_is_allowed_where_the_estimator_takes_it(name: str, allowed: bool) -> None:
    model = served(name)
    assert model.inputs[0].allow_nan is allowed
    holed = {"input-0": np.array([[np.nan, 1.0, 2.0, 3.0]])}
    if allowed:
        model.predict(holed, [model.outputs[0].name], {})
    else:
        with pytest.raises(InvalidInput, match="NaN"):
            model.predict(holed, [model.outputs[0].name], {})


def test_the_users_estimator_is_not_changed() -> None:
    forest = RandomForestClassifier(n_estimators=3, n_jobs=2, verbose=1).fit(FRAME, y)
    before = dict(vars(forest))
    model = wrap(forest)
    model.predict({"input-0": X[:2]}, ["predict"], {})
    assert vars(forest) == before
    assert list(forest.feature_names_in_) == list(FRAME.columns)


def test_nothing_is_printed_or_warned_per_request(capfd: pytest.CaptureFixture[str]) -> None:
    model = wrap(RandomForestClassifier(n_estimators=3, n_jobs=2, verbose=2).fit(FRAME, y))
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.predict({"input-0": X[:2]}, ["predict"], {})
    assert caught == []
    assert capfd.readouterr() == ("", "")


class Sum(BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """A first step that does not tell how many columns it takes."""

    def fit(self, rows: Any, targets: Any = None) -> Sum:
        self.fitted_ = True
        return self

    def transform(self, rows: Any) -> Any:
        return np.column_stack([rows, rows.sum(axis=1)])[:, -4:]


def test_an_unknown_width_is_announced_as_such() -> None:
    model = wrap(make_pipeline(Sum(), LinearRegression()).fit(X, y))
    assert model.inputs[0].shape == (-1, -1)
    assert model.predict({"input-0": X[:2]}, ["predict"], {})["predict"].shape == (2, 1)


def test_rows_stay_as_the_caller_sent_them() -> None:
    model = wrap(StandardScaler(copy=False).fit(X.copy()))
    mine = X[:3].copy()
    model.predict({"input-0": mine}, ["transform"], {})
    np.testing.assert_array_equal(mine, X[:3])


def halved(rows: Any) -> Any:
    rows /= 2
    return rows


def test_a_function_that_writes_gets_rows_of_its_own() -> None:
    model = wrap(make_pipeline(FunctionTransformer(halved), LinearRegression()).fit(X.copy(), y))
    mine = X[:3].copy()
    first = model.predict({"input-0": mine}, ["predict"], {})["predict"]
    np.testing.assert_array_equal(mine, X[:3])
    np.testing.assert_array_equal(first, model.predict({"input-0": mine}, ["predict"], {})["predict"])


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (LogisticRegression(), "LogisticRegression is not fitted"),
        (make_pipeline(StandardScaler(), SVC()), "Pipeline is not fitted"),
        (DBSCAN().fit(X), "DBSCAN has neither predict nor transform: it labels only the rows"),
        (NearestNeighbors().fit(X), "NearestNeighbors has neither predict nor transform"),
        (FunctionTransformer(np.linalg.inv).fit(X), "FunctionTransformer fails on the rows made up"),
    ],
)
def test_what_cannot_be_served_says_why(estimator: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        wrap(estimator)


@pytest.mark.parametrize("stranger", [None, {"a": 1}, np.zeros(3), LogisticRegression, object()])
def test_wrap_leaves_other_objects_alone(stranger: object) -> None:
    assert SklearnRuntime().wrap(stranger, CONFIG) is None


@pytest.mark.parametrize("n_jobs", [0, -1, True, "2"])
def test_n_jobs_is_checked(n_jobs: object) -> None:
    with pytest.raises(ValueError, match="'n_jobs' must be a positive integer"):
        wrap(fitted("forest"), n_jobs=n_jobs)
