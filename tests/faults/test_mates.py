"""Mates of those who leave a batch: answers as if each had been alone.  BLAS differs by batch size."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from oipserver_sklearn.model import serve
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from oipserver import FP32, FP64, Arrays, Model, ModelConfig, Parameters, TensorMetadata
from oipserver.core.datatypes import Datatype
from oipserver.core.messages import InferenceRequest, Tensor
from tests.support import PATIENCE, Plane, run

X, Y = load_iris(return_X_y=True)
MATES = 32
ESTIMATORS = [
    LogisticRegression(max_iter=1000),
    RandomForestClassifier(20, random_state=0),
    MLPClassifier(max_iter=20, random_state=0),
]


class Network(Model):
    """Three layers in single precision: what is added in another order differs in its last digits."""

    platform = "test"
    inputs = (TensorMetadata("input-0", FP32, (-1, 4)),)
    outputs = (TensorMetadata("predict", FP32, (-1,)), TensorMetadata("predict_proba", FP32, (-1, 3)))
    batchable = True

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        # Positive, so that nothing is cancelled out, and an error in the last digits stays there.
        self._layers = [random.random(shape, np.float32) for shape in ((4, 512), (512, 512), (512, 3))]

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        values: Any = inputs["input-0"]
        for layer in self._layers:
            values = values @ layer
        shares = values / values.sum(1, keepdims=True)
        return {"predict": shares.argmax(1).astype(np.float32), "predict_proba": shares}


def question(row: int, datatype: Datatype = FP64) -> InferenceRequest:
    tensor = Tensor("input-0", datatype, X[4 * row : 4 * row + 1].astype(datatype.dtype))
    outputs = ("predict", "predict_proba")
    return InferenceRequest("m", [tensor], str(row), time.monotonic() + PATIENCE, outputs=outputs)


def numbers(answer: Any) -> list[Any]:
    return [output.data for output in answer.outputs]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one).__name__)
def test_mates_get_what_they_would_get_alone(estimator: Any) -> None:
    run(check_mates(serve(estimator.fit(X, Y), ModelConfig("m", "sklearn")), FP64, 1e-12))


def test_mates_in_single_precision() -> None:
    run(check_mates(Network(), FP32, 1e-5))


async def check_mates(model: Model, datatype: Datatype, tolerance: float) -> None:
    """Labels are equal, and numbers but for the tolerance, relative to them."""
    async with Plane({"m": model}) as plane:
        alone = [numbers(await plane.data.infer(question(row, datatype))) for row in range(MATES)]
        asked = [asyncio.ensure_future(plane.data.infer(question(row, datatype))) for row in range(MATES)]
        await asyncio.sleep(0)  # all are in the queue now
        for leaving in asked[3::7]:
            leaving.cancel()
        together = await asyncio.gather(*asked, return_exceptions=True)
    stayed = [row for row in range(MATES) if row % 7 != 3]
    for row in stayed:
        labels, shares = numbers(together[row])
        np.testing.assert_array_equal(labels, alone[row][0])
        np.testing.assert_allclose(shares, alone[row][1], rtol=tolerance)
