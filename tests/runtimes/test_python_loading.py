"""Files, folders and modules: what is found, what is imported, and what is said when it cannot be."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oipserver_python import PythonRuntime

from oipserver import Model, ModelConfig
from oipserver.config import ConfigError, load_config

HEAD = """
from oipserver_python import Input, Output, function
X, Y = [Input("x", "FP64", [-1])], [Output("y", "FP64", [-1])]
"""
FUNCTION = HEAD + "@function(inputs=X, outputs=Y)\ndef add(x): return x + 1\n"


@pytest.fixture(autouse=True)
def as_found(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Loading leaves the import path as it was, and no module of a closed model."""
    before = list(sys.path)
    yield
    assert sys.path == before


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(content))
    return folder


def load(path: Path | str, *, trust_pickle: bool = True, **parameters: object) -> Model:
    uri = str(path)
    file = Path(uri.rpartition(":")[0] if ":" in uri else uri)
    config = ModelConfig("m", "python", uri, trust_pickle=trust_pickle, parameters=parameters)
    return PythonRuntime().load(file, config)


def value(model: Model) -> float:
    return float(model.predict({"x": np.zeros(1)}, ["y"], {})["y"][0])


def complaint(path: Path | str, **parameters: Any) -> str:
    with pytest.raises((ValueError, ImportError, FileNotFoundError)) as caught:
        load(path, **parameters)
    return str(caught.value)


# --- the URI in a configuration ---


def test_a_path_is_checked_without_the_name_behind_it(tmp_path: Path) -> None:
    write(tmp_path, iris=FUNCTION)
    for uri, expected, name in (
        (f"{tmp_path}/iris.py:add", f"{tmp_path}/iris.py:add", "iris"),
        (f"file://{tmp_path}/iris.py:add", f"{tmp_path}/iris.py:add", "iris"),
        ("no_such.module:add", "no_such.module:add", "module"),
    ):
        (model,) = load_config({"runtime": "python", "model_uri": uri}, {}).models
        assert (model.model_uri, model.name) == (expected, name)
    with pytest.raises(ConfigError, match=r"no such file or directory: '.*/absent\.py'"):
        load_config({"runtime": "python", "model_uri": f"{tmp_path}/absent.py:add"}, {})


# --- finding ---

TWO = FUNCTION + "class Other:\n    inputs, outputs = X, Y\n    def infer(self, x): return x + 2\n"


def with_method(name: str, body: str) -> str:
    return TWO.replace("def infer", f"def {name}(self): {body}\n    def infer")


def test_each_form_of_a_uri(tmp_path: Path) -> None:
    write(tmp_path / "one", my_model=FUNCTION, test_it="raise AssertionError", _private="")
    write(tmp_path / "two", model=TWO, helper="")
    assert value(load(tmp_path / "one")) == 1
    assert value(load(tmp_path / "one/my_model.py")) == 1
    assert value(load(f"{tmp_path}/two/model.py:add")) == 1
    assert value(load(f"{tmp_path}/two/model.py:Other")) == 2


def test_a_module_of_the_working_directory_or_an_installed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "shop", prices=FUNCTION, __init__="")
    monkeypatch.chdir(tmp_path)
    assert value(load("shop.prices:add")) == 1
    write(tmp_path / "shop", __init__="from .prices import add")
    assert value(load("shop:add")) == 1
    installed = load(
        "statistics:fmean",
        inputs=[{"name": "data", "datatype": "FP64", "shape": [-1]}],
        outputs=[{"name": "y", "datatype": "FP64", "shape": [1]}],
    )
    assert installed.predict({"data": np.array([1.0, 3.0])}, ["y"], {})["y"].tolist() == [2.0]
    assert "pip install no_such_module_here" in complaint("no_such_module_here:f")


def test_an_undecorated_function_is_the_last_resort(tmp_path: Path) -> None:
    write(tmp_path, model="def plus(x): return x + 3\n")
    tensor = {"datatype": "FP64", "shape": [-1]}
    declared: Any = {"inputs": [{"name": "x", **tensor}], "outputs": [{"name": "y", **tensor}]}
    assert value(load(tmp_path, **declared)) == 3
    assert "'plus' declares no inputs" in complaint(tmp_path)


def test_an_object_of_the_file_is_served_as_it_is(tmp_path: Path) -> None:
    source = TWO + "class _Shift(Other):\n    def __init__(self, by): self.by = by\n"
    source += "    def infer(self, x): return x + self.by\nshifted = _Shift(7)\n"
    write(tmp_path, model=source)
    assert value(load(f"{tmp_path}/model.py:shifted")) == 7
    assert "takes arguments" in complaint(f"{tmp_path}/model.py:_Shift")


@pytest.mark.parametrize(
    ("files", "name", "expected"),
    [
        ({}, "", "holds no Python file: expected model.py"),
        ({"a": "", "b": ""}, "", "holds several Python files: a.py, b.py; call one of them model.py"),
        ({"model": ""}, "", "'model.py' has no function and no class with a method infer"),
        ({"model": TWO}, "", "'model.py' has several candidates: add, Other; name one: model.py:add"),
        ({"model": TWO}, "model.py:Othr", "'model.py' has no 'Othr', did you mean 'Other'?"),
        ({"model": TWO}, "model.py:X", "'X' is a list without a method infer"),
        ({"model": "class A: pass"}, "model.py:A", "'A' is a class without a method infer"),
        ({"model": "x = = 1"}, "", "'model.py' cannot be imported: invalid syntax (model.py line 1)"),
        ({"model": "x = 1\n1 / 0"}, "",
         "'model.py' cannot be imported: ZeroDivisionError: division by zero (model.py line 2)"),
        ({"model": HEAD + "Input('a', 'FP99', [1])"}, "",
         "input 'a': datatype must be one of BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, "
         "FP16, BF16, FP32, FP64, BYTES; got 'FP99' (model.py line 4)"),
        ({"model": with_method("load", "{}['weights']")}, "model.py:Other",
         "load() of 'Other' failed: KeyError: 'weights' (model.py line 8)"),
        ({"model": with_method("__init__", "1 / 0")}, "model.py:Other",
         "'Other' cannot be made: ZeroDivisionError"),
        ({"model": with_method("load", "import torchh")}, "model.py:Other",
         "'model.py' needs the Python module 'torchh', which is not installed: pip install torchh"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_told(
    tmp_path: Path, files: dict[str, str], name: str, expected: str
) -> None:
    write(tmp_path, **files)
    assert expected in complaint(tmp_path / name if name else tmp_path)


def test_what_is_no_python_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.joblib").write_bytes(b"")
    assert "'model.joblib' is not a Python file" in complaint(tmp_path / "model.joblib")


def test_fetched_code_needs_trust(tmp_path: Path) -> None:
    write(tmp_path, model="raise AssertionError('it ran')")
    with pytest.raises(ValueError, match="sha256"):
        load(tmp_path / "model.py", trust_pickle=False)


# --- what is installed ---


@pytest.mark.parametrize(
    ("statement", "install"),
    [
        ("import no_such_package.part", "no_such_package"),
        ("from no_such_package import x", "no_such_package"),
        ("import helper", "no_such_helper"),
    ],
)
def test_a_missing_package_is_told_with_its_cure(tmp_path: Path, statement: str, install: str) -> None:
    write(tmp_path, model=statement, helper="import no_such_helper")
    told = complaint(tmp_path / "model.py")
    assert told.endswith(
        f"needs the Python module '{install}', which is not installed: pip install {install}"
    )


def test_requirements_are_looked_up_before_the_file_is_imported(tmp_path: Path) -> None:
    write(tmp_path, model="raise AssertionError('it was imported')")
    file = tmp_path / "requirements.txt"
    file.write_text(
        "--index-url https://example.org\n# comment\nnumpy>=1  # installed\n\nno-such-package==2.*\n"
        "numpy>=999 \\\n  --hash=sha256:abc\nabsent; python_version < '3'\n-r other.txt\n"
    )
    told = complaint(tmp_path)
    assert told == (
        f"requirements.txt asks for no-such-package==2.* (not installed), numpy>=999 ({np.__version__} is "
        f"installed): pip install -r {file}"
    )
    file.write_text("numpy >= = 3")
    assert "'numpy >= = 3' is no requirement" in complaint(tmp_path)


@pytest.mark.parametrize(
    "place", ["requirements = {}\n" + FUNCTION, TWO, FUNCTION.replace("Y)", "Y, requirements={})")]
)
def test_requirements_in_the_code(tmp_path: Path, place: str) -> None:
    wanted = ["numpy", "no-such-package>=2"]
    write(
        tmp_path,
        model=place.replace("{}", repr(wanted)).replace("Other:", f"Other:\n    requirements = {wanted}"),
    )
    told = complaint(f"{tmp_path}/model.py:Other" if place is TWO else tmp_path)
    assert told.endswith("asks for no-such-package>=2 (not installed): pip install 'no-such-package>=2'")


def test_met_requirements_are_silent(tmp_path: Path) -> None:
    write(tmp_path, model=FUNCTION)
    (tmp_path / "requirements.txt").write_text("numpy>=1\npytest\n")
    assert value(load(tmp_path)) == 1


# --- modules of its own ---


def test_each_model_has_its_own_helpers(tmp_path: Path) -> None:
    source = HEAD + "import helper\n@function(inputs=X, outputs=Y)\ndef f(x): return x + helper.VALUE\n"
    one = load(write(tmp_path / "one", model=source, helper="VALUE = 1"))
    two = load(write(tmp_path / "two", model=source, helper="VALUE = 2"))
    assert (value(one), value(two)) == (1, 2)


def test_helpers_are_found_later_too_and_by_every_form_of_import(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
@function(inputs=X, outputs=Y)
def f(x):
    import parts.numbers
    from parts import letters
    from parts.numbers import ONE
    from doubles import TWO
    from plain import more
    assert letters.A == "a"
    return x + parts.numbers.ONE + ONE + TWO + more.FOUR
"""
    )
    folder = write(tmp_path, model=source, doubles="from parts.numbers import ONE\nTWO = ONE + ONE")
    write(folder / "parts", __init__="", numbers="from . import letters\nONE = 1", letters="A = 'a'")
    write(folder / "plain", more="FOUR = 4")
    write(folder / "numpy")  # data of that name hides no library
    write(folder, json="raise AssertionError('the standard library comes first')")
    before = set(sys.modules)
    model = load(folder / "model.py")
    assert value(model) == 8
    made = set(sys.modules) - before
    assert {"doubles", "parts.letters"} <= made
    model.close()
    assert not made & set(sys.modules)


def test_two_loads_of_one_file_share_nothing_and_see_what_changed(tmp_path: Path) -> None:
    source = (
        HEAD
        + "calls = []\n@function(inputs=X, outputs=Y)\n"
        + "def f(x):\n    calls.append(1)\n    return x + len(calls)\n"
    )
    write(tmp_path, model=source)
    first, second = load(tmp_path), load(tmp_path)
    assert (value(first), value(first), value(second)) == (1, 2, 1)
    write(tmp_path, model=source.replace("x + len", "x - len"))  # as long, and at once
    assert value(load(tmp_path)) == -1
    assert value(first) == 3


def test_a_pickle_finds_the_helpers_that_the_file_imports(tmp_path: Path) -> None:
    helper = "class Shift:\n    def __init__(self, by): self.by = by\n"
    source = (
        HEAD
        + """
import pickle, features
class Model:
    inputs, outputs = X, Y
    def load(self, path):
        self.shift = pickle.loads((path / "shift.pkl").read_bytes())
        assert isinstance(self.shift, features.Shift)
    def infer(self, x): return x + self.shift.by
"""
    )
    folder = write(tmp_path, model=source, features=helper)
    train = "import pickle, features; open('shift.pkl', 'wb').write(pickle.dumps(features.Shift(5)))"
    subprocess.run([sys.executable, "-c", train], cwd=folder, check=True)
    model = load(folder)
    assert value(model) == 5
    model.close()
    assert "features" not in sys.modules


def test_a_dataclass_and_its_annotations_work_in_a_users_file(tmp_path: Path) -> None:
    source = (
        "from __future__ import annotations\n"
        + HEAD
        + """
from dataclasses import dataclass
from typing import get_type_hints
@dataclass
class Settings:
    shift: float = 4
@function(inputs=X, outputs=Y)
def f(x):
    assert get_type_hints(Settings) == {"shift": float}
    return x + Settings().shift
"""
    )
    assert value(load(write(tmp_path, model=source) / "model.py:f")) == 4


def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "my-model.v2.py").write_text(FUNCTION)
    assert value(load(tmp_path / "my-model.v2.py")) == 1
