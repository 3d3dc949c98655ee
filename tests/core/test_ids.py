"""Request ids: always a fresh UUID, and nothing in a header that could end it."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oipserver.core.ids import new_id, valid_request_id

PERMITTED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"


def test_a_new_id_is_a_random_uuid_and_may_be_sent() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    for text in ids:
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)
        assert valid_request_id(text)


@pytest.mark.parametrize("text", ["a", "0", "a" * 64, "A-b_c.9", "..", "-", PERMITTED[:64]])
def test_ids_that_may_be_sent(text: str) -> None:
    assert valid_request_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a" * 65,
        "a b",
        " a",
        "a ",
        "a\n",
        "\na",
        "a\r\nSet-Cookie: x",
        "a\0",
        "é",
        "٣",
        "\u212a",  # the Kelvin sign
        "a/b",
        "\x1b[0m",
    ],
    ids=repr,
)
def test_ids_that_may_not(text: str) -> None:
    assert not valid_request_id(text)


@given(st.text(max_size=70))
def test_an_id_is_valid_by_its_characters_and_length_alone(text: str) -> None:
    assert valid_request_id(text) == (1 <= len(text) <= 64 and set(text) <= set(PERMITTED))
