"""GET /console/: the console, built files that ask nobody but this server; "/" leads a browser there.

Nothing is read before somebody asks for it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from functools import cache
from mimetypes import guess_type
from pathlib import Path
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match, Route
from starlette.types import Scope

from oipserver.http.compression import compress, negotiate

STATIC = Path(__file__).parents[1] / "console" / "static"
_INDEX = "index.html"

_HEADERS: Mapping[str, str] = {
    # What a model answers as HTML is shown in a sandboxed frame, which has this policy as well.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; font-src 'self'; frame-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "vary": "accept-encoding",
}
_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"


_LEVEL = 9  # once in the life of a process


class File(NamedTuple):
    """One built file, and its tag: a weak one, for it may be sent in several codings."""

    kind: str
    tag: str
    content: bytes


class BrowserRoute(Route):
    """A route that is there for browsers alone: for what asks for HTML."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """For everything else there is nothing here, so no 405 either."""
        match, child = super().matches(scope)
        return (match, child) if match is Match.FULL and _is_browser(scope) else (Match.NONE, {})


def console_routes() -> list[Route]:
    """The console, and the way to it."""
    return [
        BrowserRoute("/", _to_console),
        Route("/console", _page),
        Route("/console/{file:path}", _file),
    ]


async def _to_console(request: Request) -> Response:
    return RedirectResponse("console/", headers={"vary": "accept"})  # relative, for proxies with a prefix


async def _page(request: Request) -> Response:
    # The page's links are relative, too.
    if not request.scope.get("raw_path", b"/").endswith(b"/"):
        return RedirectResponse("console/")
    return await _answer(request, _INDEX)


async def _file(request: Request) -> Response:
    return await _answer(request, request.path_params["file"])


async def _answer(request: Request, name: str) -> Response:
    encoding = negotiate(request.headers.get("accept-encoding", ""))
    file = await asyncio.to_thread(_file_of, name, encoding)
    if file is None:
        raise HTTPException(404)
    headers = {**_HEADERS, "etag": file.tag, "cache-control": _FOR_EVER if _is_hashed(name) else _ASK_AGAIN}
    if file.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if encoding is not None:
        headers["content-encoding"] = encoding
    return Response(file.content, headers=headers, media_type=file.kind)


def _file_of(name: str, encoding: str | None) -> File | None:
    return _files(encoding).get(name)


@cache
def _files(encoding: str | None) -> Mapping[str, File]:
    """By path below the console: all that there is, so that no other file can be asked for."""
    paths = (path for path in STATIC.rglob("*") if path.is_file())
    return {path.relative_to(STATIC).as_posix(): _read(path, encoding) for path in paths}


def _read(path: Path, encoding: str | None) -> File:
    plain = path.read_bytes()
    return File(
        guess_type(path.name)[0] or "application/octet-stream",
        f'W/"{hashlib.sha256(plain).hexdigest()[:16]}"',
        plain if encoding is None else compress(plain, encoding, _LEVEL),
    )


def _is_hashed(name: str) -> bool:
    """Whether the build named it after what it holds."""
    return name.startswith("assets/")


def _is_browser(scope: Scope) -> bool:
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])
