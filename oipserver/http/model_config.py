"""GET /v2/models/{model}[/versions/{version}]/config: Triton, "Model Configuration Extension"."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from oipserver.core.dataplane import DataPlane
from oipserver.core.served_config import ServedConfig, ServedTensor, served_config
from oipserver.http.endpoints import json_response


def config_routes(plane: DataPlane) -> list[BaseRoute]:
    """The route table."""

    async def config(request: Request) -> Response:
        version = plane.serving(request.path_params["model"], request.path_params.get("version"))
        return json_response(_document(served_config(version)))

    return [
        Route("/v2/models/{model}/config", config),
        Route("/v2/models/{model}/versions/{version}/config", config),
    ]


def _document(config: ServedConfig) -> Mapping[str, object]:
    delay = config.max_queue_delay_microseconds
    batching = {"max_queue_delay_microseconds": delay} if delay else {}
    return {
        "name": config.name,
        "platform": config.platform,
        "backend": config.backend,
        "max_batch_size": config.max_batch_size,
        "input": [_tensor(each) for each in config.inputs],
        "output": [_tensor(each) for each in config.outputs],
        "instance_group": [{"name": config.name, "kind": "KIND_CPU", "count": config.instances}],
        **({"dynamic_batching": batching} if config.batching else {}),
    }


def _tensor(tensor: ServedTensor) -> Mapping[str, object]:
    return {
        "name": tensor.name,
        "data_type": tensor.data_type,
        "dims": tensor.dims,
        **({"optional": True} if tensor.optional else {}),
    }
