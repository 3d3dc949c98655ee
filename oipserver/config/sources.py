"""Where values come from: flags, environment variables, and one YAML, TOML or JSON file."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oipserver.config.fields import MAX_SHOWN, Given, did_you_mean, flatten, shown
from oipserver.config.schema import MODEL_LEAVES, PREFIX, SERVER_LEAVES, SETTINGS
from oipserver.core.errors import printable

# Templates (KServe's, Helm's) leave this where a value was not given.
NOT_SET = "<no value>"

# What Kubernetes puts into every pod beside a service called "oipserver" (or "oipserver-http").
_SERVICE_LINK = re.compile(
    r".*_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")

_log = logging.getLogger(__name__)


def _yaml(text: str) -> object:
    import yaml  # only a start with such a file pays for it

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _toml(text: str) -> object:
    import tomllib  # as above

    return tomllib.loads(text)


PARSERS: dict[str, Callable[[str], object]] = {
    ".yaml": _yaml,
    ".yml": _yaml,
    ".toml": _toml,
    ".json": json.loads,
}


@dataclass(frozen=True, slots=True)
class Draft:
    """A model before it is checked: its fields by path, and what a complaint calls a missing one."""

    given: Mapping[str, Given]
    places: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class File:
    """What a configuration file gives; `server` is by path."""

    server: dict[str, Given] = field(default_factory=dict)
    models: list[Draft] = field(default_factory=list)


def from_flags(flags: Mapping[str, str], problems: list[str]) -> dict[str, Given]:
    """The flags that are set, by name of `SETTINGS`."""
    problems.extend(
        f"{name}: unknown flag{did_you_mean(name, SETTINGS)}" for name in flags if name not in SETTINGS
    )
    return {
        name: Given(flags[name], one.flag, text=True)
        for name, one in SETTINGS.items()
        if flags.get(name, NOT_SET) != NOT_SET
    }


def from_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    """The variables that are set, by name of `SETTINGS`; an unknown one is only warned of, never an error."""
    known = {one.env: name for name, one in SETTINGS.items()}
    given = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or is_service_link(variable, value):
            continue
        if variable not in known:
            _log.warning("%s is not a known variable%s", variable, did_you_mean(variable, known))
        elif value not in ("", NOT_SET):
            given[known[variable]] = Given(value, variable, text=True)
    return given


def is_service_link(variable: str, value: str) -> bool:
    """Whether Kubernetes put it there, and not the user.

    A service "oipserver-http" even makes an OIPSERVER_HTTP_PORT; its value is a URL, never a port.
    """
    is_url = variable.endswith("_PORT") and _SERVICE_URL.match(value)
    return bool(is_url or _SERVICE_LINK.fullmatch(variable))


def read_file(given: Given | None, problems: list[str]) -> File:
    """What the configuration file gives; empty when there is none, or when it cannot be read."""
    if given is None:
        return File()
    path = Path(str(given.value))
    place = printable(str(path), MAX_SHOWN)
    try:
        table = _parse(path)
    except OSError as error:
        problems.append(f"{given.source}: cannot read {shown(str(path))}: {error.strerror}")
        return File()
    except (ValueError, RecursionError) as error:
        problems.append(f"{given.source}: {shown(str(path))}: {' '.join(str(error).split())}")
        return File()
    models = table.pop("models", None) or []
    if not isinstance(models, list):
        problems.append(f"{place}: models: expected a list of models, got {shown(models)}")
        models = []
    base = path.absolute().parent
    server = flatten(table, SERVER_LEAVES, f"{place}: ", base, problems)
    drafts = [_draft(model, f"{place}: models[{at}]", base, problems) for at, model in enumerate(models)]
    return File(server, [draft for draft in drafts if draft])


def _parse(path: Path) -> dict[Any, Any]:
    """The file as a mapping; raises OSError or ValueError."""
    text = path.read_bytes().decode("utf-8")
    if path.suffix not in PARSERS:
        raise ValueError(f"expected a name that ends in {', '.join(PARSERS)}")
    table = PARSERS[path.suffix](text)
    if not isinstance(table, dict | None):
        raise ValueError(f"expected a table of settings, got {shown(table)}")
    return table or {}


def _draft(model: object, place: str, base: Path, problems: list[str]) -> Draft | None:
    if not isinstance(model, Mapping):
        problems.append(f"{place}: expected a table that describes a model, got {shown(model)}")
        return None
    given = flatten(model, MODEL_LEAVES, f"{place}.", base, problems)
    return Draft(given, {path: f"{place}.{path}" for path in MODEL_LEAVES})
