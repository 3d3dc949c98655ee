"""Large JSON bodies: what is read in bulk is what the ordinary reader reads, and refuses, to the letter."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oipserver.core.errors import BadRequest
from oipserver.core.messages import InferenceRequest
from oipserver.http import bulk
from oipserver.http.bulk import read_bulk
from oipserver.http.wire import Envelope, Plan, decode_document, decode_request, parse_object

pytestmark = pytest.mark.skipif(not bulk.AVAILABLE, reason="pysimdjson is not installed")


@pytest.fixture(autouse=True, scope="module")
def simdjson() -> None:
    bulk.load()


ENVELOPE = Envelope("m", "7", "request-1", 60.0)
TYPES = ["FP64", "FP32", "INT64", "UINT64", "INT8", "UINT8", "INT32", "BOOL", "BYTES", "FP16", "FP8"]
PLAIN = ["0", "1", "-1", "7", "2.5", "-0.125", "1e3", "1E-3"]
# What readers may take for different things: signs, sizes at every limit, rounding, and no JSON at all.
ODD = [
    "-0", "-0.0", "0.0", "1.0", "255", "256", "-129", "65536", "4294967296", "9007199254740993",
    "9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616",
    "-9223372036854775808", "-9223372036854775809", "1e308", "1e309", "3.4028235e38", "3.5e38", "1e-320",
    "5e-324", "1e-400", "0.1", "123456789012345678901234567890", "0.30000000000000004",
    "2.2250738585072011e-308", "null", "true", "NaN", "Infinity", '"a"', '"["', "[]", "{}", "[1]", "01",
    "1.", "+1", ".5", "-", "1e",
]  # fmt: skip
Seen = list[tuple[str, str, str, tuple[int, ...], Any]] | str


@pytest.fixture(autouse=True, scope="module", params=[2, 2**30], ids=["by row", "by text"])
def small(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every body is large, every list is read in many pieces, and its rows are looked at in both ways."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "LEAST", 1)
        patch.setattr(bulk, "PIECE", 4)
        patch.setattr(bulk, "LONG_ROW", request.param)
        yield


def seen(read: Callable[[], tuple[InferenceRequest, Plan]]) -> Seen:
    """All that is to be equal, to the bit: -0.0 is not 0.0."""
    try:
        inputs = read()[0].inputs
    except BadRequest as fault:
        return fault.message
    return [
        (each.name, each.datatype.name, each.data.dtype.str, each.data.shape,
         each.data.tolist() if each.data.dtype.hasobject else each.data.tobytes())
        for each in inputs
    ]  # fmt: skip


def check(body: bytes) -> bool:
    """Read in both ways; whether it was read in bulk."""
    document = read_bulk(body)
    ordinary = seen(lambda: decode_document(parse_object(body), None, ENVELOPE))
    if document is not None:
        assert seen(lambda: decode_document(document, None, ENVELOPE)) == ordinary
    return document is not None


def request(data: str, shape: object = (2, 2), datatype: str = "FP64", more: str = "") -> bytes:
    """A request with one tensor and `data` as it stands."""
    head = f'"name":"x","shape":{json.dumps(shape)},"datatype":"{datatype}"'
    return f'{{"inputs":[{{{head},"data":{data}}}]{more}}}'.encode()


# --- what is read in bulk ----------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", ["FP32", "FP64", "INT8", "INT64", "UINT16", "UINT64"])
@pytest.mark.parametrize("shape", [[6], [2, 3], [3, 2, 1], [1, 1, 6], [-1, 3], [2, -1]])
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n ", ":  ")])
def test_numbers_are_read_in_bulk(
    datatype: str, shape: list[int], nested: bool, separators: tuple[str, str]
) -> None:
    array = np.arange(6).reshape(shape)
    document = {"name": "x", "shape": shape, "datatype": datatype}
    data = json.dumps((array if nested else array.ravel()).tolist(), separators=separators)
    text = json.dumps(
        {"id": "1", "inputs": [{**document, "data": "HOLE"}], "outputs": []}, separators=separators
    )
    body = text.replace('"HOLE"', data).encode()
    assert check(body)
    (tensor,) = decode_request(body + b" " * 8192, None, ENVELOPE)[0].inputs
    assert np.array_equal(tensor.data, array)
    assert tensor.data.dtype == tensor.datatype.dtype


def test_several_tensors_in_any_order_of_members() -> None:
    first = '{"data":[1,2,3],"name":"a","parameters":{},"datatype":"INT8","shape":[3]}'
    second = '{"name":"b","data":[[1.5],[-2]],"shape":[2,1],"datatype":"FP32"}'
    third = '{"name":"c","shape":[2],"datatype":"BYTES","data":["[1,2]","\\"data\\":[1]"]}'
    assert check(f'{{"inputs":[{first},{second},{third}]}}'.encode())


@pytest.mark.parametrize(
    "number",
    ["-0", "-0.0", "9007199254740993", "9223372036854775807", "1e-320", "1e-400", "0.30000000000000004"],
)
def test_numbers_are_the_same_to_the_bit(number: str) -> None:
    assert check(request(f"[1.5,{number},2,3]"))


def test_a_large_body_of_random_numbers() -> None:
    values = np.random.default_rng(0).standard_normal((40, 300)) * 10.0 ** np.arange(-150, 150)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "PIECE", 2**12)
        assert check(request(json.dumps(values.tolist()), values.shape))
        assert check(request(json.dumps(values.ravel().tolist()), values.shape))


# --- what is left to the ordinary reader -------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        "[[1,[2]],[3,4]]", "[[1,2],3[,4]]", "[[1,2]3,[4,5]]", "[[1,2],[3,4]", "[1,2],[3,4]", "[[1,2,3],[4]]",
        "[[1,2],3,4]", "[[[1,2],[3,4]]]", "[[1],[2],[3],[4]]", "[1,,2,3]", "[1,2,3,]", "[1,2,3,4,]",
        "[,1,2,3]", "[1,2,3," + " " * 50 + "]", "[1," + " " * 50 + ",2,3,4]", "[[1,2],[],[3,4]]", "[[],[]]",
        "[]", "[[]]", "[1,2,3,null]", "[1,2,3,NaN]", "[1,2,3,true]", "[1,2,3,1e309]",
        "[1,2,3,18446744073709551616]",
        '[1,2,3,"4"]', '[1,2,3,{"a":4}]', "[1,2,3]", "[1,2,3,4,5]", "1", "null", "[1 2,3,4]", "[1,2,3,04]",
    ],
)  # fmt: skip
def test_what_is_out_of_the_ordinary_is_left(data: str) -> None:
    assert not check(request(data))


@pytest.mark.parametrize(
    ("data", "datatype"),
    [
        ("[1,2,3,4.0]", "INT64"), ("[1,2,3,128]", "INT8"), ("[1,2,3,-1]", "UINT64"), ("[1,2,3,-1]", "UINT8"),
        ("[1,2,3,9223372036854775808]", "INT64"), ("[1,2,3,1e39]", "FP32"), ("[1,2,3,4]", "FP16"),
        ("[1,2,3,4]", "BOOL"), ("[1,2,3,4]", "BYTES"), ("[1,2,3,4]", "FP8"),
    ],
)  # fmt: skip
def test_what_the_datatype_does_not_take_is_left(data: str, datatype: str) -> None:
    assert not check(request(data, datatype=datatype))


@pytest.mark.parametrize(
    "shape",
    [[], [3], [2, 3], [-1, -1], [-1, 3], [2**40], [True, 4], [1.0], "x", None, {"a": 1}, [2, -2], [4, 0]],
)
def test_a_shape_that_does_not_fit_is_left(shape: object) -> None:
    assert not check(request("[1,2,3,4]", shape))


def test_a_shape_costs_no_more_than_the_text() -> None:
    """Brackets for 2^16 rows of 30 levels would be 4 MB, for a text of 130 kB without any."""
    numbers = "[[" + ",".join(["1"] * 2**16) + "]]"
    assert not check(request(numbers, [2**16, *[1] * 30]))


@pytest.mark.parametrize(
    "body",
    [
        request("[1,2,3,4]", more=',"data":[1,2]'),
        request("[1,2,3,4]", more=',"inputs":[]'),
        request("[1,2,3,4]", more=',"parameters":{"data":[1,2,3]}'),
        request("[1,2,3,4]")[:-1],
        request("[1,2,3,4]", more=',"id":"\xff"').decode().encode("latin-1"),
        request('[1,2,3,4],"data":[5,6,7,8]'),
        request('"[1,2,3,4]"'),
        request('"\\"data\\":[1,2]"'),
        b'[{"data":[1,2,3,4]}]',
        b'"data":[1,2,3,4]',
        b'{"data":[1,2,3,4]}',
        b'{"inputs":{"data":[1,2,3,4]}}',
        b'{"inputs":["data",[1,2,3,4]]}',
        b'{"inputs":[' + b'"data":' * 1000,
        b'{"inputs":[{"data":]}]}',
        b'{"inputs":[{"data":1]}]}',
        b'{"inputs":[{"data":1,[1,2,3,4]}]}',
    ],
)
def test_numbers_that_are_no_tensors_data_are_left(body: bytes) -> None:
    assert not check(body)


# --- anything ----------------------------------------------------------------------------------------------


class Writer:
    """Writes requests of which most are good, and the rest wrong in every way that one can think of."""

    def __init__(self, seed: int, oddness: float) -> None:
        self._random = random.Random(seed)
        self._oddness = oddness

    def body(self) -> bytes:
        """A request of one to three tensors."""
        choose = self._random.choice
        members = ['"inputs":[' + ",".join(self._tensor() for _ in range(choose([1, 1, 2, 3]))) + "]"]
        if self._is_odd():
            members.append(choose(['"data":[1,2]', '"inputs":[]', '"parameters":{"data":[1,2]}', '"id":"["']))
        self._random.shuffle(members)
        text = "{" + ",".join(members) + "}"
        if self._is_odd():
            at = self._random.randrange(len(text))
            text = text[:at] + choose('[],"{} 1:\\') + text[at + choose([0, 1]) :]
        return text.encode()

    def _is_odd(self) -> bool:
        return self._random.random() < self._oddness

    def _blank(self) -> str:
        return self._random.choice(["", "", "", " ", "\n\t", " " * 9])

    def _tensor(self) -> str:
        choose = self._random.choice
        shape = [choose([1, 2, 3, 5]) for _ in range(choose([1, 2, 2, 3]))]
        said: object = [choose([-1, 0, 1, 2]) if self._is_odd() else size for size in shape]
        if self._is_odd():
            shape = [prod(shape)]
        members = [
            '"name":' + json.dumps(choose(["x", "data", '"data":', "[", "é"])),
            '"shape":' + json.dumps(choose(["x", None, [1.0], [[1]], [6]]) if self._is_odd() else said),
            '"datatype":'
            + json.dumps(choose(TYPES) if self._is_odd() else choose(TYPES[: choose([2, 2, 7])])),
            '"data":' + self._blank() + self._data(shape),
        ]
        if self._is_odd():
            members.append(choose(['"parameters":{}', '"parameters":{"binary_data_size":8}', members[-1]]))
        self._random.shuffle(members)
        return "{" + (self._blank() + ",").join(members) + "}"

    def _data(self, shape: Sequence[int]) -> str:
        if not shape:
            return self._random.choice(ODD if self._is_odd() else PLAIN[: self._random.choice([4, 8])])
        size = shape[0] + (self._random.choice([-1, 1]) if self._is_odd() else 0)
        items = [self._blank() + self._data(shape[1:]) + self._blank() for _ in range(size)]
        return "[" + ",".join(items) + "]"


@settings(max_examples=50)
@given(st.integers(0, 2**64), st.sampled_from([0.0, 0.002, 0.05]))
def test_both_ways_agree_about_anything(seed: int, oddness: float) -> None:
    writer = Writer(seed, oddness)
    for _ in range(20):
        check(writer.body())


def test_most_of_what_is_tried_is_read_in_bulk() -> None:
    writer = Writer(0, 0.01)
    assert sum(check(writer.body()) for _ in range(200)) > 50
