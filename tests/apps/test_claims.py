"""Who owns a path: what is refused before anything is served."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from oipserver import App
from oipserver.apps.loading import AppError
from oipserver.apps.paths import Path
from tests.apps.running import AppServer


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    raise NotImplementedError


def handler() -> None:
    raise NotImplementedError


def routed(*routes: str) -> App:
    app = App()
    for route in routes:
        method, path = route.split(" ")
        app.mount(path, asgi) if method == "MOUNT" else app.route(path, [method])(handler)
    return app


@pytest.mark.parametrize(
    ("route", "complaint"),
    [
        ("GET /v2", "app app0.py: route GET /v2: /v2 is reserved, it belongs to the server"),
        ("POST /v2/models/m/infer", "route POST /v2/models/m/infer: /v2 is reserved"),
        ("GET /v2/{x}", "route GET /v2/{x}: /v2 is reserved"),
        ("GET /metrics", "route GET /metrics: /metrics is reserved"),
        ("GET /console/x", "route GET /console/x: /console is reserved"),
        ("GET /", "route GET /: / is reserved"),
        ("MOUNT /v2", "app app0.py: mount /v2: /v2 is reserved"),
        ("MOUNT /metrics/", "mount /metrics: /metrics is reserved"),
    ],
)
def test_reserved_paths_are_refused(route: str, complaint: str) -> None:
    with pytest.raises(AppError, match=re.escape(complaint)):
        AppServer(routed(route))


@pytest.mark.parametrize("path", ["/invocations", "/ping", "/health", "/version"])
def test_scoring_paths_are_reserved_where_a_model_has_them(path: str) -> None:
    app = App()
    app.get(path)(lambda: "mine")
    with pytest.raises(AppError, match=f"route GET {path}: {path} is reserved, it belongs to the server"):
        AppServer(app, scored=True)
    with AppServer(app) as server:
        assert server.ask("GET", path).body == b"mine"


def test_what_no_app_has_is_the_servers() -> None:
    with AppServer(routed("GET /a")) as server:
        assert server.ask("GET", "/ping").fault == (404, "NOT_FOUND", "no model here has a scoring protocol")


@pytest.mark.parametrize(
    ("first", "second", "complaint"),
    [
        ("GET /a", "GET /a", "app app1.py: route GET /a: app app0.py: route GET /a has that path already"),
        ("GET /a", "GET /a/", "has that path already"),
        ("GET /a/{x}", "GET /a/b", "has that path already"),
        ("GET /a/{x:path}", "GET /a/b/c", "has that path already"),
        ("MOUNT /a", "GET /a/b", "app app0.py: mount /a has that path already"),
        ("GET /{x}/b", "MOUNT /a", "has that path already"),
        ("MOUNT /a", "MOUNT /a/b", "has that path already"),
        ("MOUNT /", "MOUNT /", "has that path already"),
        ("GET /a", "POST /a", ""),
        ("GET /a/{x}", "GET /b/{x}", ""),
        ("GET /a/{x}", "GET /a", ""),
        ("MOUNT /a", "GET /ab", ""),
        ("MOUNT /", "GET /a", ""),
        ("GET /v1/v2", "GET /{x}/metrics", ""),
    ],
)
def test_two_apps_with_one_path_are_refused(first: str, second: str, complaint: str) -> None:
    if not complaint:
        AppServer(routed(first), routed(second))
        return
    with pytest.raises(AppError, match=re.escape(complaint)):
        AppServer(routed(first), routed(second))


@pytest.mark.parametrize(
    ("routes", "refused"),
    [
        (["GET /a/{x}", "GET /a/{y}"], True),
        (["MOUNT /a", "MOUNT /a/"], True),
        (["GET /a/{x}", "GET /a/b", "MOUNT /a", "POST /a/{x}"], False),
    ],
)
def test_inside_one_app_the_order_decides(routes: list[str], refused: bool) -> None:
    if refused:
        with pytest.raises(AppError, match="has that path already"):
            AppServer(routed(*routes))
    else:
        AppServer(routed(*routes))


def unknown(bodyy: Any) -> None: ...
def positional(body: Any, /) -> None: ...
def both(body: Any, files: Any) -> None: ...
def wrong_type(n: list[int]) -> None: ...
def defaulted(request: Any, limit: int = 3, *rest: Any, **more: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (unknown, "unknown() takes 'bodyy', expected only n, request, body, files, models"),
        (positional, "positional() takes 'body', expected only"),
        (both, "it takes 'body' and 'files'"),
        (wrong_type, "'n' is annotated list[int]: a parameter of a path is an int, a float or a str"),
        (defaulted, ""),
    ],
)
def test_handlers_take_what_there_is(function: Callable[..., Any], complaint: str) -> None:
    app = App()
    app.post("/a/{n}")(function)
    if not complaint:
        AppServer(app)
        return
    with pytest.raises(AppError, match=re.escape(f"app app0.py: route /a/{{n}}: {complaint}")):
        AppServer(app)


def test_hooks_take_what_there_is() -> None:
    app = App()
    app.on_start(unknown)
    with pytest.raises(AppError, match=r"app app0.py: unknown\(\) takes 'bodyy', expected only models"):
        AppServer(app)


@pytest.mark.parametrize("path", ["", "a", "{x}"])
def test_paths_begin_with_a_slash(path: str) -> None:
    app = App()
    with pytest.raises(ValueError, match="expected a path that begins with '/'"):
        app.get(path)
    with pytest.raises(ValueError, match="expected a path that begins with '/'"):
        app.mount(path, asgi)


def test_declarations_are_checked() -> None:
    app = App()
    with pytest.raises(ValueError, match="parameters are for routes"):
        app.mount("/{x}", asgi)
    with pytest.raises(TypeError, match="expected an ASGI application"):
        app.mount("/x", handler)
    with pytest.raises(ValueError, match="expected a list of methods"):
        app.route("/x", "GET")
    with pytest.raises(TypeError, match="expected a function"):
        app.get("/x")("text")  # type: ignore[type-var]


@pytest.mark.parametrize("path", ["/a{x}", "/{x}/{x}", "/{x:path}/a", "/{1}", "/{}"])
def test_paths_that_mean_nothing_are_refused(path: str) -> None:
    with pytest.raises(AppError, match=r"app app0\.py: path "):
        AppServer(routed(f"GET {path}"))


def test_what_a_path_matches() -> None:
    assert Path("/a/{x}").match("/a/b") == {"x": "b"}
    assert Path("/a/{x}").match("/a/b/c") is None
    assert Path("/a/{x:path}").match("/a/b/c") == {"x": "b/c"}
    assert Path("/a.b").match("/axb") is None
    assert Path("/a/").match("/a") == {}
    assert Path("/{x}").match("/a\nb") == {"x": "a\nb"}
