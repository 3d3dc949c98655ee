"""The infer door for any ASGI server: reads the body, waits for the answer or for the caller to leave."""

from __future__ import annotations

import asyncio
import logging

from starlette.types import Receive, Scope, Send

from oipserver.core.dataplane import DataPlane
from oipserver.core.errors import Fault, InternalError
from oipserver.http.door import Answer, Exchange, InferSettings, compressed, read_head

logger = logging.getLogger("oipserver.http")

# A refused body up to this size is read and dropped; beyond it the connection closes after the answer.
DRAIN_UP_TO = 65536


class Disconnected(Exception):
    """The caller left while its body was being read."""


class Body:
    """A request's body, piece by piece.

    Attributes:
        complete: the last piece has come; to ask for one more would be to wait for the caller to leave.
    """

    def __init__(self, receive: Receive) -> None:
        self.complete = False
        self._receive = receive

    async def piece(self) -> bytes:
        """The next piece.

        Raises:
            Disconnected: the caller left instead.
        """
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        self.complete = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece


class InferDoor:
    """POST /v2/models/{model}[/versions/{version}]/infer over ASGI."""

    def __init__(self, plane: DataPlane, settings: InferSettings) -> None:
        self._plane = plane
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an endpoint behind a router that has matched the path."""
        target = scope["path_params"]
        await self.serve(scope, receive, send, target["model"], target.get("version"))

    async def serve(
        self, scope: Scope, receive: Receive, send: Send, model: str, version: str | None
    ) -> None:
        """Answer one request; returns without sending when the caller left."""
        exchange = Exchange(self._plane, self._settings, read_head(scope["headers"]))
        try:
            answer = await self._answer(exchange, scope, receive, model, version)
        except Disconnected:
            exchange.cancel()
            return
        except asyncio.CancelledError:
            exchange.cancel()
            raise
        except Exception:
            logger.exception("request %s failed", exchange.request_id)
            answer = exchange.refused(InternalError("internal error"))
        if answer is not None:
            await _send(send, await compressed(answer))

    async def _answer(
        self, exchange: Exchange, scope: Scope, receive: Receive, model: str, version: str | None
    ) -> Answer | None:
        incoming = Body(receive)
        try:
            exchange.admit(model, version)
            body = await _read(exchange, incoming)
        except Fault as fault:
            return await _refused(exchange, fault, incoming)
        if exchange.head.encoding:
            try:
                body = await asyncio.to_thread(exchange.decompress, body)
            except Fault as fault:
                return exchange.refused(fault)
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        exchange.infer(body, lambda answer: _settle(future, answer))
        if future.done():
            return future.result()
        return await _unless_lost(future, exchange, scope, receive)


def _settle(future: asyncio.Future[Answer | None], answer: Answer | None) -> None:
    if not future.done():
        future.set_result(answer)


async def _unless_lost(
    future: asyncio.Future[Answer | None], exchange: Exchange, scope: Scope, receive: Receive
) -> Answer | None:
    """The answer, or None when the caller leaves first."""

    def lost() -> None:
        exchange.cancel()
        _settle(future, None)

    connection = scope.get("extensions", {}).get("oipserver.connection")
    if connection is not None:  # our own protocol class tells us; no task is needed
        connection.on_lost = lost
        if connection.is_closing():
            lost()
        try:
            return await future
        finally:
            connection.on_lost = None
    watch = asyncio.ensure_future(_until_disconnect(receive))
    watch.add_done_callback(lambda task: None if task.cancelled() else lost())
    try:
        return await future
    finally:
        watch.cancel()


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def _read(exchange: Exchange, body: Body) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while not body.complete:
        pieces.append(await body.piece())
        size += len(pieces[-1])
        exchange.check_size(size)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _refused(exchange: Exchange, fault: Fault, body: Body) -> Answer:
    """A refusal before the body was read: read a small rest so that the connection can be used again."""
    answer = exchange.refused(fault)
    left = DRAIN_UP_TO
    if (exchange.head.content_length or 0) <= left:
        while not body.complete and left >= 0:
            left -= len(await body.piece())
    if not body.complete:
        answer.headers.append((b"connection", b"close"))
    return answer


async def _send(send: Send, answer: Answer) -> None:
    headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
