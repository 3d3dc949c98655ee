"""Reports what asks for no inference: health, metadata, the server's other routes, and what has no route."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TypeAlias

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oipserver.core.observer import Ended
from oipserver.http.access import caller_of

Report: TypeAlias = Callable[[Ended], None]


class Reported:
    """An application of routes, each of whose answers is reported.

    Args:
        doors: endpoints that report what is posted to them by themselves.
    """

    def __init__(
        self, app: ASGIApp, routes: Iterable[BaseRoute], doors: tuple[type, ...], report: Report
    ) -> None:
        self._app = app
        self._doors = doors
        self._report = report
        # One endpoint may have several paths: the first, which is the shortest, stands for all.
        self._paths: dict[object, str] = {}
        for route in routes:
            if isinstance(route, Route):
                self._paths.setdefault(route.endpoint, route.path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        begun = False

        async def send_on(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        finally:
            endpoint = scope.get("endpoint")
            if not (scope["method"] == "POST" and isinstance(endpoint, self._doors)):
                code = scope["state"].get("code", "OK") if begun else "CANCELLED"
                self._report(self._ended(scope, endpoint, code, time.perf_counter() - started))

    def _ended(self, scope: Scope, endpoint: object, code: str, seconds: float) -> Ended:
        route, caller = self._paths.get(endpoint, ""), caller_of(scope).name
        return Ended(
            "http",
            route,
            "",
            "",
            code,
            (seconds,),
            (scope["state"]["request_id"],),
            (caller,) if caller else (),
        )
