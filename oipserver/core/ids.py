"""Request ids: made when the caller brings none, and checked before they may enter a header or a log line."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

_VALID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
# W3C Trace Context, 3.2.2: version, trace id, parent id, flags.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TRACEPARENT_LENGTH = 55
_random = random.SystemRandom()
_generator = random.Random(_random.getrandbits(256))  # noqa: S311  an id is a label, not a secret


# Made so many at a time, for that is ten times cheaper than one by one.
_AT_A_TIME = 256
_ready: list[str] = []


def new_id() -> str:
    """A random UUID (RFC 9562, version 4) as text.

    Those made together have all but their last 48 bits in common: ids are labels, not secrets.
    """
    try:
        return _ready.pop()
    except IndexError:
        made = list(_new_ids(_AT_A_TIME))
        _ready.extend(made[1:])  # in one step, for threads may be here at the same time
        return made[0]


def _new_ids(count: int) -> Iterator[str]:
    bits = _generator.getrandbits(128)
    text = f"{bits:032x}"
    start = f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{'89ab'[bits >> 62 & 3]}{text[17:20]}-"
    ends = f"{_generator.getrandbits(48 * count):0{12 * count}x}"
    for position in range(0, 12 * count, 12):
        yield start + ends[position : position + 12]


def valid_request_id(text: str) -> bool:
    """Whether client text may be used as the request id in headers, trailers and logs."""
    return _VALID.fullmatch(text) is not None


def valid_traceparent(text: str) -> str:
    """A caller's `traceparent`, or "" where it is none; later versions of it may have more at their end."""
    known, more = text[:_TRACEPARENT_LENGTH], text[_TRACEPARENT_LENGTH:]
    if not _TRACEPARENT.fullmatch(known) or (more and (more[0] != "-" or known.startswith("00"))):
        return ""
    return known
