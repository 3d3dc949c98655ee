"""The shared memory extension: /v2/systemsharedmemory/..., and what is to be said of CUDA's.

Source: Triton, "Shared Memory Extension".  There is no CUDA memory here, so none can be registered; to ask
what is, and to forget it all, is answered all the same, for that is what clients begin with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from oipserver.core.errors import BadRequest, NotFound, Unsupported, printable
from oipserver.core.shared_memory import Region, Regions
from oipserver.http.document import read_document
from oipserver.http.endpoints import json_response

_SYSTEM, _CUDA = "/v2/systemsharedmemory", "/v2/cudasharedmemory"
_REGION = "/region/{region}"


class SharedMemory:
    """Handlers of the routes."""

    def __init__(self, regions: Regions) -> None:
        self._regions = regions

    def routes(self) -> list[BaseRoute]:
        """The route table."""
        return [
            Route(f"{_SYSTEM}/status", self.status),
            Route(f"{_SYSTEM}{_REGION}/status", self.status),
            Route(f"{_SYSTEM}{_REGION}/register", self.register, methods=["POST"]),
            Route(f"{_SYSTEM}/unregister", self.unregister, methods=["POST"]),
            Route(f"{_SYSTEM}{_REGION}/unregister", self.unregister, methods=["POST"]),
            Route(f"{_CUDA}/status", no_regions),
            Route(f"{_CUDA}{_REGION}/status", no_region),
            Route(f"{_CUDA}{_REGION}/register", no_cuda, methods=["POST"]),
            Route(f"{_CUDA}/unregister", nothing_to_forget, methods=["POST"]),
            Route(f"{_CUDA}{_REGION}/unregister", nothing_to_forget, methods=["POST"]),
        ]

    async def status(self, request: Request) -> Response:
        """Every region, or one."""
        self._regions.check_enabled()
        found = self._regions.listed(request.path_params.get("region", ""))
        return json_response([_entry(region) for region in found])

    async def register(self, request: Request) -> Response:
        """`{"key": "/name", "offset": 0, "byte_size": 64}`."""
        self._regions.check_enabled()
        document = await read_document(request)
        key = document.get("key")
        if type(key) is not str:
            raise BadRequest(f"'key' must be a string, got {printable(key)}")
        offset, size = _unsigned(document, "offset", 0), _unsigned(document, "byte_size", None)
        # In a thread, because it opens a file.
        region = await asyncio.to_thread(Region, request.path_params["region"], key, offset, size)
        self._regions.add(region)
        return Response()

    async def unregister(self, request: Request) -> Response:
        """Forget every region, or one."""
        self._regions.check_enabled()
        self._regions.remove(request.path_params.get("region", ""))
        return Response()


async def no_regions(request: Request) -> Response:
    """No region of CUDA memory."""
    return json_response([])


async def no_region(request: Request) -> Response:
    """Not this one either."""
    raise NotFound(f"no CUDA shared memory region '{printable(request.path_params['region'])}'")


async def no_cuda(request: Request) -> Response:
    """Nor will there be one."""
    raise Unsupported("CUDA shared memory is not supported")


async def nothing_to_forget(request: Request) -> Response:
    """Done already."""
    return Response()


def _entry(region: Region) -> Mapping[str, object]:
    return {"name": region.name, "key": region.key, "offset": region.offset, "byte_size": region.size}


def _unsigned(document: Mapping[str, Any], member: str, default: int | None) -> int:
    value = document.get(member, default)
    if type(value) is not int or value < 0:
        raise BadRequest(f"'{member}' must be an unsigned integer, got {printable(value)}")
    return value
