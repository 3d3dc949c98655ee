"""What all documents have in common: the error body of every status, headers, the answers without tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from oipserver.http.errors import STATUS
from oipserver.http.openapi.tensors import Schema

JSON = "application/json"
BINARY = "application/octet-stream"
# Of the log alone: no answer has it.
_UNSENT = 499

_HEADERS: Schema = {
    "X-Request-Id": {
        "description": "The caller's, when it is one of [A-Za-z0-9._-]{1,64}; else a new one.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds after which a retry makes sense.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Allow": {"description": "The methods that the path takes.", "schema": {"type": "string"}},
    "WWW-Authenticate": {"description": "How to say who asks.", "schema": {"type": "string"}},
    "Accept-Encoding": {"description": "The content codings that are read.", "schema": {"type": "string"}},
    "Server-Timing": {
        "description": "Where the time went, in milliseconds.",
        "schema": {"type": "string"},
    },
    "Inference-Header-Content-Length": {
        "description": "Bytes of JSON in front of the binary data.",
        "schema": {"type": "integer", "minimum": 0},
    },
}
# Besides X-Request-Id.
_HEADERS_OF = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    415: ("Accept-Encoding",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}

_TENSOR: Schema = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
        "parameters": {"type": "object"},
    },
}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties}


_TEXT: Schema = {"type": "string"}
_YES: Schema = {"const": True}
_SCHEMAS: Schema = {
    "Error": _object(
        error={"type": "string", "minLength": 1}, error_code=_TEXT, message=_TEXT, request_id=_TEXT
    ),
    "Live": _object(live=_YES),
    "Ready": _object(live=_YES, ready=_YES),
    "ModelReady": _object(name=_TEXT, ready=_YES),
    "ServerMetadata": _object(name=_TEXT, version=_TEXT, extensions={"type": "array", "items": _TEXT}),
    "Models": _object(models={"type": "array", "items": _TEXT}),
    "Tensor": _TENSOR,
    "ModelMetadata": _object(
        name=_TEXT,
        versions={"type": "array", "items": _TEXT},
        platform=_TEXT,
        inputs={"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
        outputs={"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
        parameters={"type": "object"},
    ),
}


def components() -> Schema:
    """The parts to which `schema`, `error_responses` and `header` refer."""
    return {
        "schemas": dict(_SCHEMAS),
        "responses": {f"Status{status}": _response(status) for status in _statuses()},
        "headers": _HEADERS,
        "parameters": _PARAMETERS,
    }


def security_schemes(header: str) -> Schema:
    """The two ways to show a key; either will do."""
    return {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": header},
    }


def schema(name: str) -> Schema:
    """A schema of `components`, or one that the document adds to them."""
    return {"$ref": f"#/components/schemas/{name}"}


def header(name: str) -> Schema:
    """A header of `components`."""
    return {"$ref": f"#/components/headers/{name}"}


def parameter(name: str) -> Schema:
    """A parameter of `components`."""
    return {"$ref": f"#/components/parameters/{name}"}


def error_responses(statuses: Iterable[int]) -> Schema:
    """The answers that are errors, as far as the server has errors of these statuses."""
    known = _statuses()
    return {
        str(status): {"$ref": f"#/components/responses/Status{status}"}
        for status in sorted(statuses)
        if status in known
    }


def _statuses() -> list[int]:
    return sorted(set(STATUS.values()) - {_UNSENT})


def _response(status: int) -> Schema:
    codes = [code for code, number in STATUS.items() if number == status]
    body = {"allOf": [schema("Error"), {"properties": {"error_code": {"enum": codes}}}]}
    names = ("X-Request-Id", *_HEADERS_OF.get(status, ()))
    return {
        "description": ", ".join(codes),
        "headers": {name: header(name) for name in names},
        "content": {JSON: {"schema": body}},
    }


def _in_header(name: str, description: str, form: dict[str, Any]) -> Schema:
    return {"name": name, "in": "header", "description": description, "schema": form}


_PARAMETERS: Schema = {
    "X-Request-Id": _in_header(
        "X-Request-Id",
        "A name for this request: in the answer, the log and the trace.",
        {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    ),
    "Idempotency-Key": _in_header(
        "Idempotency-Key",
        "A name for the answer: the same request with it is answered the same, and computed once.",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    ),
    "Inference-Header-Content-Length": _in_header(
        "Inference-Header-Content-Length",
        "With binary tensors: the bytes of JSON in front of them; 0 when the body is one raw tensor.",
        {"type": "integer", "minimum": 0},
    ),
}
