"""The repository extension: POST /v2/repository/index and /v2/repository/models/{model}/load, /unload.

Source: Triton, "Model Repository Extension".  What is answered to a load or an unload is an empty body.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from oipserver.core.admission import Right
from oipserver.core.controlplane import ControlPlane, Indexed, refuse_parameters
from oipserver.core.errors import BadRequest, printable
from oipserver.http.access import caller_of
from oipserver.http.document import read_document
from oipserver.http.endpoints import json_response


class Repository:
    """Handlers of the three routes."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    def routes(self) -> list[BaseRoute]:
        """The route table."""
        return [
            Route("/v2/repository/index", self.index, methods=["POST"]),
            Route("/v2/repository/models/{model}/load", self.load, methods=["POST"]),
            Route("/v2/repository/models/{model}/unload", self.unload, methods=["POST"]),
        ]

    async def index(self, request: Request) -> Response:
        """Every configured version and its state; `{"ready": true}` asks for those that serve."""
        ready = (await read_document(request)).get("ready", False)
        if not isinstance(ready, bool):
            raise BadRequest(f"'ready': expected true or false, got {printable(ready)}")
        may = caller_of(request.scope).may
        return json_response([_entry(one) for one in self._control.index(ready) if may(Right.READ, one.name)])

    async def load(self, request: Request) -> Response:
        """Answers when the model serves, or has failed to."""
        refuse_parameters(list(await _parameters(request)))
        await self._control.load(request.path_params["model"])
        return Response()

    async def unload(self, request: Request) -> Response:
        """Answers when the model is gone; there are no dependents that `unload_dependents` could mean."""
        await _parameters(request)
        await self._control.unload(request.path_params["model"])
        return Response()


def _entry(one: Indexed) -> Mapping[str, str]:
    reason = {"reason": one.reason} if one.reason else {}
    return {"name": one.name, "version": one.version, "state": one.state, **reason}


async def _parameters(request: Request) -> Mapping[str, Any]:
    parameters = (await read_document(request)).get("parameters", {})
    if not isinstance(parameters, dict):
        raise BadRequest(f"'parameters': expected an object, got {printable(parameters)}")
    return parameters
