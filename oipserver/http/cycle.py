"""One request and its answer, as uvicorn runs them, with our rule for keep-alive and our 500."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from oipserver.core.errors import InternalError
from oipserver.http.errors import error_response, request_id_of
from oipserver.http.outlet import Outlet


class Cycle(RequestResponseCycle):
    """uvicorn's cycle; its transport must be an `Outlet`."""

    transport: Outlet

    def lose(self) -> None:
        """The caller has left, or is not listened to any more: end the application's wait."""
        if self.disconnected or self.response_complete:
            return
        self.disconnected = True
        self.message_event.set()
        if self.transport.on_lost is not None:
            self.transport.on_lost()

    def send(self, message: ASGISendEvent) -> Coroutine[Any, Any, None]:
        """ASGI `send`; decides with the first message whether the connection lives on."""
        if not self.response_started and (self.more_body or self.transport.shared.closing):
            self._may_be_the_last()
        return RequestResponseCycle.send(self, message)  # `super()` costs a little, twice per answer

    def _may_be_the_last(self) -> None:
        """Whether the connection is of use after this answer.

        RFC 9110, 10.1.1: an answer instead of 100 leaves it open whether the body follows; and a long rest
        of a body that nobody wants is not worth reading.
        """
        outlet = self.transport
        if outlet.shared.closing or self.waiting_for_100_continue or not outlet.inlet.rest_is_small():
            self.keep_alive = False

    async def send_500_response(self) -> None:
        """The application raised, or answered nothing: our error body, and not a word of why."""
        fault = InternalError("internal error")
        status, headers, body = error_response(fault, request_id_of(self.scope["headers"]))
        headers += [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})
