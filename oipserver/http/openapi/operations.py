"""What each route does, in OpenAPI's words, by method and path template.

A route that stands here is described where the application has it; a route of the application that does not
stand here is in no document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from oipserver.core.contract import Contract
from oipserver.http.openapi.bodies import example_request
from oipserver.http.openapi.shared import BINARY, JSON, error_responses, header, parameter, schema
from oipserver.http.openapi.tensors import Schema

EVENTS = "text/event-stream"
TEXT = "text/plain"

# What the transport and the router may answer to anything.
_ANYWHERE = frozenset((400, 404, 408, 413, 414, 431, 500, 503))
_ACCESS = frozenset((401, 403, 429))
_INFERENCE = frozenset((409, 415, 422, 429, 504))
# Versions of the protocol's own example have such names, too.
_SEGMENT: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"}


@dataclass(frozen=True, slots=True)
class Served:
    """One loaded version.

    Attributes:
        names: of its request's and its answer's schema among the document's components.
    """

    contract: Contract
    version: str
    names: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask.

    Attributes:
        header: the header that may carry a key besides Authorization; "" where nobody needs a key.
        open: path templates that nobody needs a key for all the same.
    """

    header: str = ""
    open: frozenset[str] = frozenset()

    @property
    def secured(self) -> bool:
        """Whether callers need a key."""
        return self.header != ""

    def errors(self, more: Iterable[int] = ()) -> Schema:
        """The error answers of a route that has `more` than any route."""
        return error_responses(_ANYWHERE.union(more, _ACCESS if self.secured else ()))


OfServer: TypeAlias = Callable[[Access], Schema]
OfModel: TypeAlias = Callable[[Served, Access], Schema | None]


def _operation(summary: str, responses: Schema, tag: str = "server", **more: Any) -> Schema:
    common = more.pop("parameters", [])
    return {
        "summary": summary,
        "tags": [tag],
        "parameters": [parameter("X-Request-Id"), *common],
        **more,
        "responses": responses,
    }


def _ok(description: str, content: Schema | None = None, headers: Iterable[str] = ()) -> Schema:
    answer: Schema = {
        "description": description,
        "headers": {name: header(name) for name in ("X-Request-Id", *headers)},
    }
    return {"200": {**answer, "content": content} if content else answer}


def _json(name: str) -> Schema:
    return {JSON: {"schema": schema(name)}}


# --- the server --------------------------------------------------------------------------------------------


def _told(summary: str, content: Schema, description: str = "") -> OfServer:
    def build(access: Access) -> Schema:
        return _operation(summary, {**_ok(description or summary, content), **access.errors()})

    return build


def _pong(summary: str) -> OfServer:
    return _told(summary, {JSON: {}}, "The model serves.")


def _asked(
    tag: str, summary: str, body: Schema | None, answer: Schema | None, named: str = "", method: str = "POST"
) -> OfServer:
    def build(access: Access) -> Schema:
        more: Schema = {} if body is None else {"requestBody": {"content": {JSON: {"schema": body}}}}
        if named:
            segment = {"name": named, "in": "path", "required": True, "schema": _SEGMENT}
            more["parameters"] = [segment]
        ok = _ok(summary, None if answer is None else {JSON: {"schema": answer}})
        changing = (409, 415, 429) if method == "POST" else ()
        return _operation(summary, {**ok, **access.errors(changing)}, tag, **more)

    return build


_STATISTICS: Schema = {
    "type": "object",
    "required": ["model_stats"],
    "properties": {
        "model_stats": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "inference_count", "execution_count"],
                "properties": {
                    "name": {"type": "string"},
                    "version": {"type": "string"},
                    "last_inference": {"type": "integer", "minimum": 0},
                    "inference_count": {"type": "integer", "minimum": 0},
                    "execution_count": {"type": "integer", "minimum": 0},
                    "inference_stats": {"type": "object"},
                    "batch_stats": {"type": "array", "items": {"type": "object"}},
                },
            },
        }
    },
}
_INDEX: Schema = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "state"],
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "state": {"enum": ["UNKNOWN", "READY", "UNAVAILABLE", "LOADING", "UNLOADING"]},
            "reason": {"type": "string"},
        },
    },
}
_TEXTS: Schema = {"type": "array", "items": {"type": "string"}}
_APPS: Schema = {
    "type": "object",
    "required": ["apps"],
    "properties": {
        "apps": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "ready", "routes", "mounts"],
                "properties": {
                    "name": {"type": "string"},
                    "ready": {"type": "boolean"},
                    "reason": {"type": "string"},
                    "routes": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["path", "methods", "summary"],
                            "properties": {
                                "path": {"type": "string"},
                                "methods": _TEXTS,
                                "summary": {"type": "string"},
                            },
                        },
                    },
                    "mounts": _TEXTS,
                },
            },
        }
    },
}
_DOCUMENT: Schema = {JSON: {"schema": {"type": "object", "required": ["openapi", "info", "paths"]}}}

OF_SERVER: Mapping[tuple[str, str], OfServer] = {
    ("GET", "/v2"): _told("Name, version and extensions of the server", _json("ServerMetadata")),
    ("GET", "/v2/health/live"): _told("Whether the process answers", _json("Live")),
    ("GET", "/v2/health/ready"): _told("Whether every configured model serves", _json("Ready")),
    ("GET", "/v2/models"): _told("The names of the models", _json("Models")),
    ("GET", "/v2/apps"): _told("The routes of the user's own apps", {JSON: {"schema": _APPS}}),
    ("GET", "/v2/models/stats"): _told("Statistics of all models", {JSON: {"schema": _STATISTICS}}),
    ("GET", "/v2/openapi.json"): _told("This document", _DOCUMENT),
    ("GET", "/openapi.json"): _told("This document, where other tools look for it", _DOCUMENT),
    ("GET", "/metrics"): _told("Metrics in Prometheus' format", {TEXT: {"schema": {"type": "string"}}}),
    ("POST", "/v2/repository/index"): _asked(
        "repository",
        "The state of every configured model",
        {"type": "object", "properties": {"ready": {"type": "boolean"}}},
        _INDEX,
    ),
    ("POST", "/v2/repository/models/{model}/load"): _asked(
        "repository",
        "Load a configured model, again if it serves; with --model-control explicit",
        {"type": "object"},
        None,
        "model",
    ),
    ("POST", "/v2/repository/models/{model}/unload"): _asked(
        "repository", "Unload a model; with --model-control explicit", {"type": "object"}, None, "model"
    ),
}
_REGIONS: Schema = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "key", "offset", "byte_size"],
        "properties": {
            "name": {"type": "string"},
            "key": {"type": "string"},
            "offset": {"type": "integer", "minimum": 0},
            "byte_size": {"type": "integer", "minimum": 0},
        },
    },
}
_NEW_REGION: Schema = {
    "type": "object",
    "required": ["key", "byte_size"],
    "properties": {
        "key": {"type": "string", "pattern": "^/[^/]+$"},
        "offset": {"type": "integer", "minimum": 0},
        "byte_size": {"type": "integer", "minimum": 1},
    },
}
_MEMORY, _A_REGION = "/v2/systemsharedmemory", "/v2/systemsharedmemory/region/{region}"
# Where the extension is on.
OF_SHARED_MEMORY: Mapping[tuple[str, str], OfServer] = {
    ("GET", f"{_MEMORY}/status"): _asked("memory", "Every region", None, _REGIONS, method="GET"),
    ("GET", f"{_A_REGION}/status"): _asked("memory", "One region", None, _REGIONS, "region", "GET"),
    ("POST", f"{_A_REGION}/register"): _asked("memory", "Register a region", _NEW_REGION, None, "region"),
    ("POST", f"{_MEMORY}/unregister"): _asked("memory", "Forget every region", None, None),
    ("POST", f"{_A_REGION}/unregister"): _asked("memory", "Forget a region", None, None, "region"),
}
# Of the one model that has scoring paths without a name.
OF_SCORING: Mapping[tuple[str, str], OfServer] = {
    ("GET", "/ping"): _pong("Whether the scored model serves"),
    ("GET", "/health"): _pong("Whether the scored model serves; as /ping"),
    ("GET", "/version"): _told("Version of the library whose scoring protocol it is", {JSON: {}}),
}


# --- a model -----------------------------------------------------------------------------------------------


def _read(summary: str, content: Schema) -> OfModel:
    def build(served: Served, access: Access) -> Schema:
        return _operation(summary, {**_ok(summary, content), **access.errors()}, served.contract.name)

    return build


def _infer(served: Served, access: Access) -> Schema:
    request, answer = served.names
    body: Schema = {
        "required": True,
        "content": {
            JSON: _with_example(schema(request), served.contract),
            BINARY: {
                "schema": {
                    "description": "JSON with binary_data_size in the tensors' parameters, "
                    "then the tensors, in the order of the inputs."
                }
            },
        },
    }
    content = {JSON: {"schema": schema(answer)}, BINARY: {}}
    ok = _ok("The outputs", content, ("Inference-Header-Content-Length", "Server-Timing"))
    return _operation(
        f"Infer with {served.contract.name}",
        {**ok, **access.errors(_INFERENCE)},
        served.contract.name,
        description="The body may be compressed: Content-Encoding gzip, deflate or zstd.",
        parameters=[parameter("Idempotency-Key"), parameter("Inference-Header-Content-Length")],
        requestBody=body,
    )


def _generate(summary: str, streamed: bool) -> OfModel:
    def build(served: Served, access: Access) -> Schema:
        form = schema(f"{served.names[0]}.generate")
        body = {
            "required": True,
            "content": {JSON: _with_example(form, served.contract, streamed)},
        }
        content: Schema = {EVENTS: {}} if streamed else {JSON: {"schema": {"type": "object"}}}
        return _operation(
            summary,
            {**_ok("Server-Sent Events" if streamed else "The answer", content), **access.errors(_INFERENCE)},
            served.contract.name,
            requestBody=body,
        )

    return build


def _score(served: Served, access: Access) -> Schema | None:
    scoring = served.contract.model.scoring
    if scoring is None:
        return None
    return _operation(
        f"Score with {served.contract.name}",
        {**_ok("The predictions", {JSON: {"schema": {"type": "object"}}}), **access.errors(_INFERENCE)},
        served.contract.name,
        requestBody={"required": True, "content": {kind: {} for kind in scoring.media_types}},
    )


def _with_example(body: Schema, contract: Contract, streamed: bool = False) -> Schema:
    # Of a model that streams nobody knows how many answers it gives: only a stream takes any number.
    example = example_request(contract) if streamed or not contract.model.decoupled else None
    return {"schema": body} if example is None else {"schema": body, "example": example}


# By what follows /v2/models/{model}, with or without /versions/{version}.
OF_MODEL: Mapping[tuple[str, str], OfModel] = {
    ("GET", ""): _read("The model's tensors", _json("ModelMetadata")),
    ("GET", "/ready"): _read("Whether the model serves", _json("ModelReady")),
    ("POST", "/infer"): _infer,
    ("POST", "/generate"): _generate("One answer from all that the model generates", streamed=False),
    ("POST", "/generate_stream"): _generate("Answers one by one, as they come", streamed=True),
    ("POST", "/infer_stream"): _generate("As generate_stream", streamed=True),
    ("POST", "/invocations"): _score,
    ("GET", "/stats"): _read("Statistics of the model", {JSON: {"schema": _STATISTICS}}),
    ("GET", "/config"): _read("The model's configuration", {JSON: {"schema": {"type": "object"}}}),
    ("GET", "/openapi.json"): _read("The OpenAPI document of this model alone", _DOCUMENT),
}
SCORE: OfModel = _score
