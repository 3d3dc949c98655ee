"""The models that the conformance tests serve: one echo per datatype, and one for each way to misbehave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
from oipserver_sklearn import SklearnRuntime
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from oipserver import (
    BYTES,
    FP32,
    FP64,
    INT64,
    Arrays,
    Datatype,
    DynamicBatching,
    InvalidInput,
    Model,
    ModelConfig,
    Parameters,
    TensorMetadata,
)
from oipserver.core.datatypes import DATATYPES
from tests.conformance.system import Served
from tests.support import PATIENCE, Doubler, GatedModel

SECRET = "the password is swordfish"
LOADING = "loading"


class Echo(Model):
    """Answers with `y` what it was given as `x`."""

    platform = "test"
    batchable = True
    may_run_inline = True

    def __init__(self, datatype: Datatype, shape: tuple[int, ...] = (-1, 2), allow_nan: bool = True) -> None:
        self.inputs: Sequence[TensorMetadata] = (TensorMetadata("x", datatype, shape, allow_nan),)
        self.outputs: Sequence[TensorMetadata] = (TensorMetadata("y", datatype, shape),)

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        return {"y": inputs["x"]}


class Several(Model):
    """Three inputs and, by default, three outputs of the same names; a fourth output only when asked for."""

    platform = "test"
    batchable = True
    inputs: Sequence[TensorMetadata] = (
        TensorMetadata("number", INT64, (-1, 1)),
        TensorMetadata("pair", FP32, (-1, 2)),
        TensorMetadata("text", BYTES, (-1, 1)),
    )
    outputs: Sequence[TensorMetadata] = inputs
    optional_outputs: Sequence[TensorMetadata] = (TensorMetadata("half", FP64, (-1, 1)),)

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        answers = {**inputs, "half": inputs["number"] / 2.0}
        return {name: answers[name] for name in outputs}


class Wide(Model):
    """A thousand FP64 columns for one number: an answer that is worth compressing."""

    platform = "test"
    batchable = True
    inputs: Sequence[TensorMetadata] = (TensorMetadata("x", FP64, (-1, 1)),)
    outputs: Sequence[TensorMetadata] = (TensorMetadata("y", FP64, (-1, 1000)),)

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        return {"y": np.repeat(inputs["x"], 1000, axis=1)}


class ShortOfRows(Doubler):
    """Announces a batch and forgets its last row, except in the warm-up, whose rows are zeros."""

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        x = inputs["x"]
        return {"y": x[:-1] if x.any() else x}


def iris() -> LogisticRegression:
    """A real model: three kinds of iris by four lengths."""
    return LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True))


def served(release: threading.Event) -> dict[str, Served]:
    """Every model by name; `loading` loads until `release` is set."""
    poison: dict[float, BaseException] = {
        13.0: RuntimeError(SECRET),
        14.0: SystemExit(SECRET),
        15.0: InvalidInput("13 is as far as this model counts"),
    }
    classifier = iris()

    def load_slowly() -> Model:
        release.wait(PATIENCE)
        return Echo(FP64)

    def fail_to_load() -> Model:
        raise OSError("the file is empty")

    models: dict[str, Callable[[], Model]] = {
        **{f"echo-{name}": _echo(datatype) for name, datatype in DATATYPES.items()},
        "finite": lambda: Echo(FP64, allow_nan=False),
        "column": lambda: Echo(FP64, shape=(-1, 1)),
        "several": Several,
        "wide": Wide,
        "doubler": lambda: Doubler(poison),
        "short": ShortOfRows,
        "gated": GatedModel,
        "iris": lambda: _wrapped(classifier),
        "broken": fail_to_load,
        LOADING: load_slowly,
    }
    tables = {name: Served(_config(name), load) for name, load in models.items()}
    scalar = _config("scalar", max_batch_size=0)
    return {**tables, "scalar": Served(scalar, lambda: Echo(FP64, shape=()))}


def _echo(datatype: Datatype) -> Callable[[], Model]:
    return lambda: Echo(datatype)


def _wrapped(estimator: LogisticRegression) -> Model:
    model = SklearnRuntime().wrap(estimator, _config("iris"))
    assert model is not None
    return model


def _config(name: str, max_batch_size: int = 1024) -> ModelConfig:
    # Two may wait for the model: tests that fill the queue need few callers.
    batching = DynamicBatching(max_queue_size=2) if name == "gated" else DynamicBatching()
    return ModelConfig(name=name, runtime="test", max_batch_size=max_batch_size, dynamic_batching=batching)
