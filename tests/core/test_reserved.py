"""Parameters that speak to the server are checked and taken out; the others go to the model untouched."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oipserver.core.errors import BadRequest
from oipserver.core.reserved import NOTHING_RESERVED, Reserved, check_tensor_parameters, read_parameters

RESERVED = [
    "timeout",
    "binary_data_output",
    "priority",
    "sequence_id",
    "sequence_start",
    "sequence_end",
]

scalars = st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5)
names = st.text(max_size=8).filter(lambda name: name not in RESERVED and not name.startswith("triton_"))


@given(st.dictionaries(names, scalars))
def test_unreserved_parameters_are_the_models(parameters: dict[str, Any]) -> None:
    read = read_parameters(parameters)
    assert (read.timeout, read.binary_data_output) == (None, False)
    assert {name: repr(value) for name, value in read.rest.items()} == {
        name: repr(value) for name, value in parameters.items()
    }


def test_reserved_parameters_do_not_reach_the_model() -> None:
    everything = {
        "timeout": 2_500_000,
        "binary_data_output": True,
        "priority": 3,
        "sequence_id": "a",
        "sequence_start": True,
        "sequence_end": False,
        "temperature": 0.5,
    }
    assert set(RESERVED) < set(everything)
    assert read_parameters(everything) == Reserved(2.5, True, {"temperature": 0.5}, 3)


@pytest.mark.parametrize("name", [*RESERVED, "mine", "triton_x"])
def test_null_is_as_good_as_absent(name: str) -> None:
    assert read_parameters({name: None}) == NOTHING_RESERVED


def test_no_parameters_reserve_nothing() -> None:
    assert read_parameters({}) == NOTHING_RESERVED == Reserved(None, False, {})


@pytest.mark.parametrize(("microseconds", "seconds"), [(1, 1e-6), (1_000_000, 1.0), (2**64 - 1, 2**64 / 1e6)])
def test_timeout_is_in_microseconds(microseconds: int, seconds: float) -> None:
    assert read_parameters({"timeout": microseconds}).timeout == pytest.approx(seconds)


def test_a_timeout_of_zero_is_none() -> None:
    assert read_parameters({"timeout": 0}).timeout is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("timeout", -1, "unsigned integer"),
        ("timeout", 1.5, "unsigned integer"),
        ("timeout", 1.0, "unsigned integer"),
        ("timeout", True, "unsigned integer"),
        ("timeout", "5", "unsigned integer"),
        ("binary_data_output", 1, "true or false"),
        ("binary_data_output", "true", "true or false"),
        ("priority", -1, "unsigned integer"),
        ("priority", True, "unsigned integer"),
        ("priority", 1.0, "unsigned integer"),
        ("sequence_id", True, "unsigned integer or a string"),
        ("sequence_id", -5, "unsigned integer or a string"),
        ("sequence_id", 1.0, "unsigned integer or a string"),
        ("sequence_start", 1, "true or false"),
        ("sequence_end", "no", "true or false"),
    ],
)
def test_reserved_parameters_are_typed(name: str, value: object, expected: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_parameters({name: value})
    assert caught.value.message == f"parameter '{name}' must be {expected}, got '{value}'"


@pytest.mark.parametrize("value", [0, 7, 2**64 - 1, "", "a"])
def test_sequence_ids_are_numbers_or_text(value: object) -> None:
    assert read_parameters({"sequence_id": value}) == NOTHING_RESERVED


@pytest.mark.parametrize("value", [[], [1], {}, {"a": {"b": 1}}], ids=str)
@pytest.mark.parametrize("name", ["mine", "timeout", "binary_data_output", "triton_x"])
def test_parameters_are_scalars(name: str, value: object) -> None:
    with pytest.raises(BadRequest, match=f"parameter '{name}' must be a string, number or boolean"):
        read_parameters({name: value})


@pytest.mark.parametrize("name", ["triton_", "triton_enable_x"])
def test_triton_names_are_reserved(name: str) -> None:
    with pytest.raises(BadRequest, match=f"parameter '{name}': names that begin with triton_ are reserved"):
        read_parameters({name: True})


def test_a_name_in_a_message_is_cut() -> None:
    with pytest.raises(BadRequest) as caught:
        read_parameters({"\n" * 100_000: []})
    assert len(caught.value.message) < 250
    assert caught.value.message.isprintable()


EXTENSIONS = ["shared_memory_region", "shared_memory_offset", "shared_memory_byte_size", "classification"]


@pytest.mark.parametrize("name", EXTENSIONS)
def test_tensor_extensions_are_told_from_what_is_ignored(name: str) -> None:
    assert check_tensor_parameters({"mine": 1, name: 1}, "x")
    assert not check_tensor_parameters({"mine": 1, name: None}, "x")


def test_tensor_parameters_are_scalars() -> None:
    assert accepts({"a": 1, "b": 1.5, "c": "", "d": False, "e": None, "binary_data_size": 8})
    for value in ([], [1], {}, {"a": 1}):
        with pytest.raises(BadRequest, match="tensor 'x': parameter 'mine' must be a string, a number or a"):
            check_tensor_parameters({"mine": value}, "x")


def accepts(parameters: dict[str, Any]) -> bool:
    try:
        check_tensor_parameters(parameters, "x")
    except BadRequest:
        return False
    return True
