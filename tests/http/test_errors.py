"""The HTTP table of faults knows every code, and says it in one form."""

from __future__ import annotations

import orjson
import pytest

from oipserver.core.errors import Fault, Overloaded, UnsupportedMediaType
from oipserver.http.errors import STATUS, UnsupportedEncoding, error_response
from tests.support import faults


@pytest.mark.parametrize("kind", faults())
def test_every_fault_has_a_status_and_the_one_body(kind: type[Fault]) -> None:
    status, headers, body = error_response(kind("why"), "id-1")
    assert status == STATUS[kind.code] >= 400
    told = orjson.loads(body)
    assert told == {"error": "why", "error_code": kind.code, "message": "why", "request_id": "id-1"}
    assert dict(headers)[b"x-request-id"] == b"id-1"
    assert (b"retry-after" in dict(headers)) == (kind.retry_after is not None)


def test_retry_after_is_in_seconds() -> None:
    assert dict(error_response(Overloaded("full"), "id")[1])[b"retry-after"] == b"%d" % (
        Overloaded.retry_after or 0
    )


def test_only_an_unknown_encoding_is_told_the_known_ones() -> None:
    assert (
        dict(error_response(UnsupportedEncoding("br"), "id")[1])[b"accept-encoding"] == b"gzip, deflate, zstd"
    )
    assert b"accept-encoding" not in dict(error_response(UnsupportedMediaType("multipart"), "id")[1])
