"""Declared ranges, categories and lengths, and what is said of a value that breaks them."""

from __future__ import annotations

import numpy as np
import pytest

from oipserver.core.constraint import Constraint


@pytest.mark.parametrize(
    ("constraint", "values", "said"),
    [
        (Constraint(), [1.0, np.nan], None),
        (Constraint(minimum=0), [0.0, 1.0], None),
        (Constraint(minimum=0), [0.0, -1.0], "holds -1.0, expected at least 0"),
        (Constraint(minimum=0), [np.nan], "holds nan, expected at least 0"),
        (Constraint(maximum=5), [5, 7], "holds 7, expected at most 5"),
        (Constraint(categories=(1, 2)), [1, 2, 2], None),
        (Constraint(categories=(1, 2)), [1, 3], "holds 3, expected one of '1', '2'"),
        (Constraint(minimum=1), [], None),
    ],
)
def test_numbers(constraint: Constraint, values: list[float], said: str | None) -> None:
    assert constraint.violation(np.array(values)) == said


@pytest.mark.parametrize(
    ("constraint", "element", "said"),
    [
        (Constraint(min_length=1, max_length=3), b"abc", None),
        (Constraint(min_length=1), b"", "holds an element of 0 bytes, expected at least 1"),
        (Constraint(max_length=2), b"abc", "holds an element of 3 bytes, expected at most 2"),
        (Constraint(categories=("red", "grün")), "grün".encode(), None),
        (
            Constraint(categories=("red",)),
            b"\xffblue",
            "holds '\N{REPLACEMENT CHARACTER}blue', expected one of 'red'",
        ),
    ],
)
def test_bytes(constraint: Constraint, element: bytes, said: str | None) -> None:
    array = np.empty(2, dtype=np.object_)
    array[:] = [element, element]
    assert constraint.violation(array) == said


def test_a_long_list_of_categories_is_cut() -> None:
    said = Constraint(categories=tuple(range(1000))).violation(np.array([-1]))
    assert said is not None
    assert said.endswith("'19' and others")


@pytest.mark.parametrize(
    ("constraint", "dtype", "value", "said"),
    [
        (Constraint(maximum=2.0**53), np.uint64, 2**53 + 1, "holds 9007199254740993, expected at most"),
        (
            Constraint(minimum=-(2.0**53)),
            np.int64,
            -(2**53) - 1,
            "holds -9007199254740993, expected at least",
        ),
        (Constraint(minimum=0.5), np.uint64, 0, "holds 0, expected at least 0.5"),
        (Constraint(minimum=-1, maximum=2**70), np.uint64, 2**64 - 1, None),
        (Constraint(minimum=float("-inf"), maximum=float("inf")), np.int64, 2**63 - 1, None),
        (Constraint(categories=(2**53,)), np.uint64, 2**53 + 1, "holds 9007199254740993, expected one of"),
        (Constraint(categories=(1, 2**63)), np.uint64, 2**63 + 1, "holds 9223372036854775809, expected one"),
        (Constraint(categories=(0.1, 0.2)), np.float32, 0.1, None),
        (Constraint(categories=(0.1, 0.2)), np.float16, 0.3, "holds 0.300048828125, expected one of"),
        (Constraint(maximum=70_000), np.float16, 5, None),
        (Constraint(maximum=70_000), np.float16, np.inf, "holds inf, expected at most 70000"),
        (Constraint(maximum=1e39), np.float32, np.nan, "holds nan, expected at most"),
    ],
)
def test_numbers_are_compared_as_what_they_are(
    constraint: Constraint, dtype: type, value: float, said: str | None
) -> None:
    found = constraint.violation(np.array([value], dtype))
    assert found is None if said is None else str(found).startswith(said)
