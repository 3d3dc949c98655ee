"""GET /v2/apps: the user's own routes, for the console and whoever else looks for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from oipserver.apps.app import App, Handler
from oipserver.apps.life import Apps
from oipserver.core.admission import Right
from oipserver.http.access import caller_of
from oipserver.http.endpoints import json_response


def listing_routes(apps: Apps | None) -> list[Route]:
    """The route table; without apps the list is empty."""

    async def listing(request: Request) -> Response:
        caller = caller_of(request.scope)
        loaded = () if apps is None else apps.loaded
        reason = "" if apps is None else apps.reason
        return json_response(
            {
                "apps": [
                    {
                        "name": one.name,
                        "ready": not reason,
                        **({"reason": reason} if reason else {}),
                        **_paths(one.app, lambda path: caller.may(Right.INFER, path)),
                    }
                    for one in loaded
                ]
            }
        )

    return [Route("/v2/apps", listing)]


def _paths(app: App, may: Callable[[str], bool]) -> Mapping[str, object]:
    """What the caller may ask; a mounted application has every path from its own down."""
    return {
        "routes": [
            {"path": route.path, "methods": route.methods, "summary": _summary(route.handler)}
            for route in app.routes
            if may(route.path)
        ],
        "mounts": [path for mount in app.mounts if may(path := mount.path or "/")],
    }


def _summary(handler: Handler) -> str:
    """The first line of its docstring."""
    return (inspect.getdoc(handler) or "").partition("\n")[0]
