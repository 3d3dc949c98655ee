"""The models that the clients ask, trained in a second, and the configuration file that serves them all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import joblib
import numpy as np
import pandas
import yaml
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

Estimator: TypeAlias = Any

REVIEWS = ["a great film", "great fun, great cast", "a dull film", "dull and far too long"]
PEOPLE = pandas.DataFrame(
    {
        "city": ["Bern", "Oslo", "Bern", "Rome", "Oslo", "Rome"],
        "age": [21.0, 34.0, 55.0, 43.0, 29.0, 61.0],
        "income": [18.5, 42.0, 71.25, 39.0, 33.5, 88.0],
    }
)


def iris() -> Estimator:
    """Three classes 0, 1, 2: INT64."""
    return LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True))


def species() -> Estimator:
    """The same with the names of the species: BYTES."""
    bunch = load_iris()
    return LogisticRegression(max_iter=1000).fit(bunch.data, bunch.target_names[bunch.target])


def gaps() -> Estimator:
    """Takes NaN for a length that was not measured."""
    return HistGradientBoostingClassifier(max_iter=10, random_state=0).fit(*load_iris(return_X_y=True))


def scaler() -> Estimator:
    """A transformer: as many numbers out as in."""
    return StandardScaler().fit(load_iris().data)


def reviews() -> Estimator:
    """Text in, text out."""
    return make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(REVIEWS, ["good", "good", "bad", "bad"])


def people() -> Estimator:
    """Named columns of mixed types: one input per column."""
    columns = ColumnTransformer(
        [("place", OneHotEncoder(), ["city"]), ("numbers", StandardScaler(), ["age", "income"])]
    )
    return make_pipeline(columns, LogisticRegression()).fit(PEOPLE, [0, 1, 1, 0, 1, 0])


def slow() -> Estimator:
    """Noise kept by heart: every row is compared with thousands, so that many rows take seconds."""
    random = np.random.default_rng(0)
    return SVC(gamma=10.0).fit(random.normal(size=(2000, 4)), random.integers(0, 2, 2000))


MODELS: dict[str, Callable[[], Estimator]] = {
    make.__name__: make for make in (iris, species, gaps, scaler, reviews, people, slow)
}


def write_models(directory: Path) -> Path:
    """Train and save every model below `directory`; the path of the file for `--config`.

    Every way to write down a model occurs: relative and absolute paths, a file:// URI, a directory.
    """
    files = {name: directory / f"{name}.joblib" for name in MODELS}
    files["reviews"] = directory / "reviews" / "model.joblib"
    files["reviews"].parent.mkdir()
    for name, make in MODELS.items():
        joblib.dump(make(), files[name])
    document = {
        "limits": {"default_timeout": 50},
        "models": [
            {"name": "iris", "runtime": "sklearn", "model_uri": "iris.joblib"},
            {"name": "iris", "runtime": "sklearn", "model_uri": "species.joblib", "version": "0"},
            {"runtime": "sklearn", "model_uri": "species.joblib", "version": 3},
            {"name": "gaps", "runtime": "sklearn", "model_uri": str(files["gaps"])},
            {"name": "scaler", "runtime": "sklearn", "model_uri": files["scaler"].as_uri()},
            {"name": "reviews", "runtime": "sklearn", "model_uri": "reviews"},
            {"name": "people", "runtime": "sklearn", "model_uri": "people.joblib", "max_batch_size": 2},
            {
                "name": "slow",
                "runtime": "sklearn",
                "model_uri": "slow.joblib",
                "instance_group": {"placement": "thread"},
                "dynamic_batching": {"max_queue_size": 16},
            },
        ],
    }
    path = directory / "models.yaml"
    path.write_text(yaml.safe_dump(document))
    return path
