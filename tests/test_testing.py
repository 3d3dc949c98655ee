"""`check_runtime`: a table of runtimes, each broken in one way, and each found out."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from oipserver import (
    BYTES,
    FP32,
    FP64,
    INT64,
    Arrays,
    Constraint,
    InstanceGroup,
    InvalidInput,
    Model,
    ModelConfig,
    Parameters,
    Runtime,
    TensorMetadata,
)
from oipserver.core.golden import GoldenRow
from oipserver.core.messages import Tensor
from oipserver.testing import Report, check_runtime

X = TensorMetadata("x", FP64, (-1, 2))
Y = TensorMetadata("y", FP64, (-1, 2))


class Good(Model):
    """Answers twice the numbers and, when asked, their sums."""

    platform = "test"
    inputs: Sequence[TensorMetadata] = (X,)
    outputs: Sequence[TensorMetadata] = (Y,)
    optional_outputs: Sequence[TensorMetadata] = (TensorMetadata("sums", FP64, (-1,)),)
    batchable = True
    closed = 0

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        x = inputs["x"]
        return {"y": x * 2.0, "sums": x.sum(axis=1)}

    def close(self) -> None:
        self.closed += 1


class Loads(Runtime):
    """A runtime for one model."""

    def __init__(self, model: object) -> None:
        self._model = model

    def load(self, path: Path, config: ModelConfig) -> Model:
        return self._model  # type: ignore[return-value]  # some are no models, on purpose


def check(model: object, **options: Any) -> Report:
    return check_runtime(Loads(model), Path(__file__), **options)


def problems(model: object, **options: Any) -> list[str]:
    with pytest.raises(AssertionError) as caught:
        check(model, **options)
    return str(caught.value).splitlines()


# --------------------------------------------------------------------------------------- what is in order


def test_a_good_runtime_passes_and_is_measured() -> None:
    model = Good()
    report = check(model)
    assert report.platform == "test"
    assert report.inputs == ("x FP64 [-1, 2]",)
    assert report.outputs == ("y FP64 [-1, 2]",)
    assert report.optional_outputs == ("sums FP64 [-1]",)
    assert set(report.call_seconds) == {1, 8, 64}
    assert all(0 < seconds < 10 for seconds in report.call_seconds.values())
    assert report.rows_compared > 2
    assert report.batch_difference == 0.0
    assert report.skipped == ()
    assert model.closed == 1


def iris(folder: Path) -> Path:
    path = folder / "model.joblib"
    joblib.dump(LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True)), path)
    return path


def test_the_sklearn_runtime_passes_in_one_line(tmp_path: Path) -> None:
    check_runtime("sklearn", iris(tmp_path))


FUNCTIONS = """
from oipserver_python import Input, Output, function

@function(inputs=[Input("x", "FP64", [-1, 3])], outputs=[Output("y", "FP64", [-1, 1])], batchable=True)
def double(x):
    return x[:, :1] * 2

class Words:
    inputs, outputs = [Input("text", "BYTES", [1])], [Output("word", "BYTES", [1])]

    def infer(self, text):
        for word in text[0].split():
            yield [word]
"""


def test_the_python_runtime_passes(tmp_path: Path) -> None:
    file = tmp_path / "functions.py"
    file.write_text(FUNCTIONS)

    def check(name: str, **options: Any) -> Report:
        config = ModelConfig("m", "python", f"{file}:{name}", trust_pickle=True)
        return check_runtime("python", file, config, **options)

    assert check("double").rows_compared > 1
    assert check("Words", request={"text": np.array([b"one two"], np.object_)}).outputs == ("word BYTES [1]",)


# In a process of its own: mlflow warns of a great deal when it is imported.
MLFLOW = """
import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from oipserver.testing import check_runtime

for number, (x, y) in enumerate([load_iris(return_X_y=True), load_iris(return_X_y=True, as_frame=True)]):
    signature = mlflow.models.infer_signature(x, y)
    model = LogisticRegression(max_iter=1000).fit(x, y)
    mlflow.sklearn.save_model(model, f"iris{number}", signature=signature, pip_requirements=["mlflow"])
    report = check_runtime("mlflow", f"iris{number}")
    print(len(report.inputs), *report.outputs)
"""


def test_the_mlflow_runtime_passes(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", MLFLOW], cwd=tmp_path, capture_output=True, text=True)
    said = [line for line in done.stdout.splitlines() if "INT64" in line]
    assert said == ["1 output-1 INT64 [-1, 1]", "4 target INT64 [-1, 1]"], done.stdout + done.stderr


def test_the_sklearn_runtime_passes_on_several_threads_with_rows_of_ours(tmp_path: Path) -> None:
    config = ModelConfig("iris", "sklearn", trust_pickle=True, instance_group=InstanceGroup(count=4))
    rows = load_iris(return_X_y=True)[0][::15]
    report = check_runtime("sklearn", iris(tmp_path), config, request={"input-0": rows})
    assert report.rows_compared >= len(rows)
    assert report.optional_outputs[0] == "predict_proba FP64 [-1, 3]"


class Text(Good):
    """Its input is text, so that no rows can be made up."""

    inputs = (TensorMetadata("text", BYTES, (-1, 1)),)
    outputs = (TensorMetadata("length", INT64, (-1, 1)),)
    optional_outputs = ()

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        lengths = [len(text.decode()) for text in inputs["text"].flat]
        return {"length": np.array(lengths, np.int64).reshape(-1, 1)}


class OnlyStreams(Good):
    """Has no single answer."""

    decoupled = True

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        raise InvalidInput("ask for a stream")

    def stream(
        self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters
    ) -> Generator[Arrays, None, None]:
        yield {"y": inputs["x"]}


def picky(inputs: Arrays) -> Arrays:
    if not inputs["x"].all():
        raise ValueError("a zero")
    return good(inputs)


def test_a_model_that_fails_on_zeros_is_checked_with_a_request() -> None:
    report = check(predicting(picky), request={"x": np.ones((2, 2))})
    assert report.skipped == ("warm-up: ValueError: a zero: give the model an example",)
    assert report.rows_compared > 2


def test_a_model_that_only_streams() -> None:
    assert check(OnlyStreams()).skipped == ("predict: ask for a stream",)


def test_what_cannot_be_checked_is_said() -> None:
    (skipped,) = check(Text()).skipped
    assert skipped == "batches: no two different rows; give the check a request with several"
    several = np.array([[b"one"], [b"three"]], np.object_)
    report = check(Text(), request={"text": several})
    assert (report.skipped, report.rows_compared) == ((), 9)


class Dice(Good):
    """Answers something else each time, which is no breach."""

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        return super().predict({"x": inputs["x"] + np.random.default_rng().random()}, outputs, parameters)


def test_chance_is_no_breach() -> None:
    assert check(Dice()).skipped == ("equal requests have different answers: nothing was compared",)


class Whole(Good):
    """One matrix, no batch."""

    inputs = (TensorMetadata("x", FP64, (3, 3)), TensorMetadata("scale", FP64, (1,), optional=True))
    outputs = (TensorMetadata("y", FP64, (1,)),)
    optional_outputs = ()
    has_batch_axis = False
    batchable = False

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        return {"y": inputs["x"].sum(keepdims=True)[0] * inputs.get("scale", 1.0)}


class Counting(Good):
    """Three pieces for each request."""

    decoupled = True

    def stream(
        self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters
    ) -> Generator[Arrays, None, None]:
        for factor in range(5):
            yield {"y": inputs["x"] * factor}


class Sized(Good):
    """Values from 1 to 5 alone; its example is one."""

    inputs = (TensorMetadata("x", FP64, (-1, 2), constraint=Constraint(minimum=1, maximum=5)),)
    example: Arrays | None = MappingProxyType({"x": np.array([[2.0, 3.0]])})


@pytest.mark.parametrize("model", [Whole(), Counting(), Sized()], ids=lambda model: type(model).__name__)
def test_other_kinds_of_models_pass(model: Model) -> None:
    assert check(model).skipped == ()


# ------------------------------------------------------------------------------------- each broken in one way


def predicting(function: Callable[[Arrays], Arrays], **attributes: Any) -> Model:
    """A Good model with another `predict`."""
    body = {"predict": lambda self, inputs, outputs, parameters: function(inputs), **attributes}
    model: Model = type("Broken", (Good,), body)()
    return model


def good(inputs: Arrays) -> Arrays:
    return Good().predict(inputs, (), {})


def doubled(inputs: Arrays) -> Arrays:
    return {**good(inputs), "y": inputs["x"] * 2.0}


def halves_in_place(inputs: Arrays) -> Arrays:
    x = inputs["x"]
    if x.flags.writeable:
        x += 1.0
    return good({"x": x.copy()})


def writes_to_a_copy_of_the_view(inputs: Arrays) -> Arrays:
    inputs["x"].flags.writeable = True
    return good(inputs)


def of_the_batch(inputs: Arrays) -> Arrays:
    x = inputs["x"]
    return {**good(inputs), "y": x - x.mean(axis=0)}


def five_rows_at_most(inputs: Arrays) -> Arrays:
    if len(inputs["x"]) > 5:
        raise MemoryError("too many rows")
    return good(inputs)


def odd_batches_only(inputs: Arrays) -> Arrays:
    answer = good(inputs)
    return {**answer, "sums": answer["sums"][:1]} if len(inputs["x"]) == 8 else answer


def ends_the_process(inputs: Arrays) -> Arrays:
    if np.isnan(inputs["x"]).any():
        raise SystemExit(3)
    return good(inputs)


def refuses_zeros(inputs: Arrays) -> Arrays:
    if not inputs["x"].all():
        raise InvalidInput("zeros are not wanted")
    return good(inputs)


class Buffered(Good):
    """Hands out the array that it computes in."""

    def __init__(self) -> None:
        self.buffers: dict[int, Any] = {}

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        x = inputs["x"]
        buffer = self.buffers.setdefault(len(x), np.empty(x.shape))
        np.multiply(x, 2.0, out=buffer)
        return {"y": buffer, "sums": x.sum(axis=1)}


class Poisoned(Good):
    """Never the same after a NaN."""

    poisoned = 0.0

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        if np.isnan(inputs["x"]).any():
            self.poisoned = 1.0
        return {"y": inputs["x"] * 2.0 + self.poisoned, "sums": inputs["x"].sum(axis=1)}


class Dying(Poisoned):
    """Of no use after a NaN."""

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        if self.poisoned:
            raise RuntimeError("session is gone")
        return super().predict(inputs, outputs, parameters)


def clinging(self: Good, inputs: Arrays, *_: object) -> Generator[Arrays, None, None]:
    yield {"y": inputs["x"]}
    yield {"y": inputs["x"]}
    with suppress(GeneratorExit):
        yield {"y": inputs["x"]}
    yield {"y": inputs["x"]}


class BadStream(Counting):
    def stream(
        self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters
    ) -> Generator[Arrays, None, None]:
        yield {"y": inputs["x"].astype(np.float32)}


class Unclosable(Good):
    def close(self) -> None:
        raise OSError("cannot let go")


def tensor(name: str, *row: float) -> Tensor:
    return Tensor(name, FP64, np.array([row]))


def test_golden_rows_of_its_own() -> None:
    row = GoldenRow([tensor("x", 1.0, 2.0)], [tensor("y", 2.0, 4.0)])
    assert check(predicting(good, golden=(row,))).skipped == ()


class NoModel:
    platform = "test"


BROKEN: dict[str, tuple[object, str]] = {
    "no model": (NoModel(), "the model has no inputs, outputs, "),
    "no platform": (predicting(good, platform=""), "platform: expected some text, got ''"),
    "no outputs": (predicting(good, outputs=()), "outputs: none is announced"),
    "no inputs": (predicting(good, inputs=()), "inputs: none is announced"),
    "a name twice": (predicting(good, optional_outputs=(Y,)), "outputs: 'y' is announced 2 times"),
    "an unprintable name": (
        predicting(good, inputs=(TensorMetadata("a\nb", FP64, (-1, 2)),)),
        "name: expected printable text",
    ),
    "a datatype of numpy": (
        predicting(good, inputs=(TensorMetadata("x", np.float64, (-1, 2)),)),  # type: ignore[arg-type]
        "datatype: expected one of oipserver's",
    ),
    "a shape that is a list": (
        predicting(good, inputs=(TensorMetadata("x", FP64, [-1, 2]),)),  # type: ignore[arg-type]
        "shape: expected a tuple of -1 or whole numbers from 1, got [-1, 2]",
    ),
    "no batch axis": (
        predicting(good, outputs=(TensorMetadata("y", FP64, (1, 2)),)),
        "outputs: 'y': shape: expected -1 as the first axis, which is the batch, got [1, 2]",
    ),
    "a scalar": (predicting(good, inputs=(TensorMetadata("x", FP64, ()),)), "expected -1 as the first axis"),
    "tensors of another make": (
        predicting(good, inputs=("x",)),
        "expected oipserver.TensorMetadata, got 'x'",
    ),
    "batchable without a batch": (
        predicting(good, has_batch_axis=False),
        "batchable is True, but the model has no batch axis",
    ),
    "metadata that is no JSON": (
        predicting(good, parameters={"classes": np.arange(3)}),
        "parameters: shown in the REST metadata, so a mapping of JSON values is expected",
    ),
    "an example of another type": (
        predicting(good, example={"x": np.zeros((1, 2), np.float32)}),
        "example: 'x' is float32 [1, 2], which is not as announced",
    ),
    "an example of another shape": (
        predicting(good, example={"x": np.zeros((1, 3))}),
        "example: input 'x' of model 'checked' expects shape [-1, 2] (2 columns), got [1, 3]",
    ),
    "an example of another name": (
        predicting(good, example={"z": np.zeros((1, 2))}),
        "example: 'z' is float64 [1, 2], which is not as announced",
    ),
    "an example of lists": (predicting(good, example={"x": [[1.0, 2.0]]}), "example: 'x': expected an array"),
    "an example that is refused": (
        predicting(refuses_zeros, example={"x": np.zeros((1, 2))}),
        "example: refused: zeros are not wanted",
    ),
    "no example for want of zeros": (
        predicting(refuses_zeros),
        "a row of zeros: refused: zeros are not wanted: give the model an example, or the check a request",
    ),
    "an exception": (predicting(lambda inputs: 1 / 0), "predict raised ZeroDivisionError"),  # type: ignore[arg-type,return-value]
    "another datatype": (
        predicting(lambda inputs: {**good(inputs), "y": inputs["x"].astype(np.float32)}),
        "predict returned float32 for output 'y', announced FP64",
    ),
    "another shape": (
        predicting(lambda inputs: {**good(inputs), "y": inputs["x"][:, :1]}),
        "predict returned shape [1, 1] for output 'y', announced [-1, 2]",
    ),
    "lists": (
        predicting(lambda inputs: {**good(inputs), "y": inputs["x"].tolist()}),
        "predict returned no array for output 'y': list",
    ),
    "an optional output that is not there": (
        predicting(lambda inputs: {"y": inputs["x"] * 2.0}),
        "predict returned no array for output 'sums'",
    ),
    "text that is not bytes": (
        predicting(
            lambda inputs: {"y": np.full((len(inputs["x"]), 1), "text", np.object_)},
            outputs=(TensorMetadata("y", BYTES, (-1, 1)),),
            optional_outputs=(),
        ),
        "predict returned objects that are not bytes in output 'y'",
    ),
    "values outside of its own limits": (
        predicting(good, outputs=(TensorMetadata("y", FP64, (-1, 2), constraint=Constraint(minimum=1)),)),
        "predict returned for output 'y' what holds 0.0, expected at least 1",
    ),
    "few rows at most": (
        predicting(five_rows_at_most),
        "rows together, each of which is answered alone: predict raised MemoryError: too many rows",
    ),
    "few rows of its own example": (
        predicting(five_rows_at_most, example={"x": np.zeros((1, 2))}),
        "warm-up, up to 64 rows: predict raised MemoryError: too many rows",
    ),
    "no answer without what is optional": (
        predicting(
            lambda inputs: {**good(inputs), "y": inputs["x"] * inputs["scale"]},
            inputs=(X, TensorMetadata("scale", FP64, (-1, 1), optional=True)),
        ),
        "without its optional inputs ['scale']: predict raised KeyError: 'scale'",
    ),
    "no answer to named columns": (
        predicting(good, named_inputs=(TensorMetadata("a", FP64, (-1, 1)),)),
        "with named_inputs: predict raised KeyError: 'x'",
    ),
    "inputs that it changes": (
        predicting(halves_in_place),
        "predict changes its input 'x': copy before writing",
    ),
    "inputs that it wants to write to": (
        predicting(writes_to_a_copy_of_the_view),
        "with read-only inputs, views of a request's bytes: predict raised ValueError",
    ),
    "answers that it overwrites": (Buffered(), "output 'y' changes after it was returned"),
    "rows that are not independent": (
        predicting(of_the_batch),
        "output 'y' of a row depends on the rows beside it: batchable must be False",
    ),
    "golden rows that are not its own": (
        predicting(good, golden=(GoldenRow([tensor("x", 1.0, 2.0)], [tensor("y", 2.0, 5.0)]),)),
        "golden: ",
    ),
    "the end of the process": (
        predicting(ends_the_process),
        "after nan in input 'x' predict raised SystemExit: 3, expected InvalidInput",
    ),
    "a state that a bad value changes": (
        Poisoned(),
        "after nan in input 'x' a good request is answered differently",
    ),
    "a session that a bad value ends": (
        Dying(),
        "after nan in input 'x' a good request fails: predict raised RuntimeError: session is gone",
    ),
    "a stream that is not closed": (
        type("Clinging", (OnlyStreams,), {"stream": clinging})(),
        "stream raised RuntimeError: generator ignored GeneratorExit",
    ),
    "no answer and no refusal": (
        predicting(lambda inputs: 1 / 0, decoupled=True),  # type: ignore[arg-type,return-value]
        "a model that only streams raises InvalidInput there",
    ),
    "pieces of another type": (BadStream(), "stream returned float32 for output 'y', announced FP64"),
    "a close that fails": (Unclosable(), "close raised OSError: cannot let go"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_runtime_is_found_out(broken: str) -> None:
    model, expected = BROKEN[broken]
    found = problems(model)
    assert any(expected in sentence for sentence in found), found


def test_one_breach_is_one_sentence() -> None:
    (sentence,) = problems(Buffered())
    assert sentence.startswith("output 'y' changes")


def test_every_breach_is_told() -> None:
    found = problems(predicting(of_the_batch, close=Unclosable.close))
    assert [sentence.split()[0] for sentence in found] == ["output", "close"]


def test_rows_that_are_not_independent_are_no_breach_where_none_are_merged() -> None:
    assert check(predicting(of_the_batch, batchable=False)).rows_compared == 0


def test_a_wrong_number_of_rows_in_a_batch() -> None:
    found = problems(predicting(odd_batches_only))
    assert found == [
        "8 rows together, each of which is answered alone: predict returned 1 rows for 8 in output 'sums'"
    ]


# ------------------------------------------------------------------------------------- threads and patience


class OneAtATime(Good):
    """Keeps the inputs in itself while it computes: two threads mix them up."""

    def __init__(self) -> None:
        self.both = threading.Barrier(2)

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        self.x = inputs["x"]
        try:
            self.both.wait(0.05)  # where two come, both have written by now
        except threading.BrokenBarrierError:
            self.both.reset()
        return {"y": self.x * 2.0, "sums": inputs["x"].sum(axis=1)}


def test_threads_that_mix_up_their_inputs() -> None:
    config = ModelConfig("checked", "test", instance_group=InstanceGroup(count=2))
    assert problems(OneAtATime(), config=config) == [
        "called by 2 threads at the same time, predict answers something else"
    ]


def test_one_instance_is_called_by_one_thread_alone() -> None:
    assert check(OneAtATime()).skipped == ()


def test_a_call_that_never_returns() -> None:
    never = threading.Event()
    started = time.monotonic()
    found = problems(predicting(lambda inputs: {"y": never.wait(60)}), patience=0.2)  # type: ignore[dict-item]
    assert found == ["a row of zeros: predict did not return within 0.2 s"]
    assert time.monotonic() - started < 30
    never.set()


# ---------------------------------------------------------------------------------------- the runtime itself


class NoWrap:
    def load(self, path: Path, config: ModelConfig) -> Model:
        return Good()


class Greedy(NoWrap):
    def wrap(self, model: object, config: ModelConfig) -> Model:
        return Good()


class Failing(Runtime):
    def __init__(self, error: Exception) -> None:
        self._error = error

    def load(self, path: Path, config: ModelConfig) -> Model:
        raise self._error


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [
        (NoWrap(), ["the runtime has no method 'wrap': subclass oipserver.Runtime"]),
        (Greedy(), ["wrap took an object of another kind for its own, expected None"]),
        (Failing(ValueError("broken file")), ["load raised ValueError: broken file"]),
        (
            Failing(ValueError()),
            ["load raised ValueError without a sentence that says why", "load raised ValueError"],
        ),
        (
            Failing(ModuleNotFoundError("No module named 'onnx'")),
            [
                "a missing library has to name its cure, as in 'pip install ...'",
                "load raised ModuleNotFoundError: No module named 'onnx'",
            ],
        ),
        (
            Failing(ImportError("onnx is missing: pip install onnx")),
            ["load raised ImportError: onnx is missing: pip install onnx"],
        ),
    ],
    ids=["no wrap", "greedy", "fails", "fails mutely", "no cure", "cure"],
)
def test_a_runtime_that_is_none_or_fails(runtime: Any, expected: list[str]) -> None:
    with pytest.raises(AssertionError) as caught:
        check_runtime(runtime, Path(__file__))
    assert str(caught.value).splitlines() == expected


def test_a_runtime_that_is_not_installed() -> None:
    with pytest.raises(AssertionError, match="runtime 'none' is not installed"):
        check_runtime("none", Path(__file__))


def test_no_model_there(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="there is no model at"):
        check_runtime("sklearn", tmp_path / "nothing")


def test_a_request_that_is_not_the_models(tmp_path: Path) -> None:
    (sentence,) = problems(Good(), request={"x": np.zeros((1, 5))})
    assert sentence.startswith("request: input 'x' of model 'checked' expects shape [-1, 2]")


def test_a_request_may_bring_other_numbers() -> None:
    report = check(Good(), request={"x": np.ones((3, 2), np.float32)})
    assert report.rows_compared == 10


def test_single_precision_may_round() -> None:
    class Single(Good):
        inputs = (TensorMetadata("x", FP32, (-1, 2)),)
        outputs = (TensorMetadata("y", FP32, (-1, 2)),)
        optional_outputs = ()

        def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
            x = inputs["x"]
            return {"y": x * np.float32(1 + 1e-6 * len(x))}

    assert 0 < check(Single()).batch_difference < 1e-4
