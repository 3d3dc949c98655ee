"""Tensors as bytes and lists: what goes in comes out, and whatever cannot is refused without allocating."""

from __future__ import annotations

import itertools
import math
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from oipserver.core.codec import (
    MAX_ELEMENTS,
    MAX_RANK,
    cast_float,
    check_shape,
    decode_list,
    decode_raw,
    encode_raw,
    infer_shape,
)
from oipserver.core.datatypes import (
    BF16,
    BOOL,
    BYTES,
    DATATYPES,
    FP16,
    FP32,
    FP64,
    INT8,
    INT32,
    INT64,
    UINT8,
    UINT64,
    Datatype,
)
from oipserver.core.errors import BadRequest

Array = npt.NDArray[Any]

INTEGERS = [datatype for datatype in DATATYPES.values() if datatype.kind in "iu"]
FLOATS = [FP16, FP32, FP64]
# Every bit pattern of these is a value of its own.
PLAIN = [*INTEGERS, *FLOATS]

shapes = st.lists(st.integers(0, 4), max_size=5).map(tuple)
full_shapes = st.lists(st.integers(1, 4), max_size=5).map(tuple)


def by_name(*datatypes: Datatype) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("datatype", datatypes, ids=str)


def refusal(decode: Callable[[], object], *words: str) -> str:
    """The message of a BadRequest that names tensor 'x', holds all `words` and is short and printable."""
    with pytest.raises(BadRequest) as caught:
        decode()
    message = caught.value.message
    assert type(caught.value) is BadRequest
    assert message.startswith("tensor 'x': ")
    assert message.isprintable()
    assert len(message) < 600
    for word in words:
        assert word in message
    return message


def cheap_refusal(decode: Callable[[], object], *words: str) -> None:
    """A refusal that allocates next to nothing on its way."""
    tracemalloc.start()
    try:
        refusal(decode, *words)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**17


def nested(flat: list[Any], shape: tuple[int, ...]) -> Any:
    """`flat` as lists in lists, row by row; a single bare element for rank 0."""
    if not shape:
        return flat[0]
    size = len(flat) // shape[0] if shape[0] else 0
    return [nested(flat[row * size : (row + 1) * size], shape[1:]) for row in range(shape[0])]


def bits(array: Array) -> bytes:
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


# --- raw, there and back -----------------------------------------------------------------------------------


@given(data=st.data(), datatype=st.sampled_from(PLAIN), shape=shapes)
def test_any_bits_survive_the_raw_form(
    data: st.DataObject, datatype: Datatype, shape: tuple[int, ...]
) -> None:
    size = math.prod(shape) * datatype.itemsize
    raw = data.draw(st.binary(min_size=size, max_size=size))

    array = decode_raw(raw, datatype, shape, "x")

    assert (array.shape, array.dtype) == (shape, datatype.dtype)
    assert bits(array) == raw
    assert encode_raw(array, datatype) == raw


@given(data=st.data(), shape=shapes)
def test_bool_is_one_byte_each(data: st.DataObject, shape: tuple[int, ...]) -> None:
    count = math.prod(shape)
    values = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    raw = bytes(values)

    array = decode_raw(raw, BOOL, shape, "x")

    assert (array.shape, array.dtype) == (shape, np.dtype(np.bool_))
    assert array.ravel().tolist() == values
    assert encode_raw(array, BOOL) == raw


@given(data=st.data(), shape=shapes)
@example(data=None, shape=())
def test_bytes_survive_the_raw_form(data: st.DataObject | None, shape: tuple[int, ...]) -> None:
    count = math.prod(shape)
    element = st.one_of(st.binary(max_size=9), st.sampled_from([b"", b"\0", b"a\0", b"\0\0\0\x01"]))
    elements = data.draw(st.lists(element, min_size=count, max_size=count)) if data else [b"\0"]
    raw = b"".join(struct.pack("<I", len(one)) + one for one in elements)

    array = decode_raw(raw, BYTES, shape, "x")

    assert (array.shape, array.dtype) == (shape, np.dtype(np.object_))
    assert list(array.flat) == elements
    assert {type(one) for one in array.flat} <= {bytes}
    assert encode_raw(array, BYTES) == raw


VARIANTS: dict[str, Callable[[Array], Array]] = {
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "Fortran order": np.asfortranarray,
    "every other row": lambda array: np.repeat(array, 2, axis=0)[::2],
    "reversed": lambda array: array[::-1].copy()[::-1],
    "transposed": lambda array: array.T.copy().T,
    "read-only": lambda array: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
}


@pytest.mark.parametrize("variant", VARIANTS)
@by_name(*(datatype for datatype in DATATYPES.values() if datatype is not BYTES))
def test_the_raw_form_does_not_depend_on_the_memory_layout(datatype: Datatype, variant: str) -> None:
    array: Array = (np.arange(24).reshape(2, 3, 4) % 5).astype(datatype.dtype)
    straight = encode_raw(array, datatype)

    assert len(straight) == array.size * datatype.itemsize
    assert encode_raw(VARIANTS[variant](array), datatype) == straight


def test_the_raw_form_is_little_endian() -> None:
    assert encode_raw(np.array([1, 258], np.int32), INT32) == b"\1\0\0\0\2\1\0\0"
    assert decode_raw(b"\1\0\0\0\2\1\0\0", INT32, [2], "x").tolist() == [1, 258]


def test_bytes_in_another_layout() -> None:
    array: Array = np.array([[b"a", b"bc"], [b"", b"\0"]], np.object_)
    assert encode_raw(array.T, BYTES) == b"\1\0\0\0a\0\0\0\0\2\0\0\0bc\1\0\0\0\0"


def test_numbers_are_read_only_views() -> None:
    raw = np.arange(4.0).tobytes()
    array = decode_raw(memoryview(raw), FP64, [2, 2], "x")
    assert np.shares_memory(array, np.frombuffer(raw, np.uint8))
    assert not array.flags.writeable


@pytest.mark.parametrize("offset", range(8))
def test_a_view_may_begin_at_any_byte(offset: int) -> None:
    raw = bytes(offset) + np.arange(6.0).tobytes()
    array = decode_raw(memoryview(raw)[offset:], FP64, [2, 3], "x")
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert array.flags.aligned
    assert not array.flags.writeable


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 5e-324], ids=str)
def test_special_values_are_exact_in_raw(value: float) -> None:
    raw = struct.pack("<d", value)
    assert encode_raw(decode_raw(raw, FP64, [], "x"), FP64) == raw


# --- BF16 --------------------------------------------------------------------------------------------------


def bf16(value: float) -> int:
    return int.from_bytes(encode_raw(np.array(value, np.float32), BF16), "little")


def test_every_bf16_pattern_but_nan_survives() -> None:
    patterns = np.arange(2**16, dtype="<u2")
    values = decode_raw(patterns.tobytes(), BF16, [256, 256], "x")
    assert values.dtype == np.float32
    back = np.frombuffer(encode_raw(values, BF16), "<u2")
    nan = np.isnan(values).ravel()
    assert nan.sum() == 2 * 127
    assert np.array_equal(back[~nan], patterns[~nan])
    assert np.isnan(decode_raw(back.tobytes(), BF16, [-1], "x")[nan]).all()


@pytest.mark.parametrize(
    ("single", "expected"),
    [
        (0x3F800000, 0x3F80),  # 1
        (0x3F807FFF, 0x3F80),  # just below the tie: down
        (0x3F808000, 0x3F80),  # tie: to even, down
        (0x3F808001, 0x3F81),  # just above the tie: up
        (0x3F818000, 0x3F82),  # tie: to even, up
        (0xBF818000, 0xBF82),  # and with a sign
        (0x80000000, 0x8000),  # negative zero
        (0x00008001, 0x0001),  # subnormal
        (0x7F7FFFFF, 0x7F80),  # the largest float rounds to infinity
        (0x7F800000, 0x7F80),  # infinity
        (0xFF800000, 0xFF80),
        (0x7FC00000, 0x7FC0),  # NaN
        (0xFFFFFFFF, 0xFFFF),  # NaN whose rounding would overflow into zero
        (0x7F800001, 0x7FC0),  # NaN whose truncation would be infinity
    ],
)
def test_bf16_rounding(single: int, expected: int) -> None:
    value = np.array([single], np.uint32).view(np.float32)
    assert int.from_bytes(encode_raw(value, BF16), "little") == expected


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_bf16_is_the_nearest_value(value: float) -> None:
    pattern = bf16(value)
    assume(pattern & 0x7FFF < 0x7F80)  # not rounded to infinity

    def distance(neighbour: int) -> float:
        return abs(float(decode_raw(neighbour.to_bytes(2, "little"), BF16, [], "x")) - value)

    neighbours = [near for near in (pattern - 1, pattern + 1) if near >= 0 and near & 0x7FFF < 0x7F80]
    assert neighbours
    assert all(distance(pattern) <= distance(near) for near in neighbours)


def test_bf16_in_every_shape() -> None:
    for shape in [(), (0,), (3, 0), (2, 1, 2)]:
        array: Array = np.full(shape, 1.5, np.float32)
        back = decode_raw(encode_raw(array, BF16), BF16, shape, "x")
        assert back.shape == shape
        assert np.array_equal(back, array)


# --- lists, there and back ---------------------------------------------------------------------------------


def values_of(datatype: Datatype) -> st.SearchStrategy[Any]:
    if datatype is BOOL:
        return st.booleans()
    if datatype is BYTES:
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    if datatype.is_float:
        floats = {FP16: st.floats(width=16, allow_nan=False), FP64: st.floats(allow_nan=False)}
        single = st.floats(width=32, allow_nan=False)
        return st.none() | st.integers(-1024, 1024) | floats.get(datatype, single)
    limits = np.iinfo(datatype.dtype)
    low, high = int(limits.min), int(limits.max)
    return st.sampled_from([low, high, 0, 1]) | st.integers(low, high)


def expected_of(value: Any, datatype: Datatype) -> Any:
    if datatype is BYTES:
        return value.encode()
    return float("nan" if value is None else value) if datatype.is_float else value


@given(data=st.data(), datatype=st.sampled_from(list(DATATYPES.values())), shape=shapes, flat=st.booleans())
def test_lists_survive_flat_and_nested(
    data: st.DataObject, datatype: Datatype, shape: tuple[int, ...], flat: bool
) -> None:
    count = math.prod(shape)
    values = data.draw(st.lists(values_of(datatype), min_size=count, max_size=count))
    sent = values if flat or not shape else nested(values, shape)

    array = decode_list(sent, datatype, shape, "x")

    assert (array.shape, array.dtype) == (shape, datatype.dtype)
    expected = [expected_of(value, datatype) for value in values]
    assert list(map(repr, array.ravel().tolist())) == list(
        map(repr, expected)
    )  # repr: NaN is NaN, -0.0 is -0.0


@given(data=st.data(), datatype=st.sampled_from([BOOL, *INTEGERS, FP64]), shape=shapes)
def test_an_array_written_as_a_list_comes_back(
    data: st.DataObject, datatype: Datatype, shape: tuple[int, ...]
) -> None:
    count = math.prod(shape)
    values = data.draw(st.lists(values_of(datatype), min_size=count, max_size=count))
    array = decode_list(values, datatype, shape, "x")
    listed = array.tolist() if shape else [array.item()]
    assert bits(decode_list(listed, datatype, shape, "x")) == bits(array)


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        (INT64, 2**53 + 1),
        (INT64, -(2**53) - 1),
        (INT64, 2**63 - 1),
        (INT64, -(2**63)),
        (UINT64, 2**64 - 1),
        (UINT64, 2**53 + 1),
    ],
)
def test_integers_never_travel_through_a_double(datatype: Datatype, value: int) -> None:
    assert decode_list([value], datatype, [1], "x").tolist() == [value]
    assert decode_list([[value, 3.0]], datatype, [1, 2], "x").tolist() == [[value, 3]]


def test_an_integer_written_as_a_float_is_an_integer() -> None:
    array = decode_list([1.0, -0.0, 2.0**53 - 1], INT64, [3], "x")
    assert array.tolist() == [1, 0, 2**53 - 1]


def test_null_is_nan_for_floats() -> None:
    assert np.isnan(decode_list([None], FP64, [1], "x")).all()
    assert np.isnan(decode_list([[None], [1]], FP32, [2, 1], "x")).tolist() == [[True], [False]]


def test_text_is_held_as_utf8() -> None:
    array = decode_list(["é", "\0", "", "日本"], BYTES, [4], "x")
    assert array.tolist() == ["é".encode(), b"\0", b"", "日本".encode()]


# --- shapes ------------------------------------------------------------------------------------------------


@given(data=st.data(), shape=full_shapes.filter(bool))
def test_one_unknown_dimension_follows_from_the_data(data: st.DataObject, shape: tuple[int, ...]) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    asked = [*shape[:axis], -1, *shape[axis + 1 :]]
    array = np.arange(math.prod(shape), dtype=np.int32).reshape(shape)
    flat = array.ravel().tolist()
    texts: Array = array.astype(str).astype(np.object_)
    raw_texts = b"".join(struct.pack("<I", len(text)) + text.encode() for text in texts.flat)

    assert infer_shape(asked, array.size, "x") == shape
    assert np.array_equal(decode_raw(array.tobytes(), INT32, asked, "x"), array)
    assert np.array_equal(decode_list(flat, INT32, asked, "x"), array)
    assert np.array_equal(decode_list(array.tolist(), INT32, asked, "x"), array)
    assert decode_raw(raw_texts, BYTES, asked, "x").shape == shape


def test_an_unknown_dimension_may_be_zero() -> None:
    assert decode_raw(b"", FP64, [-1, 3], "x").shape == (0, 3)
    assert decode_raw(b"", BYTES, [-1], "x").shape == (0,)
    assert decode_list([], INT8, [2, -1], "x").shape == (2, 0)
    assert decode_list([[], []], INT8, [2, -1], "x").shape == (2, 0)


@pytest.mark.parametrize(
    ("shape", "count"), [([-1, 3], 4), ([-1, 0], 0), ([-1, 0], 5), ([2, -1], 1), ([3, -1, 3], 12)], ids=str
)
def test_no_size_fits_the_unknown_dimension(shape: list[int], count: int) -> None:
    words = ("no size for -1", str(shape), f"{count} elements")
    refusal(lambda: infer_shape(shape, count, "x"), *words)
    refusal(lambda: decode_list([1] * count, INT32, shape, "x"), *words)
    refusal(lambda: decode_raw(b"\0" * count, UINT8, shape, "x"), *words)
    refusal(lambda: decode_raw(b"\0\0\0\0" * count, BYTES, shape, "x"), *words)


BAD_SHAPES: list[tuple[list[Any], str]] = [
    ([-1, -1], "2 unknown dimensions"),
    ([-2], "dimension -2"),
    ([2, -(2**63)], "dimension -9223372036854775808"),
    ([2**31 + 1], "dimension 2147483649"),
    ([2**64 - 1], "dimension 18446744073709551615"),
    ([2**26 + 1], "more than 67108864 elements"),
    ([2**32, 2**32], "dimension 4294967296"),
    ([2**31, 2**31, 2**31], "more than"),
    ([2**13, 2**13, 2], "more than"),
    ([-1, 2**31], "more than"),
    ([0, 2**31, 2**31], "more than"),
    ([2**31, 2**31, 0], "more than"),
    ([1] * (MAX_RANK + 1), "33 dimensions, at most 32"),
    ([0] * 100_000, "100000 dimensions"),
    ([True], "'True'"),
    ([False, 0], "'False'"),
    ([1.0], "'1.0'"),
    ([1.5], "'1.5'"),
    (["1"], "'1'"),
    ([None], "'None'"),
    ([math.nan], "'nan'"),
    ([[1]], "a list or object"),
    ([{"1": 1}], "a list or object"),
]


@pytest.mark.parametrize(("shape", "word"), BAD_SHAPES, ids=lambda value: str(value)[:30])
def test_bad_shapes(shape: list[Any], word: str) -> None:
    refusal(lambda: check_shape(shape, "x"), "shape", word)
    refusal(lambda: infer_shape(shape, 1, "x"), "shape", word)
    for datatype in (FP64, BF16, BOOL, BYTES):
        refusal(lambda datatype=datatype: decode_raw(b"", datatype, shape, "x"), "shape", word)  # type: ignore[misc]
    for data in ([], [1], [[1]], [[[1]]]):
        refusal(lambda data=data: decode_list(data, FP64, shape, "x"), "shape", word)  # type: ignore[misc]


def test_a_shape_of_deep_lists_is_no_recursion() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    refusal(lambda: decode_raw(b"", FP64, deep, "x"), "a list or object")
    refusal(lambda: decode_list(deep, FP64, [1], "x"))
    refusal(lambda: decode_list([1.0], FP64, deep, "x"), "a list or object")
    while deep:  # take it apart: freeing it at once is the interpreter's own recursion
        deep = deep[0]


@given(shapes)
def test_the_element_count_of_a_shape(shape: tuple[int, ...]) -> None:
    assert check_shape(shape, "x") == math.prod(shape)


def test_the_largest_shapes() -> None:
    assert check_shape([MAX_ELEMENTS], "x") == 2**26
    assert check_shape([1] * MAX_RANK, "x") == 1
    assert decode_raw(b"12345678", FP64, [1] * MAX_RANK, "x").ndim == MAX_RANK
    assert decode_list([7], INT64, [1] * MAX_RANK, "x").ndim == MAX_RANK
    assert decode_raw(b"", FP64, [0, *[1] * (MAX_RANK - 1)], "x").size == 0


HUGE: list[list[int]] = [
    [2**26],
    [2**13, 2**13],
    [2**26, 1, -1],
    [2**31, 2**31],
    [2**31] * 32,
    [0] + [2**31] * 9,
]


@pytest.mark.parametrize("shape", HUGE, ids=str)
def test_a_huge_shape_with_little_data_allocates_nothing(shape: list[int]) -> None:
    calls: list[Callable[[], object]] = [
        lambda: decode_raw(b"\0" * 8, FP64, shape, "x"),
        lambda: decode_raw(b"\0" * 8, BF16, shape, "x"),
        lambda: decode_raw(b"\0" * 8, BYTES, shape, "x"),
        lambda: decode_raw(b"\0" * 8, BOOL, shape, "x"),
        lambda: decode_list([1.0, 2.0, 3.0], FP64, shape, "x"),
        lambda: decode_list([[1.0, 2.0], [3.0]], FP64, shape, "x"),
        lambda: decode_list(["a"], BYTES, shape, "x"),
    ]
    for call in calls:
        cheap_refusal(call)


def test_a_huge_list_in_a_shape_is_not_written_out() -> None:
    huge = [[0] * 1_000_000]
    cheap_refusal(lambda: decode_raw(b"", FP64, huge, "x"), "a list or object")  # type: ignore[arg-type]
    cheap_refusal(lambda: decode_list([[[1.0]]], FP64, huge, "x"), "a list or object")  # type: ignore[arg-type]


# --- refusals of raw bytes ---------------------------------------------------------------------------------


@given(
    datatype=st.sampled_from([*PLAIN, BF16, BOOL]),
    shape=shapes,
    wrong=st.integers(-20, 20).filter(bool),
)
def test_wrong_byte_counts(datatype: Datatype, shape: tuple[int, ...], wrong: int) -> None:
    expected = math.prod(shape) * datatype.itemsize
    assume(expected + wrong >= 0)
    raw = bytes(expected + wrong)
    refusal(
        lambda: decode_raw(raw, datatype, shape, "x"),
        f"{datatype} of shape {list(shape)} takes {expected} bytes, got {expected + wrong}",
    )


def test_a_fraction_of_an_element() -> None:
    refusal(lambda: decode_raw(b"1234567", FP64, [-1], "x"), "a multiple of 8 bytes, got 7")
    refusal(lambda: decode_raw(b"1234567", FP16, [-1, 3], "x"), "a multiple of 6 bytes, got 7")


def test_bool_bytes_are_zero_or_one() -> None:
    for value in (2, 128, 255):
        refusal(lambda value=value: decode_raw(bytes([0, 1, value]), BOOL, [3], "x"), "0 and 1")  # type: ignore[misc]


LYING_BYTES = [
    (b"\xff\xff\xff\xff", 1, "length prefix of 4294967295 exceeds the 0 bytes left"),
    (b"\xff\xff\xff\xffab", 1, "length prefix of 4294967295 exceeds the 2 bytes left"),
    (b"\x03\0\0\0ab", 1, "length prefix of 3 exceeds the 2 bytes left"),
    (b"\x01\0\0", 1, "ends inside a length prefix"),
    (b"\x01\0\0\0a\0", 2, "ends inside a length prefix"),
    (b"\x01\0\0\0a\0\0", 1, "2 bytes follow the 1 BYTES elements"),
    (b"\x01\0\0\0a" * 2, 1, "5 bytes follow the 1 BYTES elements"),
    (b"\0\0\0\0", 0, "4 bytes follow the 0 BYTES elements"),
    (b"a", 0, "1 bytes follow the 0 BYTES elements"),
    (b"\x01\0\0\0a", 2, "shape [2] has 2 elements, data has 1"),
    (b"", 1, "shape [1] has 1 elements, data has 0"),
]


@pytest.mark.parametrize(("raw", "count", "words"), LYING_BYTES, ids=lambda value: str(value)[:40])
def test_bytes_that_lie(raw: bytes, count: int, words: str) -> None:
    refusal(lambda: decode_raw(raw, BYTES, [count], "x"), words)
    refusal(lambda: decode_raw(memoryview(raw), BYTES, [count], "x"), words)


@given(raw=st.binary(max_size=40), count=st.integers(0, 5))
@example(raw=b"\0\0\0\0" * 3, count=3)
def test_random_bytes_are_refused_or_exactly_consumed(raw: bytes, count: int) -> None:
    try:
        array = decode_raw(raw, BYTES, [count], "x")
    except BadRequest:
        assert raw != b"\0\0\0\0" * count
    else:
        assert array.shape == (count,)
        assert encode_raw(array, BYTES) == raw


def test_surplus_elements_are_not_collected() -> None:
    raw = b"\2\0\0\0ab" * 200_000
    cheap_refusal(lambda: decode_raw(raw, BYTES, [3], "x"), "bytes follow the 3 BYTES elements")


# --- refusals of lists -------------------------------------------------------------------------------------


@given(
    shape=shapes, datatype=st.sampled_from(list(DATATYPES.values())), wrong=st.integers(-9, 9).filter(bool)
)
def test_wrong_element_counts(shape: tuple[int, ...], datatype: Datatype, wrong: int) -> None:
    count = math.prod(shape)
    assume(count + wrong >= 0)
    value: Any = "a" if datatype is BYTES else True if datatype is BOOL else 1
    refusal(
        lambda: decode_list([value] * (count + wrong), datatype, shape, "x"),
        f"shape {list(shape)} has {count} elements, data has {count + wrong}",
    )


@given(data=st.data(), shape=full_shapes)
def test_only_the_nesting_of_the_shape_is_taken(data: st.DataObject, shape: tuple[int, ...]) -> None:
    count = left = math.prod(shape)
    other: tuple[int, ...] = ()
    for _ in range(data.draw(st.integers(1, 3))):
        size = data.draw(st.sampled_from([size for size in range(1, left + 1) if left % size == 0]))
        other, left = (*other, size), left // size
    other = (*other, left)
    assume(other != shape)
    values = list(range(count))
    assert decode_list(values, INT32, shape, "x").ravel().tolist() == values
    refusal(lambda: decode_list(nested(values, other), INT32, shape, "x"), "'x'")


RAGGED: list[tuple[list[Any], list[int]]] = [
    ([[1, 2], [3]], [2, 2]),
    ([[1, 2, 3], [4]], [2, 2]),  # the right total
    ([[1, 2], 3], [2, 2]),
    ([1, [2, 3]], [3]),
    ([1, [2], 3, 4], [2, 2]),
    ([[1, 2], [3, [4]]], [2, 2]),
    ([[[1], [2]], [[3], [4]]], [2, 2]),
    ([[1, 2, 3, 4]], [2, 2]),
    ([[1], [2], [3], [4]], [2, 2]),
    ([[1, 2], "ab"], [2, 2]),
    ([[1, 2], {"0": 3, "1": 4}], [2, 2]),
    ([[1, 2], None], [2, 2]),
    ([[1, 2], []], [2, -1]),
    ([[], [1]], [2, -1]),
    ([[1, 2], [3]], [-1, 2]),
    ([[1]], []),
    ([[[]]], [1]),
    ([[]], [0]),
    ([[], [], []], [2, 0]),
    ([[]], [0, 0]),
]


@pytest.mark.parametrize(("data", "shape"), RAGGED, ids=str)
def test_ragged_nesting(data: list[Any], shape: list[int]) -> None:
    refusal(lambda: decode_list(data, FP64, shape, "x"))


def test_nesting_below_the_shape_is_never_walked() -> None:
    deep: list[Any] = [1.0]
    for _ in range(50_000):
        deep = [deep]
    for shape in ([1], [1, 1], [1] * MAX_RANK, [-1]):
        refusal(lambda shape=shape: decode_list(deep, FP64, shape, "x"), "nested deeper")  # type: ignore[misc]
    while isinstance(deep[0], list):
        deep = deep[0]


WRONG_KINDS: list[tuple[Datatype, Any, str]] = [
    *((datatype, True, f"{datatype} takes integers, got true or false") for datatype in INTEGERS),
    *((datatype, "1", f"{datatype} takes integers, got string") for datatype in INTEGERS),
    *((datatype, None, f"{datatype} takes integers, got null") for datatype in INTEGERS),
    *(
        (datatype, False, f"{datatype} takes numbers or null, got true or false")
        for datatype in [*FLOATS, BF16]
    ),
    *((datatype, "1.0", f"{datatype} takes numbers or null, got string") for datatype in [*FLOATS, BF16]),
    *((datatype, "NaN", "got string") for datatype in FLOATS),
    (FP64, {}, "got object"),
    (BOOL, 1, "BOOL takes true or false, got integer"),
    (BOOL, 0, "got integer"),
    (BOOL, 1.0, "got number"),
    (BOOL, "true", "got string"),
    (BOOL, None, "got null"),
    (BYTES, 1, "BYTES takes strings, got integer"),
    (BYTES, 1.5, "got number"),
    (BYTES, True, "got true or false"),
    (BYTES, None, "got null"),
    (BYTES, {"b64": "YQ=="}, "got object"),
]


@pytest.mark.parametrize(("datatype", "value", "words"), WRONG_KINDS, ids=lambda value: str(value)[:20])
def test_values_of_the_wrong_kind(datatype: Datatype, value: Any, words: str) -> None:
    good: Any = "a" if datatype is BYTES else True if datatype is BOOL else 1
    refusal(lambda: decode_list([value], datatype, [1], "x"), words)
    refusal(lambda: decode_list([[good, good], [good, value]], datatype, [2, 2], "x"), words)


@by_name(*INTEGERS)
def test_integers_out_of_range(datatype: Datatype) -> None:
    limits = np.iinfo(datatype.dtype)
    low, high = int(limits.min), int(limits.max)
    assert decode_list([low, high], datatype, [2], "x").tolist() == [low, high]
    for outside in (low - 1, high + 1, 2**64, -(2**63) - 1):
        words = f"{outside} is out of range for {datatype}"
        refusal(lambda outside=outside: decode_list([0, outside], datatype, [2], "x"), words)  # type: ignore[misc]


@by_name(*INTEGERS)
@pytest.mark.parametrize(
    "value", [0.5, -1.25, 1e-300, 1e300, 2.0**53, -(2.0**53), math.nan, math.inf], ids=str
)
def test_integers_take_no_fraction(datatype: Datatype, value: float) -> None:
    words = f"{datatype} takes integers, got {value}"
    refusal(lambda: decode_list([1, value], datatype, [2], "x"), words)


def test_an_integral_float_out_of_range() -> None:
    refusal(lambda: decode_list([256.0], UINT8, [1], "x"), "256 is out of range for UINT8")
    refusal(lambda: decode_list([-1.0], UINT64, [1], "x"), "-1 is out of range for UINT64")


@pytest.mark.parametrize(
    ("datatype", "fits", "outside"),
    [
        (FP16, 65504.0, 65520.0),
        (FP32, 3.4028234663852886e38, 3.4028236e38),
        (FP32, -3.4028234663852886e38, -1e39),
        (BF16, 3e38, 1e39),
    ],
    ids=str,
)
def test_floating_overflow(datatype: Datatype, fits: float, outside: float) -> None:
    assert np.isfinite(decode_list([fits], datatype, [1], "x")).all()
    refusal(
        lambda: decode_list([1.0, outside], datatype, [2], "x"), f"{outside}", f"out of range for {datatype}"
    )
    infinite = decode_list([math.inf, -math.inf, None], datatype, [3], "x")
    assert infinite.tolist()[:2] == [math.inf, -math.inf]


def test_floating_rounding_is_no_overflow() -> None:
    assert decode_list([1e-300, 0.1], FP32, [2], "x").tolist() == [0.0, float(np.float32(0.1))]


def test_a_long_tensor_name_is_cut() -> None:
    with pytest.raises(BadRequest) as caught:
        decode_list([1], INT8, [2], "\x1b[31m\n" + "n" * 10_000)
    assert "?[31m?nnn" in caught.value.message
    assert len(caught.value.message) < 300


# --- casts -------------------------------------------------------------------------------------------------


@by_name(FP16, FP32, FP64)
def test_cast_float_takes_every_number_that_fits(datatype: Datatype) -> None:
    for source in itertools.chain(INTEGERS, FLOATS):
        array: Array = np.array([0, 1, 100], source.dtype)
        cast = cast_float(array, datatype, "x")
        assert cast.dtype == datatype.dtype
        assert cast.tolist() == [0, 1, 100]


@pytest.mark.parametrize(
    "source", [np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64]
)
def test_cast_float_refuses_what_becomes_infinite(source: type[Any]) -> None:
    refusal(lambda: cast_float(np.array([1, 65535], source), FP16, "x"), "65535", "out of range for FP16")


def test_cast_float_keeps_what_is_infinite_already() -> None:
    array = cast_float(np.array([math.inf, -math.inf, math.nan]), FP32, "x")
    assert array.dtype == np.float32
    assert array.tolist()[:2] == [math.inf, -math.inf]
    assert math.isnan(array[2])
