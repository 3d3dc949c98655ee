"""What `oipserver inspect` finds out of a model without loading it."""

from __future__ import annotations

import json
import os
import pickle
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import pytest
import sklearn
import skops.io
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from oipserver.artifacts.inspection import Report, inspect
from oipserver.artifacts.text import as_json, as_text
from oipserver.core.digest import digest
from tests.artifacts import hostile

X, y = load_iris(return_X_y=True)
ESTIMATOR = LogisticRegression(max_iter=1000).fit(X, y)
SIGNATURE = [{"type": "double", "name": "length", "required": True}]
MLMODEL = f"""
flavors:
  python_function: {{loader_module: mlflow.sklearn, python_version: 3.9.1}}
  sklearn: {{pickled_model: model.pkl, sklearn_version: 1.0.2}}
mlflow_version: 2.1.0
signature:
  inputs: '{json.dumps(SIGNATURE)}'
  outputs: '[{{"type": "tensor", "tensor-spec": {{"dtype": "int64", "shape": [-1]}}}}]'
  params: null
"""


def versions(report: Report) -> dict[str, tuple[str, str]]:
    return {one.name: (one.recorded, one.installed) for one in report.libraries}


def test_a_model_file(tmp_path: Path) -> None:
    file = tmp_path / "iris.joblib"
    joblib.dump(ESTIMATOR, file)
    report = inspect(file)
    assert (report.runtime, report.size, report.files) == ("sklearn", file.stat().st_size, 1)
    assert report.sha256 == report.pin == digest(file)
    assert versions(report) == {"scikit-learn": (sklearn.__version__, sklearn.__version__)}
    assert not report.alarming
    text = as_text(report)
    assert "harmless   " in text
    assert "sklearn.linear_model._logistic.LogisticRegression" in text
    assert "DANGEROUS" not in text
    assert "This is a report, no permission" in text


def test_another_version_is_pointed_out(tmp_path: Path) -> None:
    data = pickle.dumps(ESTIMATOR).replace(sklearn.__version__.encode(), b"0.0.1")
    (tmp_path / "model.pkl").write_bytes(data)
    report = inspect(tmp_path / "model.pkl")
    assert versions(report) == {"scikit-learn": ("0.0.1", sklearn.__version__)}
    assert f"scikit-learn  0.0.1       {sklearn.__version__}   differs" in as_text(report)


def mlflow_directory(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "MLmodel").write_text(MLMODEL)
    (root / "requirements.txt").write_text(
        "mlflow==2.1.0\nscikit-learn==1.0.1\nNumPy==1.21.0 # old\nnosuchlib[x]==7\nscipy>=1\n"
    )
    (root / "model.pkl").write_bytes(pickle.dumps(ESTIMATOR))
    (root / "code").mkdir()
    (root / "code" / "features.py").write_text("raise SystemExit\n")
    return root


@pytest.mark.parametrize("below", [False, True])
def test_an_mlflow_model(tmp_path: Path, below: bool) -> None:
    mlflow_directory(tmp_path / "model" if below else tmp_path)
    report = inspect(tmp_path)
    prefix = "model/" if below else ""
    assert report.runtime == "mlflow"
    assert report.metadata["flavors"] == ["python_function", "sklearn"]
    assert report.metadata["signature"] == {
        "inputs": SIGNATURE,
        "outputs": [{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}],
    }
    found = versions(report)
    assert found["scikit-learn"] == ("1.0.2", sklearn.__version__)
    assert found["numpy"] == ("1.21.0", version("numpy"))
    assert found["nosuchlib"] == ("7", "")
    assert found["python"][0] == "3.9.1"
    assert "scipy" not in found
    assert [one.file for one in report.pickles] == [f"{prefix}model.pkl"]
    assert report.code == [f"{prefix}code/features.py"]
    assert report.pin == ""
    text = as_text(report)
    assert '{"type": "double", "name": "length", "required": true}' in text
    assert "nosuchlib     7           not installed" in text
    assert f"Python files, which run when the model is loaded or asked: {prefix}code/features.py" in text


def test_yaml_of_a_hostile_kind_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    mlflow_directory(tmp_path / "m")
    (tmp_path / "m" / "MLmodel").write_text(f"flavors: !!python/object/apply:os.mkdir ['{marker}']\n")
    report = inspect(tmp_path / "m")
    assert any(note.startswith("MLmodel cannot be read: ") for note in report.notes)
    assert "note: MLmodel cannot be read: " in as_text(report)
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        *("3", "[1]", "flavors: [a]", "flavors: {sklearn: 3}\nsignature: 7", "\t", "[" * 5000),
        *(
            "a: !!bool x",
            "a: !!int ''",
            "a: !!float ''",
            "a: !!timestamp x",
            "mlflow_version: 0x" + "f" * 5000,
        ),
    ],
)
def test_any_mlmodel_is_reported(tmp_path: Path, content: str) -> None:
    (tmp_path / "MLmodel").write_text(content)
    report = inspect(tmp_path)
    assert report.runtime == "mlflow"
    json.loads(as_json(report))


def test_a_short_text_that_grows_without_end_is_not_written_out(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40)
    )
    tail = "flavors: {sklearn: {sklearn_version: *a39}}\nsignature: {inputs: *a39}\nmlflow_version: *a39\n"
    (tmp_path / "MLmodel").write_text(bomb + tail)
    report = inspect(tmp_path)
    assert report.metadata == {"flavors": ["sklearn"], "signature": {}}
    assert len(as_json(report)) < 2000


@pytest.mark.parametrize("depth", [60, 900, 100_000])
def test_what_is_nested_deeply_is_told(tmp_path: Path, depth: int) -> None:
    (tmp_path / "model-settings.json").write_text('{"a": ' + "[" * depth + "]" * depth + "}")
    report = inspect(tmp_path)
    assert report.notes == ["model-settings.json cannot be read: it is nested deeper than 50"]


def test_a_directory_of_mlserver(tmp_path: Path) -> None:
    settings = {"name": "iris", "implementation": "mlserver_mlflow.MLflowRuntime", "parameters": {"uri": "."}}
    (tmp_path / "model-settings.json").write_text(json.dumps(settings))
    report = inspect(tmp_path)
    assert report.runtime == "mlflow"
    assert report.metadata["model-settings.json"] == settings
    assert "implementation: mlserver_mlflow.MLflowRuntime" in as_text(report)
    (tmp_path / "model-settings.json").write_text("{")
    assert inspect(tmp_path).notes[0].startswith("model-settings.json cannot be read: ")


@pytest.mark.parametrize(
    ("names", "runtime"),
    [
        (["model.py"], "python"),
        (["a.joblib", "README.md"], "sklearn"),
        (["a.onnx"], "onnx"),
        (["a.onnx", "b.skops"], ""),
        ([], ""),
    ],
)
def test_the_runtime_is_guessed(tmp_path: Path, names: list[str], runtime: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    report = inspect(tmp_path)
    assert report.runtime == runtime
    assert inspect(tmp_path, runtime="mine").runtime == "mine"
    if not runtime:
        assert "cannot be told: name it with --runtime" in as_text(report)


def tripled(rows: Any) -> Any:
    return rows * 3


def test_a_skops_file(tmp_path: Path) -> None:
    file = tmp_path / "model.skops"
    skops.io.dump(make_pipeline(FunctionTransformer(tripled), ESTIMATOR), file)
    report = inspect(file)
    (found,) = report.skops
    assert found.untrusted == [f"{__name__}.tripled"]
    assert "sklearn.linear_model._logistic.LogisticRegression" in found.types
    assert versions(report)["scikit-learn"][0] == sklearn.__version__
    assert not report.alarming
    assert f"untrusted  {__name__}.tripled" in as_text(report)


def test_a_skops_file_of_a_hostile_kind_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tripwire_of_skops.py").write_text("raise SystemExit\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "model.skops"
    skops.io.dump(ESTIMATOR, file)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = members["schema.json"].replace(b"sklearn.linear_model._logistic", b"tripwire_of_skops")
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in {**members, "schema.json": schema}.items():
            archive.writestr(name, data)
    (found,) = inspect(file).skops
    assert found.untrusted == ["tripwire_of_skops.LogisticRegression"]
    assert "tripwire_of_skops" not in sys.modules


DEEP = '{"__class__":"list","__module__":"builtins","__loader__":"ListNode","__id__":1,"content":['


@pytest.mark.parametrize(
    "schema", [None, "", "{}", "[]", "3", '{"__loader__": "NoSuchNode"}', DEEP * 20_000 + "]}" * 20_000]
)
def test_a_broken_skops_file_is_told(tmp_path: Path, schema: str | None) -> None:
    file = tmp_path / "model.skops"
    with zipfile.ZipFile(file, "w") as archive:
        if schema is not None:
            archive.writestr("schema.json", schema)
    report = inspect(file)
    assert report.skops[0].problem.startswith("cannot be read: ")
    assert report.alarming
    assert "cannot be read: " in as_text(report)


def test_what_may_have_no_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.joblib")
    with pytest.raises(OSError, match="is neither a file nor a directory"):
        inspect(tmp_path / "model.joblib")


def test_a_small_skops_file_that_unpacks_without_end_is_told(tmp_path: Path) -> None:
    array = (
        '{"__class__":"ndarray","__module__":"numpy","__loader__":"NdArrayNode","type":"numpy","file":"a"}'
    )
    content = ",".join([array] * 30)
    schema = (
        '{"__class__":"list","__module__":"builtins","__loader__":"ListNode","content":[' + content + "]}"
    )
    file = tmp_path / "model.skops"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", schema)
        archive.writestr("a", bytes(10 * 2**20))
    (found,) = inspect(file).skops
    assert found.problem == f"cannot be read: its arrays unpack to {300 * 2**20} bytes"


def test_a_file_that_is_no_archive_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.skops").write_bytes(b"nonsense")
    assert inspect(tmp_path).skops[0].problem == "cannot be read: File is not a zip file"


def test_without_skops_the_types_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skops.io.dump(ESTIMATOR, tmp_path / "model.skops")
    monkeypatch.setitem(sys.modules, "skops.io", None)
    report = inspect(tmp_path)
    assert report.skops[0].untrusted is None
    assert "skops is not installed, so what it trusts cannot be told: builtins.dict" in as_text(report)


def test_names_that_disturb_a_terminal_are_not_printed(tmp_path: Path) -> None:
    text = "\x1b]0;x\x07name"
    data = b"\x80\x04" + b"".join(
        b"\x8c" + bytes([len(part)]) + part for part in (text.encode(), text.encode())
    )
    (tmp_path / "a.pkl").write_bytes(data + b"\x93.")
    report = inspect(tmp_path / "a.pkl")
    assert report.pickles[0].names[0].module == text
    assert "\x1b" not in as_text(report)
    assert "\x1b" not in as_json(report)


def test_the_pin_of_a_download_is_told(tmp_path: Path) -> None:
    joblib.dump(ESTIMATOR, tmp_path / "model.joblib")
    report = inspect(tmp_path, "https://host/model.tar.gz", pin="ab" * 32)
    assert report.path == "https://host/model.tar.gz"
    assert f"pin      {'ab' * 32} (of the download)" in as_text(report)
    assert report.sha256 == digest(tmp_path)


def test_nothing_of_a_directory_runs(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, make in (hostile.PICKLES | hostile.JOBLIB).items():
        (folder / f"{name}.pkl").write_bytes(make(marker))
    (folder / "weights.pt").write_bytes(hostile.torch_archive(marker))
    (folder / "array.npy").write_bytes(hostile.numpy_file(marker))
    (folder / "model.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    before = hostile.imported()
    report = inspect(folder)
    assert all(one.dangerous for one in report.pickles)
    assert len(report.pickles) == len(hostile.PICKLES) + len(hostile.JOBLIB) + 2
    assert report.alarming
    assert as_text(report).count("DANGEROUS") >= len(report.pickles)
    assert hostile.imported() == before
    assert not marker.exists()


def test_many_files_have_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from oipserver.artifacts import inspection

    monkeypatch.setattr(inspection, "MAX_FILES", 2)
    for number in range(4):
        (tmp_path / f"{number}.txt").touch()
    assert inspect(tmp_path).notes == ["only the first 2 of 4 files were looked at"]


def test_a_folder_of_more_files_than_are_looked_at_is_alarming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (tmp_path / name).write_text("nothing")
    assert not inspect(tmp_path).alarming
    monkeypatch.setattr("oipserver.artifacts.inspection.MAX_FILES", 1)
    assert inspect(tmp_path).alarming
