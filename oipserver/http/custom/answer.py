"""From what a plain handler returns to a response."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from starlette.responses import Response

_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def answer_of(value: object) -> Response:
    """The response that a handler's return value means.

    Args:
        value: a Response; None; text; bytes; a status (int) and one of these as a tuple; anything else is
            JSON, where arrays are lists, NaN is null and the bytes of a BYTES tensor are text.

    Raises:
        TypeError: JSON cannot hold it.
        ValueError: the status is none.
    """
    if isinstance(value, tuple) and len(value) == 2 and type(value[0]) is int:
        status, content = value
        if not 200 <= status <= 599:
            raise ValueError(f"expected a status from 200 to 599, got {status}")
        return _response(content, status)
    if isinstance(value, Response):
        return value
    return _response(value, 204 if value is None else 200)


def _response(content: object, status: int) -> Response:
    if content is None:
        return Response(status_code=status)
    if isinstance(content, str):
        return Response(content, status, media_type="text/plain")
    if isinstance(content, bytes | bytearray | memoryview):
        return Response(bytes(content), status, media_type="application/octet-stream")
    return Response(orjson.dumps(content, _plain, _JSON), status, media_type="application/json")


def _plain(value: Any) -> object:
    """What orjson does not write by itself: unusual arrays and scalars, bytes, mappings and sets."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, set | frozenset):
        return list(value)
    if hasattr(value, "keys"):
        return dict(value)
    raise TypeError(f"JSON cannot hold a {type(value).__name__}")
