"""Who asks over HTTP, and what each of our routes needs of its caller.

What stands in no table here needs an administrator's key: a route that somebody forgot is closed, not open.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from oipserver.core.admission import ANONYMOUS, Caller, Guard, Need, Right

# Stands among the headers of a peer that showed a certificate; no client can send a name like this.
PEER_SUBJECT = b":peer-subject"

_VERSION = "/versions/{version}"

_HEALTH = Need(None, "health")
_DOCS = Need(None, "docs")
_DESCRIBE = Need(Right.DESCRIBE)
_READ = Need(Right.READ)
_CLOSED = Need(Right.ADMIN)

# By path, without the version.  Doors of inferences are not here: an `Exchange` asks by itself.
NEEDS = {
    "/v2": Need(None),
    "/v2/health/live": _HEALTH,
    "/v2/health/ready": _HEALTH,
    "/ping": _HEALTH,
    "/health": _HEALTH,
    "/version": Need(None),
    "/metrics": Need(Right.READ, "metrics"),
    "/v2/docs": _DOCS,
    "/v2/docs/page.js": _DOCS,
    "/v2/docs/page.css": _DOCS,
    "/": _DOCS,
    "/console": _DOCS,
    "/console/{file:path}": _DOCS,
    "/v2/apps": Need(None),
    "/v2/models": _READ,
    "/v2/models/{model}": _DESCRIBE,
    "/v2/models/{model}/ready": _DESCRIBE,
    "/v2/models/{model}/config": _DESCRIBE,
    "/v2/models/{model}/openapi.json": _DESCRIBE,
    "/v2/models/{model}/stats": _READ,
    "/v2/models/stats": _READ,
    "/v2/openapi.json": _READ,
    "/openapi.json": _READ,
    "/v2/repository/index": _READ,
}


def need_of(path: str) -> Need:
    """What the route with this path needs."""
    return NEEDS.get(path.replace(_VERSION, ""), _CLOSED)


def identify(guard: Guard, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
    """Who asks.

    Args:
        headers: names in lower case.

    Raises:
        Unauthorized: nobody that is known.
    """
    if not guard.enabled:
        return ANONYMOUS
    named = guard.header.encode()
    authorization, keys, subject = [], [], ""
    for name, value in headers:
        if name == b"authorization":
            authorization.append(value.decode("latin-1"))
        elif name == named:
            keys.append(value.decode("latin-1"))
        elif name == PEER_SUBJECT:
            subject = value.decode("ascii")
    return guard.identify(authorization, keys, lambda: subject)


def caller_of(scope: Scope) -> Caller:
    """Who asks; behind `guarded`."""
    caller: Caller = scope.get("state", {}).get("caller", ANONYMOUS)
    return caller


def guarded(routes: Sequence[BaseRoute], guard: Guard, doors: tuple[type, ...]) -> Sequence[BaseRoute]:
    """The routes, each behind a check of its caller; `doors` are endpoints that check by themselves."""
    if guard.enabled:
        for route in routes:
            if isinstance(route, Route | Mount) and not isinstance(getattr(route, "endpoint", None), doors):
                need = need_of(route.path)
                if need.part not in guard.open:
                    route.app = Checked(route.app, guard, need.right)
    return routes


class Checked:
    """Asks who comes, in front of one route, when path and method are known to be right."""

    def __init__(self, app: ASGIApp, guard: Guard, right: Right | None) -> None:
        self._app = app
        self._guard = guard
        self._right = right

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = identify(self._guard, scope["headers"])
        scope.setdefault("state", {})["caller"] = caller  # first, so that the log names who is refused
        if self._right is not None:
            caller.permit(self._right, scope.get("path_params", {}).get("model", ""))
        caller.take()
        await self._app(scope, receive, send)
