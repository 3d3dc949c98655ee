"""What a user's file declares: handlers, mounted ASGI applications, gRPC services, and what starts and stops.

Nothing is served or looked up here, so a file that declares an App needs no web library.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

Handler: TypeAlias = Callable[..., Any]
Hook: TypeAlias = Callable[..., Any]
HandlerT = TypeVar("HandlerT", bound=Handler)


class Decorator(Protocol):
    """Declares a handler, and gives it back as it is."""

    def __call__(self, handler: HandlerT, /) -> HandlerT: ...


@dataclass(frozen=True, slots=True)
class Route:
    """A plain handler at a path; `methods` are upper case."""

    path: str
    methods: tuple[str, ...]
    handler: Handler


@dataclass(frozen=True, slots=True)
class Mount:
    """An ASGI application for every path from `path` down; "" is every path that nobody else has."""

    path: str
    asgi: Handler


class App:
    """Handlers, ASGI applications and gRPC services beside the v2 API.

        app = App()

        @app.post("/v1/predict")
        async def predict(body, models):
            answer = await models.infer("iris", {"input-0": body["rows"]})
            return {"labels": answer["predict"]}

    A handler names what it wants: `request` (Starlette's), `body` (parsed JSON; raw bytes where it is
    annotated so), `files` (a multipart form), `models` (`oipserver.Models`), and the parameters of its path.
    It returns a dict or list (JSON), a str (text), bytes, a Starlette response, None (204), or a status and
    one of these.  A plain `def` runs on a thread, an `async def` on the event loop.
    """

    def __init__(self) -> None:
        self.routes: list[Route] = []
        self.mounts: list[Mount] = []
        self.services: list[Handler] = []
        self.start_hooks: list[Hook] = []
        self.stop_hooks: list[Hook] = []

    def get(self, path: str) -> Decorator:
        """Answer GET and HEAD at `path`, e.g. "/items/{id}"."""
        return self.route(path, ("GET",))

    def post(self, path: str) -> Decorator:
        """Answer POST at `path`."""
        return self.route(path, ("POST",))

    def put(self, path: str) -> Decorator:
        """Answer PUT at `path`."""
        return self.route(path, ("PUT",))

    def patch(self, path: str) -> Decorator:
        """Answer PATCH at `path`."""
        return self.route(path, ("PATCH",))

    def delete(self, path: str) -> Decorator:
        """Answer DELETE at `path`."""
        return self.route(path, ("DELETE",))

    def route(self, path: str, methods: Sequence[str]) -> Decorator:
        """Answer several methods at `path`; `{name}` is one segment of it, `{name:path}` the whole rest.

        Raises:
            TypeError: the handler is not a function.
            ValueError: the path does not begin with "/", or no method is named.
        """
        if isinstance(methods, str) or not methods:
            raise ValueError(f"route '{path}': expected a list of methods, got {methods!r}")
        _check_path(path)
        verbs = tuple(method.upper() for method in methods)

        def declare(handler: HandlerT, /) -> HandlerT:
            if not callable(handler):
                raise TypeError(f"route '{path}': expected a function, got {handler!r}")
            self.routes.append(Route(path, verbs, handler))
            return handler

        return declare

    def mount(self, path: str, asgi: Handler) -> None:
        """Give every path from `path` down to an ASGI application (Starlette, FastAPI, ...).

        Its lifespan is run, and it finds the models as `scope["state"]["models"]`.

        Args:
            path: e.g. "/api"; "/" gives it every path that nothing else has.

        Raises:
            TypeError: it is not an ASGI application.
            ValueError: the path does not begin with "/", or has parameters.
        """
        _check_path(path)
        if "{" in path:
            raise ValueError(f"mount '{path}': parameters are for routes")
        if not is_asgi(asgi):
            raise TypeError(f"mount '{path}': expected an ASGI application, got {asgi!r}")
        self.mounts.append(Mount(path.rstrip("/"), asgi))

    def grpc(self, factory: HandlerT) -> HandlerT:
        """Serve gRPC services; `factory` is called once, before the server starts.

            @app.grpc
            def services(models, server):
                add_ToxicityServicer_to_server(Toxicity(models), server)

        Args:
            factory: names `models`, `server` or both.  It adds to `server` as generated code does, or
                returns a `grpc.GenericRpcHandler` or several.
        """
        self.services.append(factory)
        return factory

    def on_start(self, hook: HandlerT) -> HandlerT:
        """Call `hook` (it may name `models`) when the models are loaded, before the server is ready."""
        self.start_hooks.append(hook)
        return hook

    def on_stop(self, hook: HandlerT) -> HandlerT:
        """Call `hook` when the last request is answered; the last declared comes first."""
        self.stop_hooks.append(hook)
        return hook


def is_asgi(value: object) -> bool:
    """Whether a value can be called with scope, receive and send."""
    if not callable(value) or inspect.isclass(value):
        return False
    try:
        inspect.signature(value).bind({}, None, None)
    except (TypeError, ValueError):
        return False
    return True


def _check_path(path: str) -> None:
    if not isinstance(path, str) or not path.startswith("/"):
        raise ValueError(f"expected a path that begins with '/', got {path!r}")
