"""MLflow models on disk, small ones of every kind, and a process with MLflow's own scoring server."""

from __future__ import annotations

import json
import socket
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

with warnings.catch_warnings():  # MLflow warns of its own type hints
    warnings.simplefilter("ignore")
    import mlflow
    import mlflow.pyfunc
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from mlflow.models.signature import ModelSignature
    from mlflow.types.schema import (
        Array,
        ColSpec,
        DataType,
        Object,
        ParamSchema,
        ParamSpec,
        Property,
        Schema,
        TensorSpec,
    )

X, Y = load_iris(return_X_y=True)
FRAME = load_iris(as_frame=True).data
CITIES = pd.DataFrame(
    {"city": ["Rome", "Oslo", "Rome", "Lima"] * 5, "age": np.arange(20.0), "rooms": np.arange(20)}
)


def save(path: Path, saving: Callable[..., Any], *args: Any, **kwargs: Any) -> Path:
    """Save without looking for requirements, which takes long, and without the warnings of saving."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saving(*args, path=str(path), pip_requirements=[], **kwargs)
    return path


def python_model(path: Path, answer: Callable[..., Any], **kwargs: Any) -> Path:
    """A PythonModel whose `predict(model_input, params)` is `answer`; it is stored by value."""

    class Custom(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow is not typed strictly
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return answer(model_input, params)

    # By value, for another process knows no test module.
    Custom.__module__ = "__main__"
    return save(path, mlflow.pyfunc.save_model, python_model=Custom(), **kwargs)


def iris(path: Path) -> Path:
    """The specification's example: an array in, a vector out."""
    model = LogisticRegression(max_iter=1000).fit(X, Y)
    return save(path, mlflow.sklearn.save_model, model, signature=infer_signature(X, model.predict(X)))


def iris_frame(path: Path, **kwargs: Any) -> Path:
    """Four named columns of one type, probabilities out."""
    model = LogisticRegression(max_iter=1000).fit(FRAME, Y)
    signature = infer_signature(FRAME, model.predict_proba(FRAME))
    saved = {"signature": signature, **kwargs}
    return save(path, mlflow.sklearn.save_model, model, pyfunc_predict_fn="predict_proba", **saved)


def cities(path: Path) -> Path:
    """A text column that may be null, a number, an optional one; labels out."""
    text = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    model = make_pipeline(
        make_column_transformer((text, ["city"]), (StandardScaler(), ["age"])), LogisticRegression()
    ).fit(CITIES, np.where(CITIES["age"] > 9, "old", "young"))
    schema = Schema(
        [ColSpec("string", "city"), ColSpec("double", "age"), ColSpec("long", "rooms", required=False)]
    )
    signature = ModelSignature(inputs=schema, outputs=Schema([ColSpec("string", "label")]))
    kwargs = {"signature": signature, "serialization_format": "cloudpickle"}
    return save(path, mlflow.sklearn.save_model, model, **kwargs)


TWO = Schema([ColSpec("double", "a"), ColSpec("double", "b")])


def table_with_params(path: Path) -> Path:
    """Two columns, a data frame out, and parameters of three kinds."""

    def answer(data: Any, params: Any) -> Any:
        total = (data["a"] + data["b"]) * params["factor"]
        return data.assign(total=total, tag=params["tag"], extra=len(params["list"]))[
            ["total", "tag", "extra"]
        ]

    params = ParamSchema(
        [
            ParamSpec("factor", "double", 2.0),
            ParamSpec("tag", "string", "plain"),
            ParamSpec("list", "long", [1, 2], shape=(-1,)),
        ]
    )
    return python_model(path, answer, signature=ModelSignature(inputs=TWO, params=params))


def moments(path: Path) -> Path:
    """A datetime, bytes, and an object per row; a dictionary of arrays out."""

    def answer(data: Any, params: Any) -> Any:
        return {
            "year": data["when"].dt.year.to_numpy(),
            "size": np.array([len(each) for each in data["raw"]]),
            "name": np.array([each["name"] + str(len(each["marks"])) for each in data["who"]]),
        }

    who = Object([Property("name", DataType.string), Property("marks", Array(DataType.double))])
    schema = Schema([ColSpec("datetime", "when"), ColSpec("binary", "raw"), ColSpec(who, "who")])
    return python_model(path, answer, signature=ModelSignature(inputs=schema))


def named_tensors(path: Path) -> Path:
    """Two named tensors, one of them an image; an array out."""

    def answer(data: Any, params: Any) -> Any:
        return data["image"].mean(axis=(1, 2)) + data["bias"]

    schema = Schema(
        [
            TensorSpec(np.dtype(np.float32), (-1, 2, 3), "image"),
            TensorSpec(np.dtype(np.float32), (-1,), "bias"),
        ]
    )
    return python_model(path, answer, signature=ModelSignature(inputs=schema))


def unsigned(path: Path) -> Path:
    """No signature; whatever comes goes back, numbers twice as large."""

    def answer(data: Any, params: Any) -> Any:
        return data * 2 if isinstance(data, np.ndarray) else data

    return python_model(path, answer)


def unsigned_iris(path: Path) -> Path:
    """A library's model without a signature: its own attributes tell the columns."""
    return save(path, mlflow.sklearn.save_model, LogisticRegression(max_iter=1000).fit(FRAME, Y))


def hinted(path: Path) -> Path:
    """Type hints in place of a signature: a list in, a list out."""

    class Hinted(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, model_input, params=None):  # type: ignore[no-untyped-def]
            return [each.upper() for each in model_input]

    Hinted.predict.__annotations__ = {"model_input": list[str], "return": list[str]}
    Hinted.__module__ = "__main__"
    return save(path, mlflow.pyfunc.save_model, python_model=Hinted())


def returning(value: Callable[[int], Any]) -> Callable[[Path], Path]:
    """Saves a model that returns `value(rows)`; two columns in."""
    return lambda path: python_model(
        path, lambda data, params: value(len(data)), signature=ModelSignature(inputs=TWO)
    )


COMPARED: dict[str, Callable[[Path], Path]] = {
    "iris": iris,
    "iris_frame": iris_frame,
    "cities": cities,
    "table": table_with_params,
    "moments": moments,
    "tensors": named_tensors,
    "unsigned": unsigned,
    "unsigned_iris": unsigned_iris,
    "hinted": hinted,
    "series": returning(lambda rows: pd.Series(np.arange(rows))),
    "named_series": returning(lambda rows: pd.Series(np.arange(rows) / 4, name="score")),
    "list": returning(lambda rows: [f"row {row}" for row in range(rows)]),
    "records": returning(lambda rows: [{"row": row, "even": row % 2 == 0} for row in range(rows)]),
    "scalar": returning(lambda rows: 0.5),
    "text": returning(lambda rows: "well done"),
    "nested": returning(lambda rows: {"scores": [0.25] * rows, "meta": {"model": "x", "rows": [rows]}}),
    "missing": returning(lambda rows: np.full((rows, 2), np.nan)),
    "matrix": returning(lambda rows: pd.DataFrame(np.ones((rows, 2)))),
}


def serve_theirs(folder: Path) -> None:
    """MLflow's own application for every model in `folder`, below its name; prints its port."""
    import uvicorn
    from fastapi import FastAPI
    from mlflow.pyfunc import scoring_server

    app = FastAPI()
    for path in sorted(folder.iterdir()):
        app.mount(f"/{path.name}", scoring_server.init(mlflow.pyfunc.load_model(str(path), True)))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(f"theirs on port {listener.getsockname()[1]}", flush=True)  # noqa: T201
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])


def server_config(folder: Path) -> str:
    """A configuration file for our server, with every model in `folder`."""
    models = [
        {"name": path.name, "runtime": "mlflow", "model_uri": str(path)} for path in sorted(folder.iterdir())
    ]
    return json.dumps({"models": models})


if __name__ == "__main__":
    serve_theirs(Path(sys.argv[1]))
