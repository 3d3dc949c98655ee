"""Rows of several callers as one batch: `split(merge(xs)) == xs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from oipserver.core.batch import merge, split
from oipserver.core.datatypes import BOOL, BYTES, DATATYPES, Datatype

Array = npt.NDArray[Any]
Callers = list[Mapping[str, Array]]


def same(one: Array, other: Array) -> bool:
    if one.dtype == np.object_:
        return (one.shape, one.dtype, one.tolist()) == (other.shape, other.dtype, other.tolist())
    return (one.shape, one.dtype, one.tobytes()) == (other.shape, other.dtype, other.tobytes())


@st.composite
def arrays(draw: st.DrawFn, datatype: Datatype, shape: tuple[int, ...]) -> Array:
    count = int(np.prod(shape))
    if datatype is BYTES:
        elements: Array = np.empty(count, np.object_)
        elements[:] = draw(st.lists(st.binary(max_size=3), min_size=count, max_size=count))
        return elements.reshape(shape)
    size = count * datatype.dtype.itemsize
    raw = draw(st.binary(min_size=size, max_size=size))
    if datatype is BOOL:
        raw = bytes(byte & 1 for byte in raw)
    return np.frombuffer(raw, datatype.dtype).reshape(shape)


@st.composite
def callers(draw: st.DrawFn) -> tuple[Callers, list[int]]:
    """Requests with the same names, datatypes and trailing shapes, in any order of names; and their rows."""
    datatypes = st.sampled_from(list(DATATYPES.values()))
    trailing = st.lists(st.integers(0, 3), max_size=2).map(tuple)
    columns = draw(st.dictionaries(st.sampled_from("abc"), st.tuples(datatypes, trailing), min_size=1))
    rows = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    requests: Callers = []
    for count in rows:
        names = draw(st.permutations(sorted(columns)))
        requests.append({name: draw(arrays(columns[name][0], (count, *columns[name][1]))) for name in names})
    return requests, rows


@given(callers())
def test_split_undoes_merge(given: tuple[Callers, list[int]]) -> None:
    requests, rows = given

    merged = merge(requests)
    pieces = list(split(merged, rows))

    assert {array.shape[0] for array in merged.values()} == {sum(rows)}
    assert len(pieces) == len(requests)
    for piece, request in zip(pieces, requests, strict=True):
        assert piece.keys() == request.keys()
        for name, array in request.items():
            assert same(piece[name], array)


def test_a_lone_request_is_not_copied() -> None:
    request = {"x": np.arange(3)}
    assert merge([request]) is request


def test_pieces_are_views() -> None:
    merged = {"y": np.arange(6.0)}
    pieces = list(split(merged, [1, 3, 2]))
    assert [piece["y"].tolist() for piece in pieces] == [[0.0], [1.0, 2.0, 3.0], [4.0, 5.0]]
    assert all(np.shares_memory(piece["y"], merged["y"]) for piece in pieces)


def test_every_output_is_split() -> None:
    first, second = split({"a": np.arange(3), "b": np.arange(6).reshape(3, 2)}, [2, 1])
    assert {name: array.tolist() for name, array in first.items()} == {"a": [0, 1], "b": [[0, 1], [2, 3]]}
    assert {name: array.tolist() for name, array in second.items()} == {"a": [2], "b": [[4, 5]]}
