"""The example data_api does what its README says."""

from __future__ import annotations

from tests.examples.walkthrough import Step, Walkthrough

EXAMPLE = "data_api"


def test_readme(step: Step, walk: Walkthrough) -> None:
    walk.check(step)
