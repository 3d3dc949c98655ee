"""Functions before and behind a model of any runtime: what was trained is what is served."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from oipserver_sklearn import SklearnRuntime

from oipserver import BYTES, FP64, Arrays, Model, ModelConfig, Parameters, TensorMetadata
from oipserver.core.errors import InferenceFailed
from oipserver.core.messages import InferenceRequest, Tensor
from oipserver.hooks import with_hooks
from tests.server_process import ServerProcess
from tests.support import Doubler, Plane, first_column, outcome, request, run

FEATURES = """
import numpy as np

LABELS = np.array(["setosa", "versicolor", "virginica"])

def clean(arrays):
    inches = arrays["inches"]
    return {"input-0": inches * 2.54}

def name(arrays):
    return {"species": LABELS[arrays["predict"]]}
"""
TRAIN = """
import joblib, numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from features import clean

centimetres, target = load_iris(return_X_y=True)
inches = centimetres / 2.54
rows = clean({"inches": inches})["input-0"]
joblib.dump(LogisticRegression(max_iter=1000).fit(rows, target), "model.joblib")
np.save("inches.npy", inches)
"""
TENSORS = {
    "inputs": [{"name": "inches", "datatype": "FP64", "shape": [-1, 4], "minimum": 0}],
    "outputs": [{"name": "species", "datatype": "BYTES", "shape": [-1, 1]}],
}
HOOKS = {"preprocess": "features.py:clean", "postprocess": "features.py:name", **TENSORS}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that was trained with the very functions that it is served with."""
    folder = tmp_path_factory.mktemp("hooks")
    (folder / "features.py").write_text(textwrap.dedent(FEATURES))
    subprocess.run([sys.executable, "-c", TRAIN], cwd=folder, check=True)
    return folder


def test_what_was_trained_is_what_is_served(trained: Path) -> None:
    inches = np.load(trained / "inches.npy")
    offline = joblib.load(trained / "model.joblib").predict(inches * 2.54)
    config = trained / "server.yaml"
    model = {"name": "iris", "runtime": "sklearn", "model_uri": "model.joblib", "parameters": HOOKS}
    config.write_text(json.dumps({"models": [model]}))
    with ServerProcess("--config", str(config)) as server:
        url = f"{server.http_url}/v2/models/iris"
        with urllib.request.urlopen(url) as answer:
            metadata = json.load(answer)
        assert [each["name"] for each in (*metadata["inputs"], *metadata["outputs"])] == ["inches", "species"]
        data = inches.ravel().tolist()
        tensor = {"name": "inches", "datatype": "FP64", "shape": list(inches.shape), "data": data}
        body = json.dumps({"inputs": [tensor]}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{url}/infer", body)) as answer:
            (output,) = json.load(answer)["outputs"]
    names = ["setosa", "versicolor", "virginica"]
    assert output["data"] == [names[label] for label in offline]


def hooked(folder: Path, model: Model | None = None, **parameters: object) -> Model:
    config = ModelConfig("m", "test", trust_pickle=True, parameters=parameters)
    return with_hooks(lambda _: model or Doubler(), folder, config)


def write(folder: Path, content: str) -> Path:
    (folder / "hooks.py").write_text(textwrap.dedent(content))
    return folder


def test_without_hooks_the_model_is_the_models_own(tmp_path: Path) -> None:
    model = Doubler()
    assert hooked(tmp_path, model, inputs=[]) is model


def test_hooks_that_change_no_tensors_need_no_declarations(tmp_path: Path) -> None:
    write(
        tmp_path,
        "def before(a):\n    a['x'] += 1\n    return a\ndef behind(a): return {'y': a['y'].tolist()}",
    )
    model = hooked(tmp_path, preprocess="hooks.py:before", postprocess="hooks.py:behind")

    async def scenario() -> None:
        async with Plane({"m": model}) as plane:
            assert first_column(await plane.data.infer(request(1, 2))) == [4.0, 6.0]

    run(scenario())
    assert model.batchable


def test_what_a_hook_declares_is_not_handed_to_the_runtime(trained: Path) -> None:
    seen: list[ModelConfig] = []

    def load(config: ModelConfig) -> Model:
        seen.append(config)
        return SklearnRuntime().load(trained / "model.joblib", config)

    config = ModelConfig("m", "sklearn", trust_pickle=True, parameters={**HOOKS, "n_jobs": 1})
    model = with_hooks(load, trained / "model.joblib", config)
    assert seen[0].parameters == {"n_jobs": 1}
    answer = model.predict({"inches": np.full((1, 4), 0.4)}, ["species"], {})
    assert answer["species"].tolist() == [[b"setosa"]]


def test_without_a_postprocess_the_declared_outputs_are_the_runtimes_business(tmp_path: Path) -> None:
    write(tmp_path, "def before(a): return a")
    config = ModelConfig(
        "m", "t", trust_pickle=True, parameters={"preprocess": "hooks.py:before", "outputs": ["kept"]}
    )
    seen = []

    def load(config: ModelConfig) -> Model:
        seen.append(dict(config.parameters))
        return Doubler()

    with_hooks(load, tmp_path, config)
    assert seen == [{"outputs": ["kept"]}]


@pytest.mark.parametrize(
    ("returned", "logged"),
    [
        ("3", "preprocess before returned a int, expected a dict of arrays"),
        ("{'x': np.zeros((2, 3))}", "input 'x' of model 'm' expects shape [-1, 2] (2 columns), got [2, 3]"),
        ("{'z': a['x'], 'x': a['x']}", "model 'm' has no input 'z'"),
        ("{'x': np.array([['a', 'b']])}", "input 'x' expects datatype FP64, got BYTES"),
        ("{'x': np.zeros((1, 2), complex)}", "preprocess before returned 'x': no protocol datatype"),
    ],
)
def test_a_hook_that_returns_something_else_is_to_blame(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, returned: str, logged: str
) -> None:
    write(tmp_path, f"import numpy as np\ndef before(a):\n    return a if not a['x'].any() else {returned}")
    model = hooked(tmp_path, preprocess="hooks.py:before")

    async def scenario() -> None:
        async with Plane({"m": model}) as plane:
            assert isinstance(await outcome(plane.data.infer(request(1))), InferenceFailed)
            assert first_column(await plane.data.infer(request(0))) == [0.0]

    run(scenario())
    assert logged in caplog.text


def test_a_postprocess_that_returns_too_little_is_to_blame(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "def behind(a): return a if not a['y'].any() else {}")
    model = hooked(tmp_path, postprocess="hooks.py:behind")

    async def scenario() -> None:
        async with Plane({"m": model}) as plane:
            assert isinstance(await outcome(plane.data.infer(request(1))), InferenceFailed)

    run(scenario())
    assert "returned no array for output 'y'" in caplog.text


def test_a_hook_may_find_the_data_at_fault(tmp_path: Path) -> None:
    write(
        tmp_path,
        "from oipserver import InvalidInput\ndef before(a):\n"
        "    if a['x'].any(): raise InvalidInput('x is never that')\n    return a",
    )
    model = hooked(tmp_path, preprocess="hooks.py:before")

    async def scenario() -> None:
        async with Plane({"m": model}) as plane:
            assert "x is never that" in str(await outcome(plane.data.infer(request(1))))

    run(scenario())


class Streaming(Doubler):
    decoupled = True

    def stream(
        self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters
    ) -> Generator[Arrays, None, None]:
        try:
            for factor in range(10):
                yield {"y": inputs["x"] * factor}
        finally:
            self.calls.append(-1)


def test_a_stream_passes_through_both_hooks(tmp_path: Path) -> None:
    write(tmp_path, "def before(a): return {'x': a['x'] + 1}\ndef behind(a): return {'y': a['y'] + 100}")
    inner = Streaming()
    model = hooked(tmp_path, inner, preprocess="hooks.py:before", postprocess="hooks.py:behind")
    assert model.decoupled
    answers = model.stream({"x": np.zeros((1, 2))}, ["y"], {})
    assert [next(answers)["y"][0, 0] for _ in range(3)] == [100, 101, 102]
    answers.close()
    assert inner.calls == [-1]


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("hooks.py", "parameters.preprocess: expected file.py:function or module:function, got 'hooks.py'"),
        (3, "parameters.preprocess: expected file.py:function or module:function, got 3"),
        ("absent.py:f", "parameters.preprocess: there is no file"),
        ("hooks.py:befor", "parameters.preprocess: 'hooks.py' has no 'befor', did you mean 'before'?"),
        ("hooks.py:VALUE", "parameters.preprocess: 'hooks.py:VALUE' is not a plain function"),
        ("hooks.py:later", "parameters.preprocess: 'hooks.py:later' is not a plain function"),
        ("no_such_module:f", "parameters.preprocess: 'no_such_module' needs the Python module"),
    ],
)
def test_a_hook_that_cannot_be_had_is_told_at_load(tmp_path: Path, uri: object, complaint: str) -> None:
    write(tmp_path, "VALUE = 1\ndef before(a): return a\nasync def later(a): return a")
    with pytest.raises((ValueError, ImportError, FileNotFoundError)) as caught:
        hooked(tmp_path, preprocess=uri)
    assert complaint in str(caught.value)


def test_a_hook_that_came_with_a_download_needs_trust(tmp_path: Path) -> None:
    write(tmp_path, "raise AssertionError('it ran')")
    config = ModelConfig("m", "test", parameters={"preprocess": "hooks.py:before"})
    with pytest.raises(ValueError, match="sha256"):
        with_hooks(lambda _: Doubler(), tmp_path, config)


@pytest.mark.parametrize("file", ["features.py", "features/__init__.py"])
def test_a_module_that_came_with_a_download_needs_trust(tmp_path: Path, file: str) -> None:
    place = tmp_path / file
    place.parent.mkdir(exist_ok=True)
    place.write_text("raise AssertionError('it ran')")
    config = ModelConfig("m", "test", parameters={"preprocess": "features:clean"})
    with pytest.raises(ValueError, match="sha256"):
        with_hooks(lambda _: Doubler(), tmp_path, config)


def test_an_installed_module_beside_a_download_needs_no_trust(tmp_path: Path) -> None:
    config = ModelConfig("m", "test", parameters={"preprocess": "copy:copy"})
    model = with_hooks(lambda _: Doubler(), tmp_path, config)
    assert model.predict({"x": np.ones((1, 2))}, ["y"], {})["y"].tolist() == [[2.0, 2.0]]
    model.close()


def test_declarations_beside_a_hook_are_checked(tmp_path: Path) -> None:
    write(tmp_path, "def before(a): return a")
    tensor = {"name": "x", "datatype": "FP64", "shape": [1], "min": 3}
    with pytest.raises(ValueError, match=r"parameters.inputs\[0\]: unknown word 'min', did you mean"):
        hooked(tmp_path, preprocess="hooks.py:before", inputs=[tensor])


def test_texts_of_a_hook_reach_a_model_of_texts(tmp_path: Path) -> None:
    write(tmp_path, "def before(a): return {'t': [str(int(v)) for v in a['x'][:, 0]]}")

    class Texts(Doubler):
        inputs = (TensorMetadata("t", BYTES, (-1,)),)
        outputs = (TensorMetadata("t", BYTES, (-1,)),)

        def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
            return inputs

    x: dict[str, Any] = {"name": "x", "datatype": "FP64", "shape": [-1, 1]}
    model = hooked(tmp_path, Texts(), preprocess="hooks.py:before", inputs=[x])

    async def scenario() -> None:
        async with Plane({"m": model}) as plane:
            question = InferenceRequest("m", [Tensor("x", FP64, np.array([[7.0]]))], "1", request(0).deadline)
            (output,) = (await plane.data.infer(question)).outputs
            assert output.data.tolist() == [b"7"]

    run(scenario())
