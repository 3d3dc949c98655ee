"""The JSON object in the body of a call that is no inference: small, and often not there at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request

from oipserver.core.errors import BadRequest, PayloadTooLarge, printable

# What such a call has to say is far shorter.
MAX_BYTES = 65536


async def read_document(request: Request) -> Mapping[str, Any]:
    """The object; an empty one where the body is empty, as clients send it that have nothing to say.

    Raises:
        BadRequest: the body is something else.
        PayloadTooLarge: it has more than 64 KiB.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise PayloadTooLarge(f"the body has more than {MAX_BYTES} bytes")
    if not body:
        return {}
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise BadRequest(f"expected a JSON object, got {printable(document)}")
    return document
