"""OpenAPI documents: of one version, of one model, of the whole server.  Pure; for any thread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import orjson

from oipserver.core.contract import Contract
from oipserver.http.openapi.bodies import generate_schema, request_schema, response_schema
from oipserver.http.openapi.operations import (
    OF_MODEL,
    OF_SCORING,
    OF_SERVER,
    OF_SHARED_MEMORY,
    SCORE,
    Access,
    Served,
)
from oipserver.http.openapi.shared import components, security_schemes
from oipserver.http.openapi.tensors import Schema

__all__ = ["Access", "Writer"]

OPENAPI = "3.1.1"

_MODEL = "/v2/models/{model}"
_VERSION = _MODEL + "/versions/{version}"

# Method and path template of a route.
Method: TypeAlias = tuple[str, str]


class Writer:
    """Writes the documents of one application.

    Args:
        routes: those that the application has.
        title, version: of the server.
        shared_memory: the extension is on.
    """

    def __init__(
        self, routes: Iterable[Method], title: str, version: str, access: Access, shared_memory: bool = False
    ) -> None:
        self._routes = list(routes)
        self._of_all = {**OF_SERVER, **(OF_SHARED_MEMORY if shared_memory else {})}
        self._title = title
        self._version = version
        self._access = access

    def of_version(self, contract: Contract, version: str) -> bytes:
        """The routes of one version, by its number."""
        return self._written(
            f"Model {contract.name}, version {version}", self._of(_VERSION, contract, version)
        )

    def of_model(self, contract: Contract, version: str) -> bytes:
        """The routes of a model that name no version; `version` is the one that answers there."""
        return self._written(f"Model {contract.name}", self._of(_MODEL, contract, version))

    def of_server(
        self, models: Sequence[tuple[Contract, str]], others: Sequence[tuple[Contract, str]]
    ) -> bytes:
        """All routes.

        Args:
            models: the version that answers where none is named, of each model.
            others: versions that are worth their own routes.
        """
        parts = [self._of_server(models)]
        parts += [self._of(_MODEL, contract, version) for contract, version in models]
        parts += [self._of(_VERSION, contract, version) for contract, version in others]
        paths: Schema = {}
        schemas: Schema = {}
        for more_paths, more_schemas in parts:
            paths |= more_paths
            schemas |= more_schemas
        return self._written("", (paths, schemas))

    def _of_server(self, models: Sequence[tuple[Contract, str]]) -> tuple[Schema, Schema]:
        paths: Schema = {}
        scored = [each for each in models if each[0].model.scoring is not None]
        table = {**self._of_all, **(OF_SCORING if len(scored) == 1 else {})}
        for method, path in self._routes:
            build = table.get((method, path))
            if build is not None:
                paths.setdefault(path, {})[method.lower()] = self._named(build(self._access), method, path)
            elif (method, path) == ("POST", "/invocations") and len(scored) == 1:
                operation = SCORE(_served(*scored[0]), self._access)
                paths[path] = {"post": self._named(operation, method, path)}
        return paths, {}

    def _of(self, prefix: str, contract: Contract, version: str) -> tuple[Schema, Schema]:
        served = _served(contract, version)
        paths: Schema = {}
        for method, template in self._routes:
            if not template.startswith(prefix) or (method, template) in OF_SERVER:
                continue
            build = OF_MODEL.get((method, template.removeprefix(prefix)))
            operation = build(served, self._access) if build is not None else None
            if operation is not None:
                path = template.replace("{model}", contract.name).replace("{version}", version)
                operation = self._named(operation, method, path, template)
                paths.setdefault(path, {})[method.lower()] = operation
        return paths, _schemas(served)

    def _named(self, operation: Schema | None, method: str, path: str, template: str = "") -> Schema:
        """With an id that no other operation has, and without a key where none is asked for."""
        words = [word for word in path.replace("{", "").replace("}", "").split("/") if word]
        named = {"operationId": "_".join((method.lower(), *words)), **(operation or {})}
        return {**named, "security": []} if (template or path) in self._access.open else named

    def _written(self, about: str, parts: tuple[Schema, Schema]) -> bytes:
        paths, schemas = parts
        shared = components()
        shared["schemas"] |= schemas
        document: dict[str, Any] = {
            "openapi": OPENAPI,
            "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
            "info": {"title": about or self._title, "version": self._version},
            "paths": paths,
            "components": shared,
        }
        if self._access.secured:
            shared["securitySchemes"] = security_schemes(self._access.header)
            document["security"] = [{name: []} for name in shared["securitySchemes"]]
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _served(contract: Contract, version: str) -> Served:
    stem = f"{contract.name}.{version}"
    return Served(contract, version, (f"{stem}.request", f"{stem}.response"))


def _schemas(served: Served) -> Schema:
    request, answer = served.names
    body = request_schema(served.contract)
    return {
        request: body,
        answer: response_schema(served.contract, served.version),
        f"{request}.generate": generate_schema(served.contract, {"$ref": f"#/components/schemas/{request}"}),
    }
