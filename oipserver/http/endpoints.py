"""The routes beside infer: health, metadata, metrics.  Each reads one fact from the data plane."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

import orjson
from starlette.requests import Request
from starlette.responses import Response

from oipserver.core.admission import Right
from oipserver.core.dataplane import DataPlane
from oipserver.core.errors import NotReady
from oipserver.core.messages import ModelMetadata, TensorMetadata
from oipserver.http.access import caller_of

# Content type and body of the metrics, for the value of an Accept header.
Exposition: TypeAlias = Callable[[str], Awaitable[tuple[str, bytes]]]


def json_response(document: Any) -> Response:
    """A 200 with `Content-Type: application/json` exactly, as KServe's client compares it."""
    return Response(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


class Endpoints:
    """Handlers for `oipserver.http.app`'s route table.

    Args:
        exposition: the metrics, in the text format that is asked for.
    """

    def __init__(self, plane: DataPlane, exposition: Exposition) -> None:
        self._plane = plane
        self._exposition = exposition

    async def live(self, request: Request) -> Response:
        """GET /v2/health/live."""
        return json_response({"live": self._plane.live()})

    async def ready(self, request: Request) -> Response:
        """GET /v2/health/ready: 503 with the reason until every configured model serves."""
        reason = self._plane.ready_reason()
        if reason:
            raise NotReady(reason)
        return json_response({"live": True, "ready": True})

    async def server_metadata(self, request: Request) -> Response:
        """GET /v2."""
        metadata = self._plane.server_metadata()
        return json_response(
            {"name": metadata.name, "version": metadata.version, "extensions": metadata.extensions}
        )

    async def models(self, request: Request) -> Response:
        """GET /v2/models: the names that the caller may know, as KServe lists them."""
        may = caller_of(request.scope).may
        names = [name for name in self._plane.model_names() if may(Right.DESCRIBE, name)]
        return json_response({"models": names})

    async def model_metadata(self, request: Request) -> Response:
        """GET /v2/models/{model}[/versions/{version}]."""
        return json_response(_metadata(self._plane.model_metadata(*_target(request))))

    async def model_ready(self, request: Request) -> Response:
        """GET /v2/models/{model}[/versions/{version}]/ready: unknown 404, known but not ready 503."""
        model, version = _target(request)
        if not self._plane.model_ready(model, version):
            raise NotReady(self._plane.model_not_ready_reason(model, version))
        refused = self._plane.refused_reload(model, version)
        more = {"reload_failed": refused} if refused else {}
        return json_response({"name": model, "ready": True, **more})

    async def metrics(self, request: Request) -> Response:
        """GET /metrics."""
        media_type, text = await self._exposition(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": media_type})


def _target(request: Request) -> tuple[str, str | None]:
    return request.path_params["model"], request.path_params.get("version")


def _metadata(metadata: ModelMetadata) -> Mapping[str, object]:
    """OIP, "Model Metadata Response JSON Object"; what may be asked for besides stands in `parameters`."""
    parameters = dict(metadata.parameters)
    if metadata.optional_outputs:
        parameters["optional_outputs"] = _tensors(metadata.optional_outputs)
    if metadata.named_inputs:
        parameters["named_inputs"] = _tensors(metadata.named_inputs)
    return {
        "name": metadata.name,
        "versions": metadata.versions,
        "platform": metadata.platform,
        "inputs": _tensors(metadata.inputs),
        "outputs": _tensors(metadata.outputs),
        "parameters": parameters,
    }


def _tensors(tensors: Sequence[TensorMetadata]) -> list[Mapping[str, object]]:
    return [
        {
            "name": tensor.name,
            "datatype": tensor.datatype.name,
            "shape": tensor.shape,
            **({"parameters": tensor.parameters} if tensor.parameters else {}),
        }
        for tensor in tensors
    ]
