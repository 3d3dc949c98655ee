"""The gRPC services that the user's apps declare, collected before the server starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from oipserver.apps.app import Handler
from oipserver.apps.arguments import wanted
from oipserver.apps.claims import check_service
from oipserver.apps.life import Apps
from oipserver.apps.loading import AppError


@dataclass(frozen=True, slots=True)
class Services:
    """What the gRPC front serves besides its own.

    Attributes:
        handlers: `grpc.GenericRpcHandler`s.
        reason: why they do not serve now, in words; "" when they do.
    """

    handlers: Sequence[Any]
    reason: Callable[[], str]


class Recorder:
    """Stands in for a `grpc.Server` in generated `add_...Servicer_to_server` functions."""

    def __init__(self) -> None:
        self.handlers: list[Any] = []

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[Any]) -> None:
        """Keep the handlers."""
        self.handlers.extend(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        """Generated code brings the same handlers as generic ones, too."""


def services_of(apps: Apps) -> Services:
    """Call every factory.

    Raises:
        AppError: a factory raises, or brings no handler, or one for a reserved or taken service.
    """
    found: list[Any] = []
    taken: set[str] = set()
    for one in apps.loaded:
        for factory in one.app.services:
            for handler in _built(one.name, factory, apps):
                name = _service_name(handler)
                if name:
                    check_service(one.name, name, taken)
                    taken.add(name)
                found.append(handler)
    return Services(found, lambda: apps.reason)


def _built(app: str, factory: Handler, apps: Apps) -> Sequence[Any]:
    recorder = Recorder()
    offered = {"models": apps.models, "server": recorder}
    try:
        returned = factory(**{name: offered[name] for name in wanted(factory, offered)})
    except Exception as error:
        raise AppError(f"app {app}: gRPC services: {type(error).__name__}: {error}") from error
    if returned is None:
        returned = ()
    handlers = [*recorder.handlers, *(returned if isinstance(returned, list | tuple) else [returned])]
    for handler in handlers:
        if not callable(getattr(handler, "service", None)):
            kind = type(handler).__name__
            raise AppError(f"app {app}: gRPC services: expected grpc.GenericRpcHandler, got a {kind}")
    if not handlers:
        raise AppError(
            f"app {app}: gRPC services: {getattr(factory, '__name__', factory)}() brought no handler"
        )
    return handlers


def _service_name(handler: Any) -> str:
    """The full name of a handler's only service; "" for one that does not tell."""
    tell = getattr(handler, "service_name", None)
    return str(tell()) if callable(tell) else ""
