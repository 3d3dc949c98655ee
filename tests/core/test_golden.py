"""Golden rows: what counts as the same answer, and which versions may serve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from oipserver import (
    BYTES,
    FP32,
    FP64,
    INT64,
    Arrays,
    Datatype,
    Model,
    ModelConfig,
    Parameters,
    TensorMetadata,
)
from oipserver.core.golden import GoldenRow
from oipserver.core.messages import Tensor
from oipserver.core.observer import SilentObserver
from oipserver.core.registry import WARM_UP_ROWS, Registry
from oipserver.core.scheduler import Budget
from tests.support import Doubler, run


def difference(
    expected: Any, came: Any, datatype: Datatype = FP64, rtol: float | None = None, atol: float | None = None
) -> str:
    row = GoldenRow((), (), rtol=rtol, atol=atol)
    return row.difference(np.array(expected, datatype.dtype), np.array(came, datatype.dtype), datatype)


@pytest.mark.parametrize(
    ("expected", "came", "datatype"),
    [
        ([1.0, 2.0], [1.0, 2.0 + 1e-6], FP64),
        ([0.0], [1e-10], FP64),
        ([float("nan"), float("inf")], [float("nan"), float("inf")], FP64),
        ([1000.0], [1000.005], FP32),
        ([2**53 + 1], [2**53 + 1], INT64),
        ([b"setosa"], [b"setosa"], BYTES),
        ([], [], FP64),
    ],
)
def test_the_same_within_the_tolerance(expected: Any, came: Any, datatype: Datatype) -> None:
    assert difference(expected, came, datatype) == ""


@pytest.mark.parametrize(
    ("expected", "came", "datatype", "text"),
    [
        ([1.0, 2.0], [1.0, 2.00001], FP64, "expected 2.0, got 2.00001 at [1]"),
        ([1.0], [float("nan")], FP64, "expected 1.0, got nan"),
        ([float("inf")], [-float("inf")], FP64, "expected inf, got -inf"),
        ([2**53 + 1], [2**53], INT64, "expected 9007199254740993, got 9007199254740992"),
        ([[1, 2], [3, 4]], [[1, 2], [0, 4]], INT64, "expected 3, got 0 at [1, 0]"),
        ([b"setosa"], [b"virgi\x00"], BYTES, "expected 'setosa', got 'virgi?'"),
        ([1, 2], [[1, 2]], INT64, "expected shape [2], got [1, 2]"),
    ],
)
def test_a_difference_is_told(expected: Any, came: Any, datatype: Datatype, text: str) -> None:
    assert difference(expected, came, datatype) == text


def test_tolerances_can_be_given() -> None:
    assert difference([100.0], [101.0], rtol=0.02) == ""
    assert difference([0.0], [0.5], atol=1.0) == ""
    assert difference([100.0], [100.0 + 1e-6], rtol=0.0, atol=0.0) != ""
    assert difference([5], [6], INT64, rtol=1.0, atol=1.0) == "expected 5, got 6"


def golden(*values: float, off: float = 0.0, **options: Any) -> GoldenRow:
    """What a Doubler answers to rows of these values, but for `off` in the last one."""
    rows = np.array([[value, value] for value in values])
    answer = rows * 2
    answer[-1, 1] += off
    return GoldenRow([Tensor("x", FP64, rows)], [Tensor("y", FP64, answer)], **options)


def reason(model: Model, *rows: GoldenRow, **config: Any) -> str:
    """Why the version does not serve with these golden rows; "" when it does."""
    model.golden = rows

    async def scenario() -> str:
        registry = Registry(lambda _: model, Budget(10, 2**20), SilentObserver())
        version = await registry.load(ModelConfig("m", "test", **config))
        ready, reason = version.ready, version.reason
        await registry.close()
        assert ready == (not reason)
        return reason

    return run(scenario())


def test_rows_are_asked_one_by_one_and_together() -> None:
    model = Doubler()
    assert reason(model, golden(1.0, 2.0, 3.0), golden(4.0)) == ""
    assert model.calls == [*WARM_UP_ROWS, 1, 1, 1, 1, 4]


def test_a_batch_is_no_larger_than_the_model_takes() -> None:
    model = Doubler()
    assert reason(model, golden(*range(5)), max_batch_size=2) == ""
    assert model.calls[len(WARM_UP_ROWS) :] == [1] * 5 + [2, 2]


def test_the_row_that_differs_is_named() -> None:
    assert reason(Doubler(), golden(1.0, 2.0), golden(3.0, 4.0, off=0.5)) == (
        "golden row 4 of 4, output 'y': expected 8.5, got 8.0 at [0, 1]"
    )


def test_a_tolerance_of_a_row_is_its_own() -> None:
    assert reason(Doubler(), golden(1.0, off=0.5, atol=1.0)) == ""
    assert reason(Doubler(), golden(1.0, off=0.5, atol=1.0), golden(1.0, off=0.5)).startswith("golden row 2 ")


class Centred(Doubler):
    """A model that is not what it says: its rows depend on each other."""

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        return {"y": (inputs["x"] - inputs["x"].mean(axis=0))}


def test_rows_that_differ_in_company_are_found() -> None:
    rows = np.array([[1.0, 1.0], [2.0, 2.0]])
    row = GoldenRow([Tensor("x", FP64, rows)], [Tensor("y", FP64, rows * 0)])
    assert reason(Centred(), row) == (
        "golden row 1 of 2, output 'y' in a batch of 2 rows: expected 0.0, got -0.5 at [0, 0]"
    )


def test_a_model_whose_rows_belong_together_is_asked_as_it_stands() -> None:
    model = Doubler()
    model.batchable = False
    assert reason(model, golden(1.0, 2.0), golden(3.0)) == ""
    assert model.calls[len(WARM_UP_ROWS) :] == [2, 1]
    assert reason(model, golden(1.0, 2.0, off=1.0)) == (
        "golden row 1 of 1, output 'y': expected 5.0, got 4.0 at [1, 1]"
    )


@pytest.mark.parametrize(
    ("inputs", "outputs", "text"),
    [
        (
            [Tensor("x", FP64, np.ones((1, 3)))],
            "y",
            "is refused: input 'x' of model 'm' expects shape [-1, 2]",
        ),
        ([Tensor("x", FP64, np.ones((1, 2)))], "z", "is refused: model 'm' has no output 'z'"),
        ([Tensor("x", FP64, np.ones((3, 2)))], "y", "output 'y': it has 3 rows in and 1 rows out"),
    ],
)
def test_what_the_model_does_not_take_is_refused(inputs: Sequence[Tensor], outputs: str, text: str) -> None:
    row = GoldenRow(inputs, [Tensor(outputs, FP64, np.full((1, 2), 2.0))])
    assert reason(Doubler(), golden(1.0), row).startswith("golden row 2")
    assert text in reason(Doubler(), row)


def test_the_datatype_must_be_the_announced_one() -> None:
    row = GoldenRow([Tensor("x", FP64, np.ones((1, 2)))], [Tensor("y", INT64, np.full((1, 2), 2))])
    assert reason(Doubler(), row) == (
        "golden row 1, output 'y': expected INT64, but the model announces FP64"
    )


def test_a_model_that_fails_on_a_row_does_not_serve() -> None:
    model = Doubler(poison={7.0: RuntimeError("a secret")})
    text = reason(model, golden(1.0), golden(7.0))
    assert text.startswith("golden row 2 of 2 is not answered: ")
    assert "secret" not in text


class Streaming(Doubler):
    decoupled = True


def test_a_model_that_streams_has_no_golden_rows() -> None:
    assert reason(Streaming()) == ""
    assert reason(Streaming(), golden(1.0)) == "golden rows are for models with one answer, this one streams"


class Scaled(Doubler):
    """Its answer depends on a parameter, and it has an output for those who ask."""

    parameter_names = ("factor",)
    optional_outputs = (TensorMetadata("label", BYTES, (-1,)),)

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        x = inputs["x"]
        labels: Any = np.empty(len(x), dtype=np.object_)
        labels[:] = [b"large" if value > 2 else b"small" for value in x[:, 0]]
        return {"y": x * float(parameters.get("factor", 2)), "label": labels}


def labelled(value: float, label: bytes, factor: float) -> GoldenRow:
    row = np.full((1, 2), value)
    return GoldenRow(
        [Tensor("x", FP64, row)],
        [Tensor("label", BYTES, np.array([label], dtype=object)), Tensor("y", FP64, row * factor)],
        parameters={"factor": factor},
    )


def test_parameters_and_optional_outputs_are_asked_for() -> None:
    rows = [labelled(1.0, b"small", 3.0), labelled(3.0, b"large", 5.0), labelled(4.0, b"large", 5.0)]
    assert reason(Scaled(), *rows) == ""
    assert reason(Scaled(), *rows, labelled(1.0, b"large", 2.0)) == (
        "golden row 4 of 4, output 'label': expected 'large', got 'small'"
    )
