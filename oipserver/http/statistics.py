"""GET /v2/models/stats and /v2/models/{model}[/versions/{version}]/stats: Triton, "Statistics Extension"."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from oipserver.core.admission import Right
from oipserver.core.dataplane import DataPlane
from oipserver.core.model_config import ModelConfig
from oipserver.core.statistics import Duration, VersionStatistics, sections
from oipserver.http.access import caller_of
from oipserver.http.endpoints import json_response


def statistics_routes(plane: DataPlane) -> list[BaseRoute]:
    """The route table; a model called "stats" is asked for by its version."""

    async def statistics(request: Request) -> Response:
        found = plane.statistics(request.path_params.get("model"), request.path_params.get("version"))
        may = caller_of(request.scope).may
        shown = [_document(*one) for one in found if may(Right.READ, one[0].name)]
        return json_response({"model_stats": shown})

    return [
        Route("/v2/models/stats", statistics),
        Route("/v2/models/{model}/stats", statistics),
        Route("/v2/models/{model}/versions/{version}/stats", statistics),
    ]


def _document(config: ModelConfig, numbers: VersionStatistics) -> Mapping[str, object]:
    return {
        "name": config.name,
        "version": config.version,
        "last_inference": numbers.last_inference,
        "inference_count": numbers.inference_count,
        "execution_count": numbers.execution_count,
        "inference_stats": {name: _duration(one) for name, one in sections(numbers).items()},
        "response_stats": {},
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": _duration(Duration()),
                "compute_infer": _duration(seconds),
                "compute_output": _duration(Duration()),
            }
            for rows, seconds in sorted(numbers.batches.items())
        ],
        "memory_usage": [],
    }


def _duration(one: Duration) -> Mapping[str, int]:
    return {"count": one.count, "ns": one.nanoseconds}
