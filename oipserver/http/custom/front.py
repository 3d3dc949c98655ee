"""The user's routes in front of the server's own: who answers a path, and the error contract around it.

Order of checks, as for infer: route, method, draining, caller, size; then it is the handler's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from http import HTTPStatus
from posixpath import normpath
from typing import NamedTuple, TypeAlias

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from oipserver.apps.app import Mount
from oipserver.apps.caller import Caller as Waiting
from oipserver.apps.life import Apps
from oipserver.apps.loading import AppError
from oipserver.apps.paths import Path
from oipserver.core.admission import Admission, Caller, Gate, Right
from oipserver.core.errors import Fault, InternalError, MethodNotAllowed, NotReady, printable
from oipserver.http.access import identify
from oipserver.http.custom.answer import answer_of
from oipserver.http.custom.body import Inlet
from oipserver.http.custom.handler import Handler
from oipserver.http.custom.outbox import Lost, Outbox
from oipserver.http.door import InferSettings
from oipserver.http.errors import STATUS, Headers, error_body, error_response, request_id_of
from oipserver.http.outlet import Outlet

logger = logging.getLogger("oipserver.http")

FRONT = "app-http"

Serve: TypeAlias = Callable[[Scope, Inlet, Outbox], Awaitable[None]]


class _Found(NamedTuple):
    """Who answers a path; and whether it is for known callers alone, as all is but what methods there are."""

    serve: Serve
    asks_caller: bool = True


class CustomRoutes:
    """An ASGI application: the user's routes, and the server's own for every path that is reserved.

    Args:
        own: answers the reserved paths, and those that no app has.
        reserved: first segments of them.

    Raises:
        AppError: a handler takes what there is not.
    """

    def __init__(
        self, apps: Apps, own: ASGIApp, reserved: Collection[str], gate: Gate, settings: InferSettings
    ) -> None:
        self._apps = apps
        self._own = own
        self._reserved = reserved
        self._gate = gate
        self._settings = settings
        self._routes = _routes(apps)
        mounts = [mount for one in apps.loaded for mount in one.app.mounts]
        # The longest first, so that /api/v2 is found before /api, and the fallback last.
        self._mounts = sorted(mounts, key=lambda mount: -len(mount.path))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        found = None if first_segment(scope["path"]) in self._reserved else self._find(scope)
        if found is None:
            await self._own(scope, receive, send)
        else:
            await self._answer(found, scope, receive, send)

    async def _answer(self, found: _Found, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens; it counts as inside until it is answered."""
        inlet = Inlet(scope, receive, self._settings)
        request_id = request_id_of(scope["headers"])
        outbox = Outbox(send, inlet, request_id, _connection(scope))
        scope["state"] = {**scope.get("state", {}), "request_id": request_id, "models": self._apps.models}
        admission: Admission | None = None
        code = "INTERNAL"
        try:
            admission = self._admit()
            if found.asks_caller:
                scope["state"]["caller"] = admission.caller = self._caller(scope)
            inlet.check_announced()
            await found.serve(scope, inlet, outbox)
            if inlet.refused is not None and not outbox.begun:
                raise inlet.refused
            await outbox.flush()
            code = "OK" if 0 < outbox.status < HTTPStatus.INTERNAL_SERVER_ERROR else "INTERNAL"
        except (ClientDisconnect, Lost):
            code = "CANCELLED"
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            code = await _refuse(error, inlet, outbox, request_id)
        finally:
            if admission is not None:
                admission.finish(code)

    def _caller(self, scope: Scope) -> Caller:
        """Who asks; a key's patterns name routes by their paths."""
        asking = identify(self._gate.guard, scope["headers"])
        path = _plain_path(scope)
        # A mounted application may take "/open/../closed" for either: both must be named.
        for meant in (path, normpath(path)):
            asking.permit(Right.INFER, meant)
        asking.take()
        return asking

    def _admit(self) -> Admission:
        admission = self._gate.admit(FRONT)
        if self._apps.reason:
            admission.finish(NotReady.code)
            raise NotReady(self._apps.reason)
        return admission

    def _find(self, scope: Scope) -> _Found | None:
        """Who answers: a route, else a mount, else nobody."""
        full: str = scope["path"]
        path = _plain_path(scope)
        allowed: set[str] = set()
        for route in self._routes:
            parameters = route.path.match(path)
            if parameters is None:
                continue
            handler = route.handlers.get(scope["method"])
            if handler is not None:
                return _Found(self._plain(handler, parameters))
            allowed.update(route.handlers)
        for mount in self._mounts:
            if not allowed and (full == mount.path or full.startswith(mount.path + "/")):
                return _Found(self._mounted(mount))
        if not allowed:
            return None
        return _Found(_other_method(path, ", ".join(sorted(allowed))), asks_caller=False)

    def _plain(self, handler: Handler, parameters: dict[str, str]) -> Serve:
        async def serve(scope: Scope, inlet: Inlet, outbox: Outbox) -> None:
            scope["path_params"] = parameters
            request = Request(scope, inlet.receive, outbox.send)
            caller = Waiting()
            call = handler(request, inlet, parameters, self._apps.models, self._apps.threads, caller)
            response = answer_of(await _unless_lost(call, scope, caller))
            await response(scope, inlet.receive, outbox.send)

        return serve

    def _mounted(self, mount: Mount) -> Serve:
        async def serve(scope: Scope, inlet: Inlet, outbox: Outbox) -> None:
            state = {**self._apps.state_of(mount.asgi), **scope["state"]}
            # ASGI, "Connection Scope": root_path is the part of path that the application is mounted at.
            inner = {**scope, "root_path": scope.get("root_path", "") + mount.path, "state": state}
            await mount.asgi(inner, inlet.receive, outbox.send)

        return serve


def _plain_path(scope: Scope) -> str:
    """The path without slashes at its end."""
    path: str = scope["path"]
    return path.rstrip("/") or "/"


def first_segment(path: str) -> str:
    """What stands between the first and the second slash."""
    return path[1:].partition("/")[0]


class _OtherMethod(MethodNotAllowed):
    """The route takes other methods; the answer lists them."""

    def __init__(self, message: str, allowed: str = "") -> None:
        super().__init__(message)
        self.allowed = allowed


class _Route:
    """One path and its handlers by method."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handlers: dict[str, Handler] = {}


def _routes(apps: Apps) -> list[_Route]:
    """The routes in order of declaration; GET answers HEAD, too (RFC 9110, 9.3.2)."""
    routes: list[_Route] = []
    for one in apps.loaded:
        for declared in one.app.routes:
            route = _Route(Path(declared.path))
            try:
                handler = Handler(declared, route.path)
            except (TypeError, ImportError) as error:
                raise AppError(f"app {one.name}: route {declared.path}: {error}") from None
            route.handlers = dict.fromkeys(declared.methods, handler)
            if "GET" in route.handlers:
                route.handlers.setdefault("HEAD", handler)
            routes.append(route)
    return routes


def _other_method(path: str, allowed: str) -> Serve:
    """What is answered to a method that no handler of the path takes."""

    async def serve(scope: Scope, inlet: Inlet, outbox: Outbox) -> None:
        method = scope["method"]
        if method != "OPTIONS":
            raise _OtherMethod(f"{printable(path)} takes {allowed}, not {printable(method)}", allowed)
        await Response(status_code=204, headers={"allow": f"{allowed}, OPTIONS"})(
            scope, inlet.receive, outbox.send
        )

    return serve


def _connection(scope: Scope) -> Outlet | None:
    """The writing side of the connection; None when another host serves it."""
    connection: Outlet | None = scope.get("extensions", {}).get("oipserver.connection")
    return connection


async def _unless_lost(call: Awaitable[object], scope: Scope, caller: Waiting) -> object:
    """What a handler returns; it is cancelled when its caller leaves, as far as it waits for something.

    Raises:
        Lost: the caller left first.
    """
    connection = _connection(scope)
    if connection is None:  # another host's: nobody tells us
        return await call
    task = asyncio.ensure_future(call)
    lost = False

    def look() -> None:  # it also rings for a broken request behind this one
        nonlocal lost
        if connection.is_closing():
            lost = True
            caller.leave()
            task.cancel()

    connection.on_lost = look
    look()
    try:
        return await task
    except asyncio.CancelledError:
        if lost:
            raise Lost from None
        raise
    finally:
        task.cancel()
        connection.on_lost = None


async def _refuse(error: BaseException, inlet: Inlet, outbox: Outbox, request_id: str) -> str:
    """Answer with what was wrong, where nothing was answered yet; the code for the metrics."""
    if inlet.refused is not None:
        error = inlet.refused
    if isinstance(error, HTTPException) and not outbox.begun:
        body = error_body(_code_of(error.status_code), printable(error.detail, 1024), request_id)
        headers: Headers = [(b"content-type", b"application/json"), (b"x-request-id", request_id.encode())]
        headers += [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
        await outbox.answer(error.status_code, headers, body)
        return _code_of(error.status_code)
    if not isinstance(error, Fault) or error.code not in STATUS:
        logger.error("request %s failed", request_id, exc_info=error)
        error = InternalError("internal error")
    if not outbox.begun:
        status, headers, body = error_response(error, request_id)
        if isinstance(error, _OtherMethod):
            headers.append((b"allow", error.allowed.encode()))
        await outbox.answer(status, headers, body)
    return error.code


def _code_of(status: int) -> str:
    """The symbolic code of a status that a handler chose; the nearest one for a status without."""
    for code, number in STATUS.items():
        if number == status:
            return code
    return "BAD_REQUEST" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "INTERNAL"
