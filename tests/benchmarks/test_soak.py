"""The soak runs, and sees what grows; how much a million requests leave behind is not a matter for tests."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.soak import EXPECTED, LEFT, MAX_GROWTH_MB, STEPS, Look, verdict

SOAK = Path(__file__).parents[2] / "benchmarks/soak.py"
REST = Look(requests=0, megabytes=200.0, descriptors=20, threads=30, series=100)


def test_every_request_is_answered_as_it_should() -> None:
    done = subprocess.run(
        [sys.executable, SOAK, "--requests", "1000"], capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["requests", "memory", "MB", "descriptors", "threads", "series"]
    assert [line.split()[0] for line in lines[1 : STEPS + 2]] == [f"{n:,}" for n in range(0, 1001, 100)]
    answered, left = (int(part.split()[0]) for part in lines[STEPS + 3].split(", "))
    assert answered + left == 1000
    assert 0 < left < 50
    assert done.returncode == ("flat" not in lines[-1])
    assert "answers:" not in done.stdout


@pytest.mark.parametrize(
    ("grown", "wrong"),
    [
        ({}, 0),
        ({"megabytes": 200.0 + MAX_GROWTH_MB}, 0),
        ({"megabytes": 200.1 + MAX_GROWTH_MB}, 1),
        ({"descriptors": 21}, 1),
        ({"threads": 31, "series": 101}, 2),
        ({"threads": 29}, 0),
    ],
)
def test_what_grows_is_seen(grown: dict[str, float], wrong: int) -> None:
    last = replace(REST, **grown)  # type: ignore[arg-type]
    assert len(verdict([REST, REST, last], Counter({EXPECTED: 9, LEFT: 1}))) == wrong


def test_an_answer_that_should_not_be_is_seen() -> None:
    assert len(verdict([REST, REST, REST], Counter({EXPECTED: 9, "500 for 200": 1, "lost": 1}))) == 2
