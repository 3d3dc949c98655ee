"""ASGI's `send` for a user's route: every answer has our request id, and no bug's text leaves."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

from oipserver.http.custom.body import Inlet
from oipserver.http.errors import Headers
from oipserver.http.outlet import Outlet


class Lost(OSError):
    """The caller left before its answer was there.  ASGI, "Disconnected Client": `send` raises an OSError."""


class Outbox:
    """The way out of one answer.

    A short answer of 500 and more is kept until the application has returned: those that raise answer
    first, in words of their own, and ours take their place.

    Attributes:
        status: of the answer; 0 before there is one.
        begun: something was sent, so that nothing else can be answered.
    """

    def __init__(self, send: Send, inlet: Inlet, request_id: str, connection: Outlet | None) -> None:
        self.status = 0
        self.begun = False
        self._send = send
        self._inlet = inlet
        self._request_id = request_id
        self._connection = connection
        self._kept: list[Message] = []

    async def send(self, message: Message) -> None:
        """Send or keep a message of the application.

        Raises:
            PayloadTooLarge: the body was over the limit, whatever the application makes of it.
            Lost: the caller has left; an endless answer would go on otherwise, and never let go of the loop.
        """
        if self._connection is not None and self._connection.is_closing():
            raise Lost
        if self._inlet.refused is not None and not self.begun:
            raise self._inlet.refused
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["x-request-id"] = self._request_id
            if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                self._kept = [message]
                return
        elif self._kept and not message.get("more_body", False):
            self._kept.append(message)
            return
        await self.flush()
        self.begun = True
        await self._send(message)

    async def flush(self) -> None:
        """Send what was kept."""
        kept, self._kept = self._kept, []
        for message in kept:
            self.begun = True
            await self._send(message)

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer of ours, in place of what was kept."""
        self.status = status
        self.begun = True
        headers = [*headers, (b"content-length", b"%d" % len(body))]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
