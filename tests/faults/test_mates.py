"""Mates of those who leave a batch: answers as if each had been alone.  BLAS differs by batch size."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest
from oipserver_sklearn.model import serve
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from oipserver import FP64, ModelConfig
from oipserver.core.messages import InferenceRequest, Tensor
from tests.support import PATIENCE, Plane, run

X, Y = load_iris(return_X_y=True)
MATES = 32
ESTIMATORS = [
    LogisticRegression(max_iter=1000),
    RandomForestClassifier(20, random_state=0),
    MLPClassifier(max_iter=20, random_state=0),
]


def question(row: int) -> InferenceRequest:
    tensor = Tensor("input-0", FP64, X[4 * row : 4 * row + 1])
    outputs = ("predict", "predict_proba")
    return InferenceRequest("m", [tensor], str(row), time.monotonic() + PATIENCE, outputs=outputs)


def numbers(answer: Any) -> list[Any]:
    return [output.data for output in answer.outputs]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one).__name__)
def test_mates_get_what_they_would_get_alone(estimator: Any) -> None:
    async def story() -> None:
        config = ModelConfig("m", "sklearn")
        async with Plane({"m": serve(estimator.fit(X, Y), config)}) as plane:
            alone = [numbers(await plane.data.infer(question(row))) for row in range(MATES)]
            asked = [asyncio.ensure_future(plane.data.infer(question(row))) for row in range(MATES)]
            await asyncio.sleep(0)  # all are in the queue now
            for leaving in asked[3::7]:
                leaving.cancel()
            together = await asyncio.gather(*asked, return_exceptions=True)
        stayed = [row for row in range(MATES) if row % 7 != 3]
        for row in stayed:
            labels, shares = numbers(together[row])
            np.testing.assert_array_equal(labels, alone[row][0])
            np.testing.assert_allclose(shares, alone[row][1], rtol=1e-12)

    run(story())
