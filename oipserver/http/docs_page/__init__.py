"""GET /v2/docs: one page that shows what is served and sends examples.  It asks nobody but this server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

FILES: Mapping[str, tuple[str, str]] = {
    "/v2/docs": ("index.html", "text/html"),
    "/v2/docs/page.css": ("page.css", "text/css"),
    "/v2/docs/page.js": ("page.js", "text/javascript"),
}
_HEADERS: Mapping[str, str] = {
    # Nothing inline and nothing from elsewhere; data: is the empty icon.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def page_routes() -> list[Route]:
    """The page and its parts."""
    return [Route(path, _file) for path in FILES]


async def _file(request: Request) -> Response:
    if request.scope.get("raw_path", b"").endswith(b"/"):
        return RedirectResponse("../docs")  # the page's links are relative, for proxies with a prefix
    name, kind = FILES[request.url.path]
    text = await asyncio.to_thread(_read, name)
    return Response(text, headers=dict(_HEADERS), media_type=kind)


@cache
def _read(name: str) -> bytes:
    return (Path(__file__).parent / name).read_bytes()
