"""One table of requests, run through every way into the server."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from tests.conformance.cases import CASES, Case, Error
from tests.conformance.doors import Door, Form, Output, Refused
from tests.conformance.models import SECRET

DOORS: Mapping[str, Form] = {
    "data plane": Form.ARRAYS,
    **{
        f"http-{host}-{form.value}": form
        for host in ("ours", "h11", "httptools")
        for form in (Form.JSON, Form.BINARY)
    },
    "http-generate": Form.JSON,
    "grpc-raw": Form.RAW,
    "grpc-typed": Form.TYPED,
    "grpc-stream": Form.RAW,
}


def _rows() -> Iterator[Any]:
    for case in CASES:
        for name, form in DOORS.items():
            if form not in case.cannot:
                yield pytest.param(name, case, id=f"{case.name}-{name}")


@pytest.mark.parametrize(("door", "case"), list(_rows()))
def test_every_door_gives_the_answer_of_the_table(doors: Mapping[str, Door], door: str, case: Case) -> None:
    result = doors[door].infer(case.ask)
    if isinstance(case.expect, Error):
        assert isinstance(result, Refused), result
        assert result.code == case.expect.code, result.message
        for word in case.expect.words:
            assert word in result.message
        assert SECRET not in result.message
    else:
        assert not isinstance(result, Refused), result
        assert (result.model, result.version) == (case.ask.model, "1")
        assert result.id == (case.ask.id or result.id) != ""
        assert _exactly(result.outputs) == _exactly(case.expect)


def _exactly(outputs: Sequence[Output]) -> list[tuple[str, str, list[int], list[str]]]:
    """To compare with NaN equal to NaN, and 0 different from -0.0, 0.0 and False."""
    return [(one.name, one.datatype, list(one.shape), list(map(repr, one.data))) for one in outputs]


def test_doors_are_those_of_the_fixture(doors: Mapping[str, Door]) -> None:
    assert {name: door.form for name, door in doors.items()} == DOORS


def test_names_of_cases_differ() -> None:
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []


def test_every_case_goes_through_some_door_and_says_why_not_through_the_others() -> None:
    for case in CASES:
        assert set(Form) - case.cannot.keys(), case.name
        for reason in case.cannot.values():
            assert re.search(r"\w+ \w+ \w+", reason), case.name
