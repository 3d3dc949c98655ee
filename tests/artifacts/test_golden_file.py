"""The file of golden rows: written by a training script, read and replayed by a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

import oipserver
from oipserver import BYTES, FP64, INT64, ModelConfig
from oipserver.artifacts.golden_file import read_golden
from tests.server_process import ServerProcess

X, y = load_iris(return_X_y=True)
CONFIG = ModelConfig("iris", "sklearn")
ROW: dict[str, Any] = {
    "inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [1, 2.5]}],
    "outputs": [{"name": "label", "datatype": "BYTES", "shape": [1, 1], "data": ["é"]}],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a model and a hundred golden rows."""
    folder = tmp_path_factory.mktemp("iris")
    estimator = RandomForestClassifier(n_estimators=5, random_state=0).fit(X, y)
    joblib.dump(estimator, folder / "model.joblib")
    oipserver.write_golden(estimator, {"input-0": X[::2][:75]}, folder / "golden.json")
    rows = json.loads((folder / "golden.json").read_text())
    more = {
        "request": {"inputs": [{"name": "any", "datatype": "FP64", "shape": [1, 4], "data": X[0].tolist()}]},
        "response": {
            "model_name": "iris",
            "outputs": [
                {"name": "predict_proba", "datatype": "FP64", "shape": [1, 3],
                 "data": estimator.predict_proba(X[:1]).ravel().tolist()},
            ],
        },
    }  # fmt: skip
    (folder / "golden.json").write_text(json.dumps([*rows, *[more] * 25]))
    return folder


# Where rows may stand: in the model's directory, beside its file, where a parameter says.
WAYS = {"directory": "golden.json", "file": "model.golden.json", "parameter": "known.json"}
CHANGED = 30


@pytest.fixture(scope="module")
def server(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Of the model, and of the same with a changed row, once for each of the ways."""
    root = tmp_path_factory.mktemp("changed")
    rows = json.loads((trained / "golden.json").read_text())
    labels = rows[0]["outputs"][0]["data"]
    labels[CHANGED] = (labels[CHANGED] + 1) % 3
    models: list[dict[str, Any]] = [{"name": "iris", "runtime": "sklearn", "model_uri": str(trained)}]
    for way, name in WAYS.items():
        folder = root / way
        folder.mkdir()
        (folder / "model.joblib").write_bytes((trained / "model.joblib").read_bytes())
        (folder / name).write_text(json.dumps(rows))
        uri = folder / "model.joblib" if way == "file" else folder
        parameters = {"golden": name} if way == "parameter" else {}
        models.append({"name": way, "runtime": "sklearn", "model_uri": str(uri), "parameters": parameters})
    (root / "server.json").write_text(json.dumps({"models": models}))
    running = ServerProcess(f"--config={root / 'server.json'}").start()
    try:
        running.wait_for("running, but not ready")
        yield running
    finally:
        running.stop()


def test_a_hundred_rows_offline_are_the_hundred_served(trained: Path, server: ServerProcess) -> None:
    server.wait_for("model 'iris' version '1' answers its 100 golden rows")
    (first, *_) = json.loads((trained / "golden.json").read_text())
    request = Request(
        f"{server.http_url}/v2/models/iris/infer",
        json.dumps({"inputs": first["inputs"]}).encode(),
        {"Content-Type": "application/json"},
    )
    with urlopen(request) as answer:
        (output,) = json.load(answer)["outputs"]
    assert output["data"] == first["outputs"][0]["data"]


@pytest.mark.parametrize("way", WAYS)
def test_a_changed_row_keeps_the_version_from_serving(trained: Path, server: ServerProcess, way: str) -> None:
    (first, *_) = json.loads((trained / "golden.json").read_text())
    changed = (first["outputs"][0]["data"][CHANGED] + 1) % 3
    assert f"model '{way}' is FAILED" in server.wait_for("running, but not ready: .*")[0]
    with pytest.raises(HTTPError) as refused:
        urlopen(f"{server.http_url}/v2/models/{way}/ready")
    with refused.value as answer:
        reason = json.load(answer)["error"]
    assert f"golden row {CHANGED + 1} of 100, output 'predict': expected {changed}, got " in reason


def written(tmp_path: Path, content: Any) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "golden.json").write_text(text)
    return tmp_path


def test_tensors_and_tolerances_are_read(tmp_path: Path) -> None:
    document = {"rtol": 0.5, "rows": [{**ROW, "parameters": {"k": 2}}, {**ROW, "rtol": 0, "atol": 1}]}
    first, second = read_golden(written(tmp_path, document), CONFIG)
    (x,), (label,) = first.inputs, first.outputs
    assert (x.name, x.datatype, x.data.tolist()) == ("x", FP64, [[1.0, 2.5]])
    assert (label.name, label.datatype, label.data.tolist()) == ("label", BYTES, [["é".encode()]])
    assert (first.parameters, first.rtol, first.atol) == ({"k": 2}, 0.5, None)
    assert (second.parameters, second.rtol, second.atol) == ({}, 0.0, 1.0)


def test_null_is_nan(tmp_path: Path) -> None:
    tensor = {"name": "x", "datatype": "FP64", "shape": [2], "data": [None, 1]}
    (row,) = read_golden(written(tmp_path, [{"inputs": [tensor], "outputs": [tensor]}]), CONFIG)
    assert np.isnan(row.inputs[0].data[0])


def test_without_a_file_there_are_no_rows(tmp_path: Path) -> None:
    assert read_golden(tmp_path, CONFIG) == ()
    assert read_golden(tmp_path / "model.joblib", CONFIG) == ()


def test_a_file_of_one_model_is_preferred(tmp_path: Path) -> None:
    written(tmp_path, [ROW])
    (tmp_path / "iris.golden.json").write_text(json.dumps([ROW, ROW]))
    assert len(read_golden(tmp_path / "iris.joblib", CONFIG)) == 2
    assert len(read_golden(tmp_path / "other.joblib", CONFIG)) == 1
    assert len(read_golden(tmp_path, CONFIG)) == 1


def test_the_parameter_decides(tmp_path: Path) -> None:
    written(tmp_path, [ROW])
    assert read_golden(tmp_path, ModelConfig("m", "x", parameters={"golden": False})) == ()
    with pytest.raises(FileNotFoundError, match=r"parameter 'golden': there is no file '.*/rows.json'"):
        read_golden(tmp_path, ModelConfig("m", "x", parameters={"golden": "rows.json"}))
    for wrong in (True, 3, ["a"], ""):
        with pytest.raises(ValueError, match="parameter 'golden' must be the path of a file"):
            read_golden(tmp_path, ModelConfig("m", "x", parameters={"golden": wrong}))


def test_a_module_has_no_folder_to_look_into(tmp_path: Path) -> None:
    assert read_golden(written(tmp_path, [ROW]), ModelConfig("m", "python", "package.module:function")) == ()


def tensor(**changes: Any) -> list[Any]:
    return [{"inputs": [ROW["inputs"][0] | changes], "outputs": ROW["outputs"]}]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "'golden.json': Expecting property name"),
        ("[" * 100_000, "'golden.json': "),
        ([], "expected a list of rows, or an object with 'rows'"),
        ("3", "expected a list of rows, or an object with 'rows'"),
        ([3], r"rows\[0\]: expected an object"),
        ([ROW, {"inputs": ROW["inputs"]}], r"rows\[1\]: 'outputs' must be a list of tensors"),
        ([{**ROW, "rtol": -1}], r"rows\[0\]: 'rtol' must be a number from 0"),
        ([{**ROW, "atol": True}], r"rows\[0\]: 'atol' must be a number from 0"),
        ([{**ROW, "request": 1}], r"rows\[0\]: 'request' and 'response' must be objects"),
        ([{**ROW, "parameters": 1}], r"rows\[0\].parameters: expected an object"),
        (tensor(name=3), r"rows\[0\].inputs\[0\]: expected a tensor"),
        (tensor(data="1"), r"rows\[0\].inputs\[0\]: 'shape' and 'data' must be lists"),
        (tensor(datatype="FP8"), r"rows\[0\].inputs\[0\]: tensor 'x': datatype must be one of"),
        (
            tensor(shape=[2, 2]),
            r"rows\[0\].inputs\[0\]: tensor 'x': shape \[2, 2\] has 4 elements, data has 2",
        ),
        (tensor(datatype="BYTES", data=["a", "b"], parameters={"content_type": "base64"}), "base64"),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, content: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        read_golden(written(tmp_path, content), CONFIG)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.0, np.nan, 3.0], "b": [1, 2, 3]})
    from sklearn.ensemble import HistGradientBoostingClassifier

    estimator = HistGradientBoostingClassifier(max_iter=2).fit(frame, ["x", "ü", "x"])
    rows = {"input-0": np.array([[1, 2], [np.nan, 3]])}
    oipserver.write_golden(estimator, rows, tmp_path / "golden.json")
    (row,) = read_golden(tmp_path, CONFIG)
    assert np.array_equal(row.inputs[0].data, rows["input-0"], equal_nan=True)
    assert row.outputs[0].datatype is BYTES
    assert [label.decode() for label in row.outputs[0].data.ravel()] == estimator.predict(
        pd.DataFrame(rows["input-0"], columns=["a", "b"])
    ).tolist()


class Bytes(oipserver.Model):
    """Answers what it was given."""

    platform = "test"
    inputs = (oipserver.TensorMetadata("raw", BYTES, (-1,)),)
    outputs = (oipserver.TensorMetadata("raw", BYTES, (-1,)), oipserver.TensorMetadata("n", INT64, (-1,)))

    def predict(self, inputs: Any, outputs: Any, parameters: Any) -> Any:
        return {"raw": inputs["raw"], "n": np.array([len(element) for element in inputs["raw"]])}


@pytest.mark.parametrize("values", [[b"\xff\x00", b""], [b"text"], ["text", "é"]])
def test_bytes_that_are_no_text_are_written_as_base64(tmp_path: Path, values: list[Any]) -> None:
    from oipserver.artifacts.golden_file import write_golden

    write_golden(Bytes(), {"raw": np.array(values, dtype=object)}, tmp_path / "golden.json")
    (row,) = read_golden(tmp_path, CONFIG)
    expected = [value.encode() if isinstance(value, str) else value for value in values]
    assert row.inputs[0].data.tolist() == row.outputs[0].data.tolist() == expected


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    estimator = LogisticRegression(max_iter=1000).fit(X, y)
    with pytest.raises(oipserver.Fault, match="expects shape"):
        oipserver.write_golden(estimator, {"input-0": X[:, :2]}, tmp_path / "golden.json")
    with pytest.raises(TypeError, match="no installed runtime serves"):
        oipserver.write_golden(object(), {"input-0": X}, tmp_path / "golden.json")
    assert not (tmp_path / "golden.json").exists()
