"""The body of a request to a user's route: bounded on its way in, and read as the handler wants it."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from oipserver.apps.files import File, Files
from oipserver.core.errors import BadRequest, PayloadTooLarge, UnsupportedMediaType, printable
from oipserver.http import compression
from oipserver.http.door import InferSettings, read_head


class Inlet:
    """ASGI's `receive`, which lets no more than the limit through.

    Attributes:
        limit: bytes; a reader may lower it.
        refused: what was wrong with the body, for an application that took it for a failure of its own.
    """

    def __init__(self, scope: Scope, receive: Receive, settings: InferSettings) -> None:
        self.head = read_head(scope["headers"])
        self.settings = settings
        self.limit = settings.max_body_bytes
        self.refused: PayloadTooLarge | None = None
        self._receive = receive
        self._size = 0

    def check_announced(self) -> None:
        """PayloadTooLarge when the announced length is over the limit."""
        self._check(self.head.content_length or 0)

    async def receive(self) -> Message:
        """The next message.

        Raises:
            PayloadTooLarge: the body is over the limit.
        """
        message = await self._receive()
        self._size += len(message.get("body", b""))
        self._check(self._size)
        return message

    def _check(self, size: int) -> None:
        if size > self.limit:
            self.refused = PayloadTooLarge(f"the body has more than {self.limit} bytes")
            raise self.refused


async def read_json(request: Request, inlet: Inlet) -> Any:
    """The body as JSON.  Its content is judged, not its type, for `curl -d` says that it sends a form.

    Raises:
        BadRequest: no JSON.
        PayloadTooLarge: over the limit of JSON, before or after decompression.
        UnsupportedMediaType: a multipart form, or a content coding that is not undone here.
    """
    if inlet.head.content_type.startswith("multipart/"):
        raise UnsupportedMediaType("expected a JSON body, got a multipart form")
    body = await read_bytes(request, inlet, inlet.settings.max_json_bytes)
    if not body:
        raise BadRequest("expected a JSON body, got none")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None


async def read_bytes(request: Request, inlet: Inlet, limit: int) -> bytes:
    """The body without its content coding, at most `limit` bytes before and after; raises as `read_json`."""
    encoding = inlet.head.encoding
    if encoding:
        compression.check_encoding(encoding)
    inlet.limit = limit
    inlet.check_announced()
    body = await request.body()
    return await asyncio.to_thread(compression.decompress, body, encoding, limit) if encoding else body


async def read_form(request: Request, inlet: Inlet) -> Files:
    """The parts of a multipart form.

    Raises:
        BadRequest: it cannot be parsed.
        PayloadTooLarge: over the limit of a body.
        UnsupportedMediaType: it is no multipart form, or has a content coding.
    """
    kind = inlet.head.content_type.partition(";")[0].strip()
    if kind != "multipart/form-data":
        raise UnsupportedMediaType(f"expected Content-Type multipart/form-data, got '{printable(kind)}'")
    if inlet.head.encoding:
        raise UnsupportedMediaType("a form with a Content-Encoding is not read here")
    try:
        # The body is bounded as a whole, so its parts are.
        form = await request.form(max_part_size=inlet.settings.max_body_bytes)
    except MultiPartException as error:
        raise BadRequest(f"the form cannot be read: {error.message}") from None
    try:
        return Files([await _part(name, value) for name, value in form.multi_items()])
    finally:
        await form.close()


async def _part(name: str, value: UploadFile | str) -> File:
    if isinstance(value, str):
        return File(name, "", "", value.encode())
    return File(name, value.filename or "", value.content_type or "", await value.read())
