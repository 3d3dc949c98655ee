"""A body that is like another one is what it would be to a reader from scratch."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oipserver.core.contract import Contract
from oipserver.core.errors import Fault
from oipserver.http.likeness import Likeness, Parts, likeness
from oipserver.http.template import inside, read_json, recognize
from oipserver.http.wire import Envelope
from tests.support import Doubler

ENVELOPE = Envelope("m", None, "an-id", 60.0)
BODY = b'{"id":"one","inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data":[[1.5,2.5]]}]}'
# Ways to write the same.
WAYS = {
    "as orjson does": BODY,
    "without an id": BODY.replace(b'"id":"one",', b""),
    "as json does": BODY.replace(b",", b", ").replace(b":", b": "),
    "a flat list": BODY.replace(b"[[", b"[").replace(b"]]", b"]"),
    "spaces around the data": BODY.replace(b"[[", b" \n[[ ").replace(b"]]", b" ]]\t"),
    "spaces between brackets": BODY.replace(b"[[", b"[ [").replace(b"]]", b"] ]"),
    "the data in front": b'{"inputs":[{"data":[1.5,2.5],"name":"x","shape":[1,2],"datatype":"FP64"}]}',
    "a parameter behind": BODY[:-1] + b',"parameters":{"priority":1}}',
    "an id that is not plain": BODY.replace(b"one", b"\\u006fne"),
    "one bracket less": BODY.replace(b"]]", b"]"),
    "two brackets less": BODY.replace(b"]]", b""),
    "a space between the last brackets": BODY.replace(b"]]", b"] ]"),
    "a space between the first brackets": BODY.replace(b"[[", b"[ ["),
    "no numbers": BODY.replace(b"1.5,2.5", b""),
}


@pytest.fixture(scope="module")
def contract() -> Contract:
    """Knows all the ways that can be known."""
    known = Contract(Doubler(), "m", batched=True)
    for body in WAYS.values():
        with suppress(Fault):
            read_json(body, ENVELOPE, known)
    return known


def by_reading(body: bytes, like: Likeness, known: Contract) -> Parts | None:
    """Id and numbers as the template has them; None for another template, or none."""
    match = recognize(body, known.memory)
    if match is None or match[0] is not like.template:
        return None
    numbers = inside(match[0], match[2])
    return None if numbers is None else ((match[1] or "").encode(), numbers)


GOOD = ("as orjson does", "without an id", "as json does", "a flat list", "spaces around the data")


@pytest.mark.parametrize("way", [*GOOD, "the data in front", "a parameter behind"])
def test_a_body_is_like_itself_with_another_id_and_other_numbers(contract: Contract, way: str) -> None:
    body = WAYS[way]
    like = likeness(body, contract.memory)
    assert like is not None
    for each in (body, body.replace(b"one", b"a-longer.id_2").replace(b"1.5", b"-1e3")):
        parts = like.parts(each)
        assert parts == by_reading(each, like, contract)
        assert parts is not None
        assert parts[0] == (b"" if b'"id"' not in body else b"one" if each is body else b"a-longer.id_2")


@pytest.mark.parametrize("way", ["an id that is not plain", "one bracket less", "two brackets less"])
def test_what_is_odd_is_like_nobody(contract: Contract, way: str) -> None:
    assert likeness(WAYS[way], contract.memory) is None


@pytest.mark.parametrize("body", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("other", WAYS.values(), ids=WAYS)
def test_one_written_otherwise_is_what_it_is_or_not_like_it(
    contract: Contract, body: bytes, other: bytes
) -> None:
    like = likeness(body, contract.memory)
    parts = None if like is None else like.parts(other)
    if like is not None and parts is not None:
        assert parts == by_reading(other, like, contract)


@pytest.mark.parametrize(
    "body_id", [b"", b"x" * 65, b"a b", b'a","id":"b', "é".encode(), b"a\\nb", b"a\nb", b"\xff"]
)
def test_an_id_that_is_not_plain_is_not_taken(contract: Contract, body_id: bytes) -> None:
    like = likeness(BODY, contract.memory)
    assert like is not None
    assert like.parts(BODY.replace(b"one", b"x" * 64)) == (b"x" * 64, b"1.5,2.5")
    assert like.parts(BODY.replace(b"one", body_id)) is None


PLACES = st.integers(0, len(BODY))
PIECES = st.sampled_from([b"", b"[", b"]", b'"', b" ", b","])


@given(PLACES, PLACES, PIECES)
@example(BODY.index(b"1.5"), BODY.index(b"]]"), b"")
@example(BODY.index(b"[["), BODY.index(b"]]") + 2, b"[")
def test_a_damaged_body_is_what_it_is_or_not_like_it(start: int, end: int, put: bytes) -> None:
    known = Contract(Doubler(), "m", batched=True)
    read_json(BODY, ENVELOPE, known)
    like = likeness(BODY, known.memory)
    assert like is not None
    damaged = BODY[:start] + put + BODY[end:]
    parts = like.parts(damaged)
    if parts is not None:
        assert parts == by_reading(damaged, like, known)


@given(PLACES, PLACES, PIECES, PLACES, PLACES, PIECES)
@example(BODY.index(b"]]") + 1, BODY.index(b"]]") + 1, b" ", BODY.index(b"]]"), BODY.index(b"]]") + 2, b"")
def test_what_is_like_a_damaged_body_is_what_it_is(
    start: int, end: int, put: bytes, other_start: int, other_end: int, other_put: bytes
) -> None:
    known = Contract(Doubler(), "m", batched=True)
    read_json(BODY, ENVELOPE, known)
    like = likeness(BODY[:start] + put + BODY[end:], known.memory)
    if like is None:
        return
    for other in (BODY, BODY[:other_start] + other_put + BODY[other_end:]):
        parts = like.parts(other)
        if parts is not None:
            assert parts == by_reading(other, like, known)


def test_those_that_may_not_go_together_are_like_nobody(contract: Contract) -> None:
    assert likeness(b"{}", contract.memory) is None
    assert likeness(b"", contract.memory) is None
    assert likeness(BODY.replace(b'"x"', b'"y"'), contract.memory) is None
