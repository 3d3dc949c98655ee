"""A plain handler as something that answers requests: what it takes is found out once, at start."""

from __future__ import annotations

import importlib.util
import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request

from oipserver.apps.app import Route
from oipserver.apps.arguments import wanted
from oipserver.apps.caller import Caller
from oipserver.apps.models import Models
from oipserver.apps.paths import Path
from oipserver.apps.threads import HandlerThreads
from oipserver.core.errors import BadRequest, printable
from oipserver.http.custom.body import Inlet, read_bytes, read_form, read_json

OFFERED = ("request", "body", "files", "models")

_INT = re.compile(r"[+-]?[0-9]{1,18}")


class Handler:
    """One user's function.

    Args:
        path: of its route.

    Raises:
        TypeError: it takes something that is not on offer, or a parameter of its path as a type that no
            path holds.
        ImportError: it takes a form, and the library for forms is not installed.
    """

    def __init__(self, route: Route, path: Path) -> None:
        takes = wanted(route.handler, (*path.names, *OFFERED))
        self._function = route.handler
        self._parameters = {
            name: _converter(name, annotation) for name, annotation in takes.items() if name in path.names
        }
        self._injected = [name for name in takes if name not in path.names]
        self._raw = takes.get("body") in (bytes, "bytes")
        self._on_loop = _is_async(route.handler)
        if {"body", "files"} <= set(self._injected):
            raise TypeError("it takes 'body' and 'files': a request has one or the other")
        if "files" in self._injected and importlib.util.find_spec("python_multipart") is None:
            raise ImportError("'files' needs python-multipart: pip install \"oipserver[uploads]\"")

    async def __call__(
        self,
        request: Request,
        inlet: Inlet,
        parameters: Mapping[str, str],
        models: Models,
        threads: HandlerThreads,
        caller: Caller,
    ) -> Any:
        """What the function returns."""
        arguments: dict[str, Any] = {
            name: convert(parameters[name]) for name, convert in self._parameters.items()
        }
        for name in self._injected:
            arguments[name] = await self._inject(name, request, inlet, models)
        if not self._on_loop:
            return await threads.run(lambda: self._function(**arguments), caller)
        try:
            return await self._function(**arguments)
        except (SystemExit, KeyboardInterrupt) as error:  # would end the event loop
            raise RuntimeError(repr(error)) from error

    async def _inject(self, name: str, request: Request, inlet: Inlet, models: Models) -> Any:
        if name == "request":
            return request
        if name == "models":
            return models
        if name == "files":
            return await read_form(request, inlet)
        if self._raw:
            return await read_bytes(request, inlet, inlet.settings.max_body_bytes)
        return await read_json(request, inlet)


def _is_async(function: Callable[..., Any]) -> bool:
    call = getattr(function, "__call__", None)  # noqa: B004  an object may be a handler, too
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _converter(name: str, annotation: object) -> Callable[[str], object]:
    """From a segment of the path to the annotated type, which may stand there as text."""
    kind = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "str")
    if annotation is None or kind == "str":
        return str
    if kind == "int":
        return lambda text: _to_int(name, text)
    if kind == "float":
        return lambda text: _to_float(name, text)
    raise TypeError(f"'{name}' is annotated {kind}: a parameter of a path is an int, a float or a str")


def _to_int(name: str, text: str) -> int:
    if not _INT.fullmatch(text):
        raise BadRequest(f"path parameter '{name}': expected an integer, got '{printable(text)}'")
    return int(text)


def _to_float(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadRequest(f"path parameter '{name}': expected a number, got '{printable(text)}'")
    return number
