"""One table of datatypes: names, sizes and numpy dtypes."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from oipserver.core.datatypes import (
    BF16,
    BOOL,
    BYTES,
    DATATYPES,
    FP16,
    FP32,
    FP64,
    INT64,
    UINT8,
    Datatype,
    datatype_of,
    parse_datatype,
)
from oipserver.core.errors import BadRequest

# OIP, "Tensor Data Types", written out once more: name, bytes per element, numpy's name of it in memory.
PROTOCOL = [
    ("BOOL", 1, "bool"),
    ("UINT8", 1, "uint8"),
    ("UINT16", 2, "uint16"),
    ("UINT32", 4, "uint32"),
    ("UINT64", 8, "uint64"),
    ("INT8", 1, "int8"),
    ("INT16", 2, "int16"),
    ("INT32", 4, "int32"),
    ("INT64", 8, "int64"),
    ("FP16", 2, "float16"),
    ("BF16", 2, "float32"),
    ("FP32", 4, "float32"),
    ("FP64", 8, "float64"),
    ("BYTES", 0, "object"),
]


def test_the_table_is_the_protocols() -> None:
    rows = [(name, one.itemsize, one.dtype.name) for name, one in DATATYPES.items()]
    assert rows == PROTOCOL


@pytest.mark.parametrize("name", DATATYPES)
def test_a_name_leads_to_its_datatype(name: str) -> None:
    datatype = parse_datatype(name, "x")
    assert datatype.name == repr(datatype) == str(datatype) == name


WRONG = ["fp64", "FP64 ", "ＦP64", "FLOAT", "", "TYPE_FP64", "float64", "STRING"]


@pytest.mark.parametrize("name", WRONG)
def test_an_unknown_name_is_reflected(name: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_datatype(name, "x")
    message = caught.value.message
    assert message.startswith("tensor 'x': datatype must be one of BOOL, ")
    assert message.endswith(f"got '{name}'")


@pytest.mark.parametrize("name", [None, 1, True, 1.5, [], ["FP64"], {"FP64": 1}], ids=str)
def test_a_name_that_is_no_string(name: object) -> None:
    with pytest.raises(BadRequest, match=r"datatype must be one of .* got no string"):
        parse_datatype(name, "x")


def test_what_is_reflected_is_short_and_printable() -> None:
    deep: list[Any] = []
    for _ in range(50_000):
        deep = [deep]
    for name in ("F" * 100_000, "\x1b[31m\0\r\n", deep):
        with pytest.raises(BadRequest) as caught:
            parse_datatype(name, "\n" * 100_000)
        assert len(caught.value.message) < 450
        assert caught.value.message.isprintable()
    while deep:
        deep = deep[0]


def test_a_huge_list_is_not_written_out() -> None:
    huge = [0] * 1_000_000
    tracemalloc.start()
    try:
        with pytest.raises(BadRequest, match="got no string"):
            parse_datatype(huge, "x")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**17


def test_kinds() -> None:
    assert [one.name for one in DATATYPES.values() if one.is_float] == ["FP16", "BF16", "FP32", "FP64"]
    assert [one.name for one in DATATYPES.values() if not one.json_allowed] == ["FP16", "BF16"]


@pytest.mark.parametrize("name", [name for name in DATATYPES if name != "BF16"])
def test_an_arrays_dtype_leads_to_its_datatype(name: str) -> None:
    datatype = DATATYPES[name]
    assert datatype_of(datatype.dtype) is datatype
    assert datatype_of(datatype.dtype.newbyteorder(">")) is datatype


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("<U5", BYTES),
        ("S3", BYTES),
        (object, BYTES),
        (np.dtypes.StringDType(), BYTES),
        (float, FP64),
        (int, INT64),
        (bool, BOOL),
        ("f2", FP16),
        ("f4", FP32),
        ("B", UINT8),
    ],
    ids=str,
)
def test_common_dtypes(dtype: Any, expected: Datatype) -> None:
    assert datatype_of(np.dtype(dtype)) is expected


def test_float32_is_never_announced_as_bf16() -> None:
    assert BF16.dtype == FP32.dtype
    assert datatype_of(BF16.dtype) is FP32


@pytest.mark.parametrize("dtype", ["c8", "M8[s]", "m8[s]", "V4", [("a", "f8")], np.longdouble], ids=str)
def test_dtypes_that_the_protocol_cannot_carry(dtype: Any) -> None:
    with pytest.raises(TypeError, match="no protocol datatype carries numpy dtype"):
        datatype_of(np.dtype(dtype))
