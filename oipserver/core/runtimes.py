"""Finds what is plugged in from outside: runtimes, and the demo that one of them may bring.

A runtime is a class registered by its distribution in the entry-point group `oipserver.runtimes`:

    [project.entry-points."oipserver.runtimes"]
    sklearn = "oipserver_sklearn:SklearnRuntime"

Nothing is imported before it is asked for by name.  Heavy libraries belong into an extra named after
the runtime: when one is missing, that extra is the cure that is named.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import (
    Distribution,
    EntryPoint,
    EntryPoints,
    PackageNotFoundError,
    distribution,
    entry_points,
)
from pathlib import Path
from typing import cast

from oipserver.core.errors import printable
from oipserver.core.model import Model, Runtime
from oipserver.core.model_config import ModelConfig

RUNTIMES = "oipserver.runtimes"
DEMOS = "oipserver.demos"

_PACKAGE_NAME = re.compile(r"[A-Za-z0-9._-]+")


class RuntimeUnavailable(ValueError):
    """A runtime cannot be used; the text is one sentence that says why and what to do."""


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """One registered runtime.

    Attributes:
        target: the class, as "module:Class".
        package: the distribution that registers it.
        version: of that distribution.
        missing: what it needs and is not installed.
        install: the command that installs the missing; "" when nothing is.
    """

    name: str
    target: str
    package: str
    version: str
    missing: tuple[str, ...]
    install: str


def names() -> tuple[str, ...]:
    """The names of the registered runtimes, sorted; RuntimeUnavailable when two share one."""
    return tuple(_registered(RUNTIMES))


def installed() -> list[RuntimeInfo]:
    """Every registered runtime by name, told from the package metadata alone: nothing is imported.

    Raises:
        RuntimeUnavailable: when two distributions register one name.
    """
    return [_info(entry) for entry in _registered(RUNTIMES).values()]


def get_runtime(name: str) -> Runtime:
    """A new instance of the runtime registered as `name`; imports its module.

    Raises:
        RuntimeUnavailable: unknown name, a name registered twice, a library not installed, a module that
            cannot be imported, or a class that is no runtime.
    """
    entry = _find(RUNTIMES, "runtime", name)
    with _explained("runtime", entry):
        runtime = entry.load()()
    if not callable(getattr(runtime, "load", None)):
        raise RuntimeUnavailable(f"{_origin(entry)} is not a runtime: it has no method 'load'")
    return cast(Runtime, runtime)


def wrap(model: object, config: ModelConfig) -> Model:
    """An object that is in memory as a Model, by the first runtime that recognises it.

    Raises:
        RuntimeUnavailable: none does, and one of them cannot be asked.
        TypeError: no installed runtime recognises it.
    """
    unusable: RuntimeUnavailable | None = None
    for name in names():
        try:
            wrapped = get_runtime(name).wrap(model, config)
        except RuntimeUnavailable as error:
            unusable = unusable or error
        else:
            if wrapped is not None:
                return wrapped
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    raise unusable or TypeError(f"no installed runtime serves a {kind}")


def get_demo(name: str) -> Callable[[Path], ModelConfig]:
    """The function that writes the demo model called `name` into a directory and says how to serve it.

    Raises:
        RuntimeUnavailable: as `get_runtime`.
    """
    entry = _find(DEMOS, "demo", name)
    with _explained("demo", entry):
        return cast(Callable[[Path], ModelConfig], entry.load())


def _registered(group: str) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in sorted(_scanned(group, _places()), key=lambda entry: entry.name):
        first = found.setdefault(entry.name, entry)
        if first is not entry:
            raise RuntimeUnavailable(
                f"'{entry.name}' is registered twice in {group}: by {_origin(first)} and by {_origin(entry)};"
                " uninstall one of them"
            )
    return found


@lru_cache
def _scanned(group: str, _: object) -> EntryPoints:
    """What is registered; one file of every installed distribution is read."""
    return entry_points(group=group)


def _places() -> tuple[tuple[str, int], ...]:
    """Where distributions are, and when one was last installed or removed there."""
    folders = [folder or "." for folder in sys.path]
    return tuple((folder, os.stat(folder).st_mtime_ns) for folder in folders if os.path.exists(folder))


def _find(group: str, kind: str, name: str) -> EntryPoint:
    entries = _registered(group)
    if name in entries:
        return entries[name]
    close = get_close_matches(name, entries, n=1)
    raise RuntimeUnavailable(
        f"{kind} '{printable(name)}' is not installed; installed: {', '.join(entries) or 'none'}"
        + (f"; did you mean '{close[0]}'?" if close else "")
    )


@contextmanager
def _explained(kind: str, entry: EntryPoint) -> Iterator[None]:
    """Whatever fails in a plug-in's own code is told in one sentence, with the cure where it is known."""
    try:
        yield
    except Exception as error:
        info = _info(entry)
        if isinstance(error, ImportError) and info.missing:
            needs = ", ".join(info.missing)
            raise RuntimeUnavailable(f"{kind} '{entry.name}' needs {needs}: {info.install}") from error
        raise RuntimeUnavailable(
            f"{kind} '{entry.name}' cannot be imported from {_origin(entry)}: {type(error).__name__}: {error}"
        ) from error


def _package(entry: EntryPoint) -> Distribution:
    return cast(Distribution, entry.dist)  # None only for an entry point that was made by hand


def _origin(entry: EntryPoint) -> str:
    return f"{_package(entry).name} ({entry.value})"


def _info(entry: EntryPoint) -> RuntimeInfo:
    package = _package(entry)
    missing = tuple(name for name in _extra(package, entry.name) if not _is_installed(name))
    install = f'pip install "{package.name}[{entry.name}]"' if missing else ""
    return RuntimeInfo(entry.name, entry.value, package.name, package.version, missing, install)


def _extra(package: Distribution, extra: str) -> list[str]:
    """The names of the packages that `package[extra]` asks for ("scikit-learn>=1.6; extra == 'sklearn'")."""
    marker = re.compile(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""")
    names = []
    for requirement in package.requires or []:
        what, _, condition = requirement.partition(";")
        name = _PACKAGE_NAME.match(what)
        if name and marker.search(condition):
            names.append(name[0])
    return names


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True
