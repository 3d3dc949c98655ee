"""The ASGI application: infer by exact path, in front of Starlette's router for everything else.

Starlette's routing costs an infer request 50 to 100 µs; matching its path by hand costs 1 µs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oipserver.apps.claims import check_paths
from oipserver.apps.life import Apps
from oipserver.core.controlplane import ControlPlane
from oipserver.core.dataplane import DataPlane
from oipserver.core.errors import Cancelled, Fault, InternalError, MethodNotAllowed, NotFound, printable
from oipserver.http.access import guarded
from oipserver.http.console import console_routes
from oipserver.http.control import Reported
from oipserver.http.custom.front import CustomRoutes, first_segment
from oipserver.http.custom.listing import listing_routes
from oipserver.http.docs_page import page_routes
from oipserver.http.door import InferSettings, parse_infer_path
from oipserver.http.endpoints import Endpoints, Exposition
from oipserver.http.errors import error_response, request_id_of
from oipserver.http.generate import GenerateDoor
from oipserver.http.infer import InferDoor
from oipserver.http.invocations import scoring_routes
from oipserver.http.model_config import config_routes
from oipserver.http.openapi.endpoints import Documents
from oipserver.http.repository import Repository
from oipserver.http.shared_memory import SharedMemory
from oipserver.http.statistics import statistics_routes

logger = logging.getLogger("oipserver.http")

# The last segment of their paths, and whether all answers are given in one piece.
_GENERATE = (("generate", True), ("generate_stream", False), ("infer_stream", False))
# First segments of paths that are the server's, whether it serves something there now or not.
_RESERVED = frozenset(("v2", "metrics", "console"))


def create_app(
    plane: DataPlane,
    settings: InferSettings,
    exposition: Exposition,
    apps: Apps | None = None,
    scored: bool = False,
    control: ControlPlane | None = None,
    console: bool = True,
) -> ASGIApp:
    """The whole HTTP front as one ASGI application, for uvicorn or any other ASGI server.

    Args:
        exposition: the metrics, in the text format that is asked for.
        apps: the user's own, beside the server's routes.
        scored: the scoring paths (/invocations, /ping, ...) are a model's, so no app may have them.
        control: answers the repository extension, which is not there without it.
        console: the pages for people are there.

    Raises:
        AppError: an app claims a path of the server's, or another app's.
    """
    infer = InferDoor(plane, settings)
    scoring = scoring_routes(plane, settings)
    generate = {name: GenerateDoor(plane, settings, whole) for name, whole in _GENERATE}
    documents = Documents(plane)
    router = Starlette(
        routes=[
            *statistics_routes(plane),  # in front, for "stats" is no model
            *_routes(Endpoints(plane, exposition), infer),
            *config_routes(plane),
            *SharedMemory(plane.regions).routes(),
            *_generate_routes(generate),
            *documents.routes(),
            *page_routes(),
            *(console_routes() if console else ()),
            *listing_routes(apps),
            *scoring,
            *(Repository(control).routes() if control is not None else ()),
        ],
        exception_handlers={
            Fault: _on_fault,
            HTTPException: _on_http_exception,
            ClientDisconnect: _on_left,
            Exception: _on_bug,
        },
    )
    router.router.redirect_slashes = False
    guarded(router.routes, plane.gate.guard, (InferDoor, GenerateDoor))
    documents.describe(router.routes)
    doors = (InferDoor, GenerateDoor)
    reported = Reported(router, router.routes, doors, plane.gate.control)
    own = Dispatch({"infer": infer, **generate}, RequestIds(reported))
    if apps is None or not apps.loaded:
        return own
    reserved = _RESERVED | ({first_segment(route.path) for route in scoring} if scored else set())
    check_paths(apps.loaded, reserved | {""})
    return CustomRoutes(apps, own, reserved, plane.gate, settings)


def _routes(endpoints: Endpoints, infer: InferDoor) -> list[BaseRoute]:
    # `Dispatch` has taken every POST to infer before; here it stands for its 405 and OPTIONS.
    return [
        Route("/v2", endpoints.server_metadata),
        Route("/v2/health/live", endpoints.live),
        Route("/v2/health/ready", endpoints.ready),
        Route("/v2/models", endpoints.models),
        Route("/v2/models/{model}", endpoints.model_metadata),
        Route("/v2/models/{model}/ready", endpoints.model_ready),
        Route("/v2/models/{model}/infer", infer, methods=["POST"]),
        Route("/v2/models/{model}/versions/{version}", endpoints.model_metadata),
        Route("/v2/models/{model}/versions/{version}/ready", endpoints.model_ready),
        Route("/v2/models/{model}/versions/{version}/infer", infer, methods=["POST"]),
        Route("/metrics", endpoints.metrics),
    ]


def _generate_routes(doors: Mapping[str, GenerateDoor]) -> list[BaseRoute]:
    """Like those of infer, they stand for 405 and OPTIONS."""
    prefixes = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
    return [
        Route(f"{prefix}/{name}", door, methods=["POST"])
        for prefix in prefixes
        for name, door in doors.items()
    ]


class Dispatch:
    """Sends inferences straight to their doors, which are found by the last segment of the path."""

    def __init__(self, doors: Mapping[str, InferDoor | GenerateDoor], rest: ASGIApp) -> None:
        self._doors = doors
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if len(path) > 1 and path.endswith("/"):
            # The specification's OpenAPI document writes /v2/; clients do not follow redirects.
            scope["path"] = path = path.rstrip("/") or "/"
        door = self._doors.get(path[path.rfind("/") + 1 :]) if scope["method"] == "POST" else None
        if door is not None and (target := parse_infer_path(path)):
            await door.serve(scope, receive, send, *target)
        else:
            await self._rest(scope, receive, send)


class RequestIds:
    """Gives every other answer its X-Request-Id; a bug's exception ends here, answered and logged."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = request_id_of(scope["headers"])
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("x-request-id", request_id)
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            logger.exception("request %s failed", request_id)


async def _on_fault(request: Request, error: Exception) -> Response:
    assert isinstance(error, Fault)  # noqa: S101  it is registered for Fault alone
    request_id = request.state.request_id
    request.state.code = error.code
    status, headers, body = error_response(error, request_id)
    response = Response(body, status)
    response.raw_headers = [*headers, (b"content-length", b"%d" % len(body))]
    return response


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """What Starlette's router says about paths and methods, in our words."""
    assert isinstance(error, HTTPException)  # noqa: S101  it is registered for HTTPException alone
    path = printable(request.url.path)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return await _on_fault(request, NotFound(f"no route {path}"))
    allowed = (error.headers or {}).get("Allow", "")
    if request.method == "OPTIONS":
        return Response(status_code=HTTPStatus.NO_CONTENT, headers={"allow": f"{allowed}, OPTIONS"})
    response = await _on_fault(
        request, MethodNotAllowed(f"{path} takes {allowed}, not {printable(request.method)}")
    )
    response.headers["allow"] = allowed
    return response


async def _on_left(request: Request, error: Exception) -> Response:
    """The caller left while its body was read: for the log, nobody is there to be answered."""
    return await _on_fault(request, Cancelled("the caller left"))


async def _on_bug(request: Request, error: Exception) -> Response:
    return await _on_fault(request, InternalError("internal error"))
