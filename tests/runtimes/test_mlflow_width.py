"""Requests that would cost pandas far more than they cost their caller."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow", reason="the mlflow extra is not installed")

import numpy as np
from oipserver_mlflow import MlflowRuntime
from oipserver_mlflow.width import MOST_COLUMNS, check_csv, check_objects, check_records, check_split

from oipserver import BadRequest, Model, ModelConfig
from tests.runtimes import mlflow_models

WIDE = MOST_COLUMNS + 1
NAMES = [f"c{place}" for place in range(WIDE)]
# Each holds one value; together they would make nine million cells.
STRANGERS = [{f"c{place}": 1} for place in range(3000)]
JSON = "application/json"


@pytest.fixture(scope="module", params=[mlflow_models.iris_frame, mlflow_models.unsigned])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    make: Callable[[Path], Path] = request.param
    return loaded(make(tmp_path_factory.mktemp("model") / "m"))


def loaded(path: Path) -> Model:
    return MlflowRuntime().load(path, ModelConfig("m", "mlflow", trust_pickle=True))


def refused(model: Model, body: str, media_type: str = JSON) -> str:
    assert model.scoring is not None
    with pytest.raises(BadRequest) as caught:
        model.scoring.read(body.encode(), media_type)
    return caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "," * MOST_COLUMNS,
        "\n \n" + "," * MOST_COLUMNS,
        '"a\nb"' + "," * MOST_COLUMNS,
        "a\r" + "," * MOST_COLUMNS,
        "a,b\n" + "," * MOST_COLUMNS + "\n",
    ],
)
def test_csv_with_too_many_columns(model: Model, text: str) -> None:
    assert f"more than {MOST_COLUMNS} columns" in refused(model, text, "text/csv")


@pytest.mark.parametrize(
    "document",
    [
        {"dataframe_split": {"columns": NAMES, "data": []}},
        {"dataframe_split": {"data": [[1] * WIDE]}},
        {"dataframe_records": [dict.fromkeys(NAMES, 1)]},
        {"instances": [dict.fromkeys(NAMES, 1)]},
        {"inputs": {name: [1] for name in NAMES}},
    ],
)
def test_json_with_too_many_columns(model: Model, document: dict[str, Any]) -> None:
    assert f"more than {MOST_COLUMNS} columns" in refused(model, json.dumps(document))


@pytest.mark.parametrize("form", ["dataframe_records", "instances", "inputs"])
def test_objects_with_nothing_in_common(model: Model, form: str) -> None:
    assert "9000000 cells" in refused(model, json.dumps({form: STRANGERS}))


def test_rows_of_an_infer_request_with_nothing_in_common(model: Model) -> None:
    rows = np.array([[json.dumps(each).encode()] for each in STRANGERS], dtype=np.object_)
    with pytest.raises(BadRequest, match="9000000 cells"):
        model.predict({"rows": rows}, [each.name for each in model.outputs], {})


def test_neither_one_form_nor_one_only(tmp_path: Path) -> None:
    model = loaded(mlflow_models.unsigned(tmp_path / "m"))
    with pytest.raises(BadRequest, match="takes one of 'input-0', 'rows', 'texts', 'columns', got 0 of them"):
        model.predict({}, ["predictions"], {})
    text = np.array([b"x"], dtype=np.object_)
    with pytest.raises(BadRequest, match="got 2 of them"):
        model.predict({"texts": text, "columns": text}, ["predictions"], {})


def test_what_a_model_declares_is_let_through() -> None:
    check_csv("," * MOST_COLUMNS, WIDE)
    check_split({"columns": NAMES, "data": [[1] * WIDE]}, WIDE)
    check_objects({name: [1] for name in NAMES}, WIDE)
    check_records([dict.fromkeys(NAMES, 1)], WIDE)


def test_many_rows_with_some_gaps_are_let_through() -> None:
    check_objects([{"a": 1, "b": 2} if row % 3 else {"a": 1, "c": 2} for row in range(400_000)], 3)
