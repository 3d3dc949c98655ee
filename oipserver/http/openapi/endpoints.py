"""The routes of the documents.  One is written when it is first asked for, on a thread, and kept."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from oipserver.core.admission import Caller, Right
from oipserver.core.contract import Contract
from oipserver.core.dataplane import DataPlane
from oipserver.core.errors import NotReady
from oipserver.http.access import caller_of, need_of

if TYPE_CHECKING:
    from oipserver.http.openapi.document import Writer

# What answers under a name now.
Answering = tuple[Contract, str]


class Kept:
    """A document, and the versions that it describes: it is good as long as they are the ones that serve."""

    def __init__(self, models: Sequence[Answering], text: bytes) -> None:
        # Weak, for a version that is unloaded must not be kept by what describes it.
        self._models = [weakref.ref(contract) for contract, _ in models]
        self.text = text

    def describes(self, models: Sequence[Answering]) -> bool:
        """Whether it was written of exactly these."""
        now = [contract for contract, _ in models]
        then = [reference() for reference in self._models]
        return len(now) == len(then) and all(map(_same, now, then))


def _same(one: Contract, other: Contract | None) -> bool:
    return one is other


class Documents:
    """Handlers of GET /v2/openapi.json, and of the same below each model and version."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._kept: dict[tuple[str, ...], Kept] = {}
        self._writing = asyncio.Lock()
        self._routes: list[tuple[str, str]] = []

    def routes(self) -> list[Route]:
        """Where the documents are."""
        model = "/v2/models/{model}"
        return [
            Route("/v2/openapi.json", self.of_server),
            Route("/openapi.json", self.of_server),
            Route(f"{model}/openapi.json", self.of_model),
            Route(f"{model}/versions/{{version}}/openapi.json", self.of_model),
        ]

    def describe(self, routes: Iterable[BaseRoute]) -> None:
        """The routes that the application has."""
        self._routes = [
            (method, route.path)
            for route in routes
            if isinstance(route, Route)
            for method in sorted((route.methods or set()) - {"HEAD"})
        ]

    async def of_server(self, request: Request) -> Response:
        """GET /v2/openapi.json: what is loaded now, and the caller may see."""
        caller = caller_of(request.scope)
        models, others = self._serving(caller)
        return await self._answer(
            ("", caller.name), [*models, *others], lambda writer: writer.of_server(models, others)
        )

    async def of_model(self, request: Request) -> Response:
        """GET /v2/models/{model}[/versions/{version}]/openapi.json."""
        model, version = request.path_params["model"], request.path_params.get("version")
        found = self._plane.serving(model, version)
        contract, number = found.contract, found.config.version
        if version is None:
            return await self._answer(
                (model,), [(contract, number)], lambda writer: writer.of_model(contract, number)
            )
        return await self._answer(
            (model, number), [(contract, number)], lambda writer: writer.of_version(contract, number)
        )

    async def _answer(
        self, key: tuple[str, ...], models: Sequence[Answering], write: Callable[[Writer], bytes]
    ) -> Response:
        async with self._writing:
            kept = self._kept.get(key)
            if kept is None or not kept.describes(models):
                kept = Kept(models, await asyncio.to_thread(lambda: write(self._writer())))
                self._kept[key] = kept
        return Response(kept.text, media_type="application/json")

    def _writer(self) -> Writer:
        # Most servers are never asked for a document.
        from oipserver.http.openapi.document import Access, Writer

        metadata, guard = self._plane.server_metadata(), self._plane.gate.guard
        unlocked = frozenset(path for _, path in self._routes if need_of(path).part in guard.open)
        access = Access(guard.header, unlocked) if guard.enabled else Access()
        shared_memory = "system_shared_memory" in metadata.extensions
        return Writer(self._routes, metadata.name, metadata.version, access, shared_memory)

    def _serving(self, caller: Caller) -> tuple[list[Answering], list[Answering]]:
        """What answers where no version is named; and each version of models that have several."""
        models: list[Answering] = []
        others: list[Answering] = []
        for name in self._plane.model_names():
            default = self._find(name, None) if caller.may(Right.DESCRIBE, name) else ()
            if not default:
                continue
            models += default
            versions = self._plane.model_metadata(name, None).versions
            if len(versions) > 1:
                others += [found for version in versions for found in self._find(name, version)]
        return models, others

    def _find(self, model: str, version: str | None) -> list[Answering]:
        try:
            found = self._plane.serving(model, version)
        except NotReady:
            return []
        return [(found.contract, found.config.version)]
