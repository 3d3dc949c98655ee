"""The example iris_mlflow does what its README says."""

from __future__ import annotations

from tests.examples.walkthrough import Step, Walkthrough

EXAMPLE = "iris_mlflow"


def test_readme(step: Step, walk: Walkthrough) -> None:
    walk.check(step)
