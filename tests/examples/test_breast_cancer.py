"""The example breast_cancer does what its README says."""

from __future__ import annotations

from tests.examples.walkthrough import Step, Walkthrough

EXAMPLE = "breast_cancer"


def test_readme(step: Step, walk: Walkthrough) -> None:
    walk.check(step)
