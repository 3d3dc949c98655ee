"""From `file.py[:name]` or `module[:name]` to the app that it exports."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from oipserver.apps.app import App, is_asgi
from oipserver.core.user_code import CodeUri, UserCode, import_code

logger = logging.getLogger("oipserver.apps")

USUAL_NAME = "app"


class AppError(Exception):
    """A user's app cannot be served; the text is one line that names the file."""


@dataclass(frozen=True, slots=True)
class LoadedApp:
    """An app, and what a complaint calls it: its file or its module."""

    name: str
    app: App


def load_apps(uris: Iterable[str]) -> list[LoadedApp]:
    """What each URI exports; a file that several of them name is run once.

    Raises:
        AppError: it is not there, it raises, or it exports no app.
    """
    imported: dict[str, UserCode] = {}
    loaded = []
    for uri in uris:
        parts = _parse(uri)
        where = parts.location or parts.module
        if where not in imported:
            imported[where] = _import(where if parts.location else f"{where}:{parts.name}", where)
        loaded.append(LoadedApp(imported[where].place, _exported(imported[where], parts.name)))
    return loaded


def _parse(uri: str) -> CodeUri:
    """A module may be named alone, too: it exports `app` then."""
    parts = CodeUri.parse(uri)
    bare = parts.location and not parts.location.endswith(".py") and "/" not in parts.location
    return CodeUri.parse(f"{uri}:{USUAL_NAME}") if bare else parts


def _import(uri: str, where: str) -> UserCode:
    try:
        return import_code(uri, Path.cwd())
    except SystemExit as error:
        raise AppError(f"app {where}: it ends the process when it is imported") from error
    except Exception as error:
        logger.debug("traceback of %s", where, exc_info=error)
        raise AppError(f"app {where}: {error}") from error


def _exported(code: UserCode, name: str) -> App:
    if name or hasattr(code.module, USUAL_NAME):
        try:
            return _as_app(code.get(name or USUAL_NAME), code.place, name or USUAL_NAME)
        except ValueError as error:
            raise AppError(f"app {code.place}: {error}") from None
    found = [value for value in vars(code.module).values() if isinstance(value, App)]
    if len(found) == 1:
        return found[0]
    many = "several Apps" if found else f"neither '{USUAL_NAME}' nor an oipserver.App"
    raise AppError(f"app {code.place}: it exports {many}; say which, as in {code.place}:name")


def _as_app(value: object, place: str, name: str) -> App:
    """An App as it is; an ASGI application as one that has every path that nobody else has."""
    if isinstance(value, App):
        return value
    if not callable(value) or not is_asgi(value):
        kind = type(value).__name__
        raise AppError(f"app {place}: '{name}' is a {kind}, expected an oipserver.App or an ASGI application")
    app = App()
    app.mount("/", value)
    return app
