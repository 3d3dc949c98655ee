"""MLServer's repositories: `settings.json`, each `model-settings.json` and `MLSERVER_*`, read as our own.

As there, the environment fills in what a file leaves out, a model is called after its folder, and its path
starts at its file.  What has no meaning here is told once and does no harm.
"""

from __future__ import annotations

import glob
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from oipserver.config import uris
from oipserver.config.fields import MAX_SHOWN, Given, shown
from oipserver.config.mlserver_names import (
    MODEL_NAMES,
    PARAMETER_NAMES,
    ROOTS,
    RUNTIMES,
    SERVER_NAMES,
    SUPPORTED,
    UNUSED_BY_MODEL,
    UNUSED_BY_SERVER,
    WELL_KNOWN,
)
from oipserver.config.schema import MODEL_LEAVES
from oipserver.config.sources import NOT_SET, Draft, File, is_service_link
from oipserver.core.errors import printable

SERVER_FILE = "settings.json"
MODEL_FILE = "model-settings.json"
PREFIX = "MLSERVER_"

_log = logging.getLogger(__name__)


@dataclass
class _Reading:
    """One reading of a repository, and what it found on the way.

    Attributes:
        unused: the settings without effect, with the reason.
        unknown: the settings that nobody knows, with their source.
    """

    problems: list[str]
    unused: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def json_file(self, path: Path) -> dict[str, object] | None:
        """The object in a file, without what is null; complains of anything else, which is None."""
        try:
            document = json.loads(path.read_bytes())
            if not isinstance(document, dict):
                raise ValueError(f"expected an object, got {shown(document)}")
        except OSError as error:
            self.problems.append(f"cannot read {shown(str(path))}: {error.strerror}")
        except (ValueError, RecursionError) as error:
            self.problems.append(f"{_place(path)}: {' '.join(str(error).split())}")
        else:
            return {key: value for key, value in document.items() if value is not None}
        return None

    def pass_over(self, names: Mapping[str, str], unused: Mapping[str, str]) -> None:
        """Remember the names that are not used; `names` has the source of each."""
        for name, source in names.items():
            if name in unused:
                self.unused[name] = unused[name]
            else:
                self.unknown.append(source)

    def tell(self) -> None:
        """One line for each kind, however many files there are."""
        if self.unused:
            listed = ", ".join(f"{name} ({why})" if why else name for name, why in self.unused.items())
            _log.warning("without effect here, of MLServer's settings: %s", listed)
        if self.unknown:
            _log.warning("not among MLServer's settings, and ignored: %s", ", ".join(self.unknown))


def read_repository(root: Given | None, environ: Mapping[str, str], alone: bool, problems: list[str]) -> File:
    """The server's values and the models of a repository.

    Args:
        root: the repository; without one, MLSERVER_MODELS_DIR or MLSERVER_MODEL_REPOSITORY_ROOT.
        alone: no model is given elsewhere, so that one has to be here: in the repository, or described by
            MLSERVER_MODEL_IMPLEMENTATION and its like.
    """
    variables = _variables(environ)
    if root is None:
        root = next((variables[name] for name in ROOTS if name in variables), None)
    reading = _Reading(problems)
    server, model = _from_variables(variables, reading)
    folder = _folder(root, problems) if root else None
    if folder is not None:
        server |= _from_server_file(folder / SERVER_FILE, reading)
    drafts = list(_drafts(folder, model, reading)) if folder is not None else []
    if not drafts and alone:
        if "implementation" in model:
            drafts = [_draft(model, folder, None, reading)]
        elif root and folder is not None:
            problems.append(f"{root.source}: no {MODEL_FILE} in {shown(str(folder))} or below")
    reading.tell()
    return File(dict(_translated(server)), drafts)


def _folder(root: Given, problems: list[str]) -> Path | None:
    folder = Path(os.path.abspath(root.base / str(root.value)))
    if not folder.is_dir():
        problems.append(f"{root.source}: expected a directory that exists, got {shown(str(folder))}")
        return None
    return folder


# ------------------------------------------------------------------------------------------- the environment


def _variables(environ: Mapping[str, str]) -> dict[str, Given]:
    """The variables that are set, by name in small letters: MLServer does not tell letters apart."""
    return {
        variable[len(PREFIX) :].lower(): Given(value, variable, text=True)
        for variable, value in environ.items()
        if variable.upper().startswith(PREFIX)
        and value not in ("", NOT_SET)
        and not is_service_link(variable.upper(), value)
    }


def _from_variables(
    variables: Mapping[str, Given], reading: _Reading
) -> tuple[dict[str, Given], dict[str, Given]]:
    """The server's settings and those of a model, each by MLServer's name."""
    server, model, left = {}, {}, {}
    for name, given in variables.items():
        of_model = name.removeprefix("model_")
        if name in SERVER_NAMES:
            server[name] = given
        elif name in UNUSED_BY_SERVER or name == of_model:
            left[name] = given.source
        elif of_model in MODEL_NAMES:
            model[of_model] = given
        elif of_model in PARAMETER_NAMES:
            model[f"parameters.{of_model}"] = given
        else:
            left[of_model if of_model in UNUSED_BY_MODEL else f"parameters.{of_model}"] = given.source
    for name in ROOTS:
        left.pop(name, None)
    reading.pass_over(left, UNUSED_BY_SERVER | UNUSED_BY_MODEL)
    if "parameters.extra" in model:
        model["parameters.extra"] = _as_json(model["parameters.extra"], reading)
    return server, model


def _as_json(given: Given, reading: _Reading) -> Given:
    try:
        return Given(json.loads(str(given.value)), given.source, text=True)
    except (ValueError, RecursionError) as error:
        reading.problems.append(f"{given.source}: expected JSON: {error}")
        return Given({}, given.source)


# ------------------------------------------------------------------------------------------------- the server


def _from_server_file(path: Path, reading: _Reading) -> dict[str, Given]:
    if not path.exists():
        return {}
    table, place = reading.json_file(path) or {}, _place(path)
    sources = {name: f"{place}: {printable(name)}" for name in table}
    reading.pass_over({name: sources[name] for name in table if name not in SERVER_NAMES}, UNUSED_BY_SERVER)
    return {
        name: Given(value, sources[name], text=True) for name, value in table.items() if name in SERVER_NAMES
    }


def _translated(server: Mapping[str, Given]) -> Iterator[tuple[str, Given]]:
    """Our paths; `debug` comes after `log_level`, over which it wins there as well."""
    for name, path in SERVER_NAMES.items():
        if name not in server:
            continue
        given = server[name]
        value = str(given.value).lower()
        if name == "debug":
            if value in ("1", "true", "yes", "on", "t", "y"):
                yield path, Given("debug", given.source)
        elif name == "log_level" and value == "critical":
            yield path, Given("error", given.source)
        elif name == "grpc_max_message_length" and value == "-1":  # grpc: no limit
            yield path, Given(2**31 - 1, given.source)
        else:
            yield path, given


# ------------------------------------------------------------------------------------------------- the models


def _drafts(root: Path, defaults: Mapping[str, Given], reading: _Reading) -> Iterator[Draft]:
    """Each model below the root; hidden folders are passed over, as there (Kubernetes mounts have some)."""
    pattern = os.path.join(glob.escape(str(root)), "**", MODEL_FILE)
    for found in sorted(glob.glob(pattern, recursive=True)):
        path = Path(found)
        table = reading.json_file(path)
        if table is not None:
            filling = {name: replace(one, base=path.parent) for name, one in defaults.items()}
            given = {**filling, **_from_model_file(table, _place(path), path.parent, reading)}
            yield _draft(given, path.parent, _place(path), reading)


def _from_model_file(
    table: Mapping[str, object], place: str, folder: Path, reading: _Reading
) -> dict[str, Given]:
    """The settings of one model by MLServer's name; those of its parameters begin with "parameters."."""
    parameters = table.get("parameters", {})
    if not isinstance(parameters, Mapping):
        reading.problems.append(f"{place}: parameters: expected an object, got {shown(parameters)}")
        parameters = {}
    values = {name: value for name, value in table.items() if name != "parameters"}
    values |= {f"parameters.{name}": value for name, value in parameters.items() if value is not None}
    used = {*MODEL_NAMES, *(f"parameters.{name}" for name in PARAMETER_NAMES)}
    sources = {name: f"{place}: {printable(name)}" for name in values}
    reading.pass_over({name: sources[name] for name in values if name not in used}, UNUSED_BY_MODEL)
    return {
        name: Given(value, sources[name], folder, text=True)
        for name, value in values.items()
        if name in used and value != ""
    }


def _draft(given: Mapping[str, Given], folder: Path | None, file: str | None, reading: _Reading) -> Draft:
    """A model in our words.

    Args:
        folder: where it is when nothing else is said.
        file: its settings; None for the environment's model, which has the name that its path makes.
    """
    places = {
        path: f"{file}: {_THEIRS.get(path, path)}" if file else _VARIABLES.get(path, path)
        for path in MODEL_LEAVES
    }
    draft: dict[str, Given] = {}
    if "implementation" in given:
        draft["runtime"] = _runtime(given["implementation"], reading.problems)
    if "name" in given:
        draft["name"] = given["name"]
    elif file and folder:
        draft["name"] = Given(folder.name, places["name"])
    uri = given.get("parameters.uri") or (Given(str(folder), places["model_uri"]) if folder else None)
    if uri:
        draft["model_uri"] = _well_known(uri, str(draft["runtime"].value) if "runtime" in draft else "")
    if "parameters.version" in given:
        draft["version"] = given["parameters.version"]
    if "parameters.extra" in given:
        draft["parameters"] = given["parameters.extra"]
    draft |= _batching(given, reading.problems)
    return Draft(draft, places)


_THEIRS = {"runtime": "implementation", "model_uri": "parameters.uri"}
_VARIABLES = {
    "runtime": "MLSERVER_MODEL_IMPLEMENTATION",
    "model_uri": "MLSERVER_MODEL_URI",
    "name": "MLSERVER_MODEL_NAME",
}


def _runtime(implementation: Given, problems: list[str]) -> Given:
    name = str(implementation.value)
    if name not in RUNTIMES:
        own = (
            ""
            if name.startswith("mlserver")
            else "; a class of your own has to become a runtime, or a function"
        )
        problems.append(
            f"{implementation.source}: of MLServer's implementations {SUPPORTED} are supported, "
            f"got {shown(implementation.value)}{own}"
        )
    # The complaint is made: any runtime that is there keeps a second one from being added.
    return Given(RUNTIMES.get(name, "sklearn"), implementation.source)


def _well_known(uri: Given, runtime: str) -> Given:
    """The file in a folder that MLServer would take."""
    text = str(uri.value)
    if not uris.is_local(text):
        return uri
    try:
        path = uris.local_path(text, uri.base)
        files = (path / name for name in WELL_KNOWN.get(runtime, ()))
        return next((Given(str(file), uri.source) for file in files if file.is_file()), uri)
    except (OSError, ValueError):  # no path at all, or one that is too long: whoever fetches it complains
        return uri


def _batching(given: Mapping[str, Given], problems: list[str]) -> Iterator[tuple[str, Given]]:
    """Batches, where MLServer would make any: from two requests and some time on.

    Else ours form by themselves: its 0 is "off", while ours says that there is no batch axis.
    """
    size, seconds = (_number(given.get(name), problems) for name in ("max_batch_size", "max_batch_time"))
    if size > 1 and seconds > 0:
        delay = Given(round(seconds * 1e6), given["max_batch_time"].source)
        yield "max_batch_size", given["max_batch_size"]
        yield "dynamic_batching.max_queue_delay_microseconds", delay


def _number(given: Given | None, problems: list[str]) -> float:
    if given is None:
        return 0.0
    try:
        number = float(str(given.value))
    except ValueError:
        number = math.nan
    if not math.isfinite(number * 1e6):
        problems.append(f"{given.source}: expected a number, got {shown(given.value)}")
        return 0.0
    return number


def _place(path: Path) -> str:
    return printable(str(path), MAX_SHOWN)
