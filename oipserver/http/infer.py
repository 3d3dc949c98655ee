"""The infer door for any ASGI server: reads the body, waits for the answer or for the caller to leave."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.types import Receive, Scope, Send

from oipserver.core.dataplane import DataPlane
from oipserver.core.errors import Fault, InternalError
from oipserver.http.door import Answer, Exchange, Head, InferSettings, compressed, read_head
from oipserver.http.outlet import Outlet

logger = logging.getLogger("oipserver.http")


# A body that nobody wants is read and dropped by the server up to this size.
DROP_UP_TO = 65536


class Disconnected(Exception):
    """The caller left while its body was being read."""


class InferDoor:
    """POST /v2/models/{model}[/versions/{version}]/infer over ASGI."""

    def __init__(
        self,
        plane: DataPlane,
        settings: InferSettings,
        exchange: Callable[[DataPlane, InferSettings, Head], Exchange] = Exchange,
    ) -> None:
        self._plane = plane
        self._settings = settings
        self._exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an endpoint behind a router that has matched the path."""
        target = scope["path_params"]
        await self.serve(scope, receive, send, target["model"], target.get("version"))

    async def serve(
        self, scope: Scope, receive: Receive, send: Send, model: str, version: str | None
    ) -> None:
        """Answer one request; returns without sending when the caller left."""
        exchange = self._exchange(self._plane, self._settings, read_head(scope["headers"]))
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
            await send_answer(send, await compressed(answer))

    async def _answer(
        self, exchange: Exchange, scope: Scope, receive: Receive, model: str, version: str | None
    ) -> Answer | None:
        try:
            exchange.admit(model, version)
            body = await read_body(exchange, receive)
        except Fault as fault:
            return cut_short(exchange, fault, scope)
        if exchange.head.encoding:
            try:
                body = await asyncio.to_thread(exchange.decompress, body)
            except Fault as fault:
                return exchange.refused(fault)
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        exchange.infer(body, lambda answer: _settle(future, answer))
        del body  # its tensors are all that is kept until there is an answer
        if future.done():
            return future.result()

        def lost() -> None:
            exchange.cancel()
            _settle(future, None)

        with watching(scope, receive, lost):
            return await future


def cut_short(exchange: Exchange, fault: Fault, scope: Scope) -> Answer:
    """A refusal before the body was read; with a long one still to come the connection is of no use.

    Our own protocol class knows how much is to come, and decides itself.
    """
    answer = exchange.refused(fault)
    length = exchange.head.content_length
    if _connection(scope) is None and (length is None or length > DROP_UP_TO):
        answer.headers.append((b"connection", b"close"))
    return answer


def _connection(scope: Scope) -> Outlet | None:
    """The writing side of the connection, when our own protocol class serves it."""
    outlet: Outlet | None = scope.get("extensions", {}).get("oipserver.connection")
    return outlet


def _settle(future: asyncio.Future[Answer | None], answer: Answer | None) -> None:
    if not future.done():
        future.set_result(answer)


@contextmanager
def watching(scope: Scope, receive: Receive, lost: Callable[[], None]) -> Iterator[None]:
    """Calls `lost` when the caller leaves before the body of the `with` statement ends."""
    connection = _connection(scope)
    if connection is None:
        watch = asyncio.ensure_future(_until_disconnect(receive))
        watch.add_done_callback(lambda task: None if task.cancelled() else lost())
        try:
            yield
        finally:
            watch.cancel()
        return

    # Our own protocol class tells us; no task is needed.
    def look() -> None:  # it also rings for a broken request behind this one
        if connection.is_closing():
            lost()

    connection.on_lost = look
    look()
    try:
        yield
    finally:
        connection.on_lost = None


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def read_body(exchange: Exchange, receive: Receive) -> bytes:
    """The body.

    Raises:
        PayloadTooLarge: more than the limit has come.
        Disconnected: the caller left.
    """
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        exchange.check_size(size)
        more = message.get("more_body", False)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def send_answer(send: Send, answer: Answer) -> None:
    """A whole answer."""
    headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
