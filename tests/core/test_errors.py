"""Every fault has a code of its own, and no text of a client leaves long or unprintable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oipserver.core import errors
from oipserver.core.errors import MAX_MESSAGE, MAX_REFLECTED, BadRequest, Fault, printable
from tests.support import faults

CODES = {
    "BadRequest": "BAD_REQUEST",
    "Unprocessable": "UNPROCESSABLE",
    "InvalidInput": "UNPROCESSABLE",  # the same fault, raised by a runtime
    "Unsupported": "UNSUPPORTED",
    "Unauthorized": "UNAUTHORIZED",
    "Forbidden": "FORBIDDEN",
    "NotFound": "NOT_FOUND",
    "MethodNotAllowed": "METHOD_NOT_ALLOWED",
    "RequestTimeout": "REQUEST_TIMEOUT",
    "PayloadTooLarge": "PAYLOAD_TOO_LARGE",
    "UriTooLong": "URI_TOO_LONG",
    "HeadersTooLarge": "HEADERS_TOO_LARGE",
    "UnsupportedMediaType": "UNSUPPORTED_MEDIA_TYPE",
    "AlreadyExists": "ALREADY_EXISTS",
    "Conflict": "CONFLICT",
    "RateLimited": "RATE_LIMIT",
    "NotReady": "NOT_READY",
    "Overloaded": "OVERLOADED",
    "DeadlineExceeded": "TIMEOUT",
    "Cancelled": "CANCELLED",
    "InferenceFailed": "INFERENCE_FAILED",
    "InternalError": "INTERNAL",
}


def test_the_tree_is_this() -> None:
    ours = [fault for fault in faults() if fault.__module__ == errors.__name__ and fault is not Fault]
    assert {fault.__name__: fault.code for fault in ours} == CODES


def test_every_fault_but_one_has_a_code_of_its_own() -> None:
    assert len(CODES) - len(set(CODES.values())) == 1
    named = [name for name in CODES if "code" in vars(getattr(errors, name))]
    assert set(CODES) - set(named) == {"InvalidInput"}


def test_the_tree_in_the_docstring_is_complete() -> None:
    assert errors.__doc__
    assert [name for name in CODES if name not in errors.__doc__] == []


@pytest.mark.parametrize("name", CODES)
def test_only_what_was_refused_before_any_work_invites_a_retry(name: str) -> None:
    fault: type[Fault] = getattr(errors, name)
    assert fault.retry_after == (1 if name in ("NotReady", "Overloaded", "RateLimited") else None)


@pytest.mark.parametrize("name", CODES)
def test_a_fault_says_what_it_was_told(name: str) -> None:
    fault = getattr(errors, name)("tensor 'x' is wrong")
    assert fault.message == str(fault) == "tensor 'x' is wrong"


@given(st.text(max_size=2000))
def test_a_message_is_short_and_printable(text: str) -> None:
    message = BadRequest(text).message
    assert message.isprintable()
    assert len(message) == min(len(text), MAX_MESSAGE) + (len(text) > MAX_MESSAGE)


@given(st.text(max_size=300))
def test_reflected_text_is_short_and_printable(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown.endswith("…") or len(shown) == len(text)
    for sent, seen in zip(text[:MAX_REFLECTED], shown, strict=False):
        assert seen == (sent if sent.isprintable() else "?")


@pytest.mark.parametrize("length", [0, 1, MAX_REFLECTED - 1, MAX_REFLECTED])
def test_short_text_is_shown_whole(length: int) -> None:
    assert printable("a" * length) == "a" * length


def test_long_text_is_cut() -> None:
    assert printable("a" * (MAX_REFLECTED + 1)) == "a" * MAX_REFLECTED + "…"
    assert printable("abcdef", 3) == "abc…"


@pytest.mark.parametrize(
    "character",
    [
        "\0",
        "\t",
        "\r",
        "\n",
        "\x1b",
        "\x7f",
        "\x85",
        "\u2028",
        "\u202e",
        "\u200b",
        "\ufeff",
        "\ud800",
        "\ue000",
    ],
    ids=ascii,
)
def test_control_characters_become_question_marks(character: str) -> None:
    assert printable(f"a{character}b") == "a?b"
    assert printable(f"a{character}b").encode() == b"a?b"


def test_other_values_are_shown_as_text() -> None:
    assert [printable(value) for value in (1, True, None, 1.5)] == ["1", "True", "None", "1.5"]
    assert printable("日本 é") == "日本 é"
