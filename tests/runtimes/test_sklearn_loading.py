"""Model files of every form, and what is said of those that cannot be served."""

from __future__ import annotations

import logging
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn
import skops.io
from oipserver_sklearn import SklearnRuntime
from sklearn.base import BaseEstimator
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from oipserver import Model, ModelConfig

X, y = load_iris(return_X_y=True)
ESTIMATOR = LogisticRegression(max_iter=1000).fit(X, y)


def load(path: Path, **parameters: object) -> Model:
    config = ModelConfig(name="iris", runtime="sklearn", trust_pickle=True, parameters=parameters)
    return SklearnRuntime().load(path, config)


def dump_pickle(estimator: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(estimator))


def dump_compressed(estimator: Any, path: Path) -> None:
    joblib.dump(estimator, path, compress=3)


FORMS: list[tuple[str, Callable[[Any, Path], Any]]] = [
    ("model.joblib", joblib.dump),
    ("model.joblib", dump_compressed),
    ("model.pkl", dump_pickle),
    ("model.pkl", joblib.dump),
    ("model.pickle", dump_pickle),
    ("model.skops", skops.io.dump),
]


@pytest.mark.parametrize(("name", "dump"), FORMS)
@pytest.mark.parametrize("whole_directory", [False, True])
def test_every_form_is_loaded(
    tmp_path: Path, name: str, dump: Callable[[Any, Path], Any], whole_directory: bool
) -> None:
    dump(ESTIMATOR, tmp_path / name)
    model = load(tmp_path if whole_directory else tmp_path / name)
    answer = model.predict({"input-0": X[:3]}, ["predict"], {})["predict"]
    assert answer.tolist() == ESTIMATOR.predict(X[:3]).reshape(-1, 1).tolist()


def test_the_file_called_model_is_preferred(tmp_path: Path) -> None:
    joblib.dump(ESTIMATOR, tmp_path / "model.joblib")
    joblib.dump({"not": "it"}, tmp_path / "a.joblib")
    assert load(tmp_path).parameters["estimator"] == "LogisticRegression"


def test_any_single_file_is_found_among_others(tmp_path: Path) -> None:
    joblib.dump(ESTIMATOR, tmp_path / "iris.joblib")
    (tmp_path / "README.md").write_text("about it")
    (tmp_path / "old.pkl").mkdir()
    assert load(tmp_path).parameters["estimator"] == "LogisticRegression"


@pytest.mark.parametrize("names", [("a.joblib", "b.skops"), ("model.joblib", "model.pkl")])
def test_several_files_are_listed(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=f"several model files: {names[0]}, {names[1]}"):
        load(tmp_path)


def test_an_empty_directory_says_what_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no model file \(.joblib, .pkl, .pickle, .skops\)"):
        load(tmp_path)


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    with pytest.raises(ValueError, match=r"'model.onnx' is not a model file of scikit-learn"):
        load(tmp_path / "model.onnx")


@pytest.mark.parametrize("name", ["model.joblib", "model.pkl", "model.skops"])
@pytest.mark.parametrize("content", [b"", b"not a model at all"])
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"'{name}' cannot be read: "):
        load(tmp_path / name)


@pytest.mark.parametrize("content", [{"a": 1}, np.arange(3), None])
def test_something_else_than_an_estimator(tmp_path: Path, content: object) -> None:
    joblib.dump(content, tmp_path / "model.joblib")
    with pytest.raises(ValueError, match=f"a {type(content).__name__} is not a scikit-learn estimator"):
        load(tmp_path)


def test_an_unfitted_estimator(tmp_path: Path) -> None:
    joblib.dump(LogisticRegression(), tmp_path / "model.joblib")
    with pytest.raises(ValueError, match="LogisticRegression is not fitted"):
        load(tmp_path)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "absentlib.py").write_text("class Thing: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import absentlib  # type: ignore[import-not-found]  # written two lines above

    joblib.dump(absentlib.Thing(), tmp_path / "model.joblib")
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, "absentlib")
    with pytest.raises(ImportError, match=r"needs the Python package 'absentlib'.*pip install absentlib"):
        load(tmp_path)


def test_skops_without_skops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skops.io.dump(ESTIMATOR, tmp_path / "model.skops")
    monkeypatch.setitem(sys.modules, "skops.io", None)
    with pytest.raises(ImportError, match=r"needs skops: pip install 'oipserver\[sklearn\]'"):
        load(tmp_path)


def tripled(rows: Any) -> Any:
    return rows * 3


def test_skops_types_must_be_trusted_by_name(tmp_path: Path) -> None:
    pipeline = make_pipeline(FunctionTransformer(tripled), ESTIMATOR)
    skops.io.dump(pipeline, tmp_path / "model.skops")
    name = f"{__name__}.tripled"
    with pytest.raises(ValueError, match=f"types that are not trusted: {name}; list them"):
        load(tmp_path)
    assert load(tmp_path, trusted=[name]).parameters["estimator"] == "Pipeline"


@pytest.mark.parametrize("trusted", [True, "numpy.ndarray", [1]])
def test_trusted_is_a_list_of_names(tmp_path: Path, trusted: object) -> None:
    skops.io.dump(ESTIMATOR, tmp_path / "model.skops")
    with pytest.raises(ValueError, match="'trusted' must be a list of type names"):
        load(tmp_path, trusted=trusted)


def saved_by(version: str, path: Path) -> None:
    """A pickle as another version of scikit-learn would have written it."""
    state = pickle.dumps(ESTIMATOR, protocol=2)
    old, new = sklearn.__version__.encode(), version.encode()
    assert len(old) == len(new)
    assert old in state
    path.write_bytes(state.replace(old, new))


def test_another_version_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved_by("0.0.1", tmp_path / "model.pkl")
    with caplog.at_level(logging.WARNING, logger="oipserver.sklearn"):
        model = load(tmp_path)
    assert model.parameters["sklearn_version_saved"] == "0.0.1"
    assert [record.getMessage().split(" and runs")[0] for record in caplog.records] == [
        "model 'iris' was saved with scikit-learn 0.0.1"
    ]


@pytest.mark.parametrize("policy", ["warn", "refuse"])
def test_another_version_is_refused_by_policy(tmp_path: Path, policy: str) -> None:
    joblib.dump(ESTIMATOR, tmp_path / "model.joblib")
    load(tmp_path, version_mismatch=policy)
    (tmp_path / "model.joblib").unlink()
    saved_by("0.0.1", tmp_path / "model.pkl")
    if policy == "warn":
        load(tmp_path, version_mismatch=policy)
        return
    with pytest.raises(
        ValueError, match=r"saved with scikit-learn 0\.0\.1 .* pip install scikit-learn==0\.0\.1"
    ):
        load(tmp_path, version_mismatch=policy)


@pytest.mark.parametrize("policy", ["never", True, ["refuse"]])
def test_the_policy_is_one_of_two(tmp_path: Path, policy: object) -> None:
    joblib.dump(ESTIMATOR, tmp_path / "model.joblib")
    with pytest.raises(ValueError, match="'version_mismatch' must be 'warn' or 'refuse', got "):
        load(tmp_path, version_mismatch=policy)


@pytest.mark.parametrize(("name", "dump"), FORMS)
def test_what_was_fetched_is_unpickled_when_it_is_trusted(
    tmp_path: Path, name: str, dump: Callable[[Any, Path], Any]
) -> None:
    dump(ESTIMATOR, tmp_path / name)
    config = ModelConfig("iris", "sklearn", f"https://host/{name}")
    if name.endswith(".skops"):
        SklearnRuntime().load(tmp_path, config)
        return
    with pytest.raises(ValueError, match=f"'{name}' is a pickle, which runs code .*, or use .skops"):
        SklearnRuntime().load(tmp_path, config)


def test_the_same_version_is_not_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    joblib.dump(ESTIMATOR, tmp_path / "model.joblib")
    with caplog.at_level(logging.WARNING, logger="oipserver.sklearn"):
        assert "sklearn_version_saved" not in load(tmp_path).parameters
    assert caplog.records == []


def test_the_thread_bounds_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    joblib.dump(ESTIMATOR, tmp_path / "model.joblib")
    with caplog.at_level(logging.INFO, logger="oipserver.sklearn"):
        load(tmp_path)
    assert caplog.records[0].getMessage().startswith("model 'iris': threads of one call: at most ")


class Helpless(BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """An estimator that answers nothing."""


def test_an_estimator_without_methods(tmp_path: Path) -> None:
    joblib.dump(Helpless(), tmp_path / "model.joblib")
    with pytest.raises(ValueError, match="a Helpless has neither predict nor transform"):
        load(tmp_path)
