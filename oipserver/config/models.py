"""Models on their way to a ModelConfig: merged, checked, named."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from oipserver.config.fields import Given, build, convert, did_you_mean, shown
from oipserver.config.schema import MODEL_FLAGS, MODEL_LEAVES, SETTINGS
from oipserver.config.sources import Draft
from oipserver.core.model_config import ModelConfig

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


def merge(drafts: Sequence[Draft], overrides: Mapping[str, Given], problems: list[str]) -> Sequence[Draft]:
    """The file's models, with the one model that flags and environment describe.

    It is laid over its namesake (and same version, when it gives one), else added.  Without a name or a path
    it is laid over the file's only model.
    """
    if not overrides:
        return drafts
    name, version = _name(overrides), _version(overrides)
    same = [
        draft
        for draft in drafts
        if name in (None, _name(draft.given)) and version in (None, _version(draft.given))
    ]
    if len(same) == 1:
        return [_overlaid(draft, overrides) if draft is same[0] else draft for draft in drafts]
    if same or (drafts and name is None):
        source = next(iter(overrides.values())).source
        problems.append(f"{source}: the file has several models, give --model-name and --model-version")
        return drafts
    return [*drafts, Draft(overrides, {path: SETTINGS[flag].flag for flag, (path, _) in MODEL_FLAGS.items()})]


def models_from(
    drafts: Sequence[Draft], runtimes: Collection[str] | None, problems: list[str]
) -> tuple[ModelConfig, ...]:
    """The drafts that are in order; complains of the others, and of two with one name and version."""
    models = [model for draft in drafts if (model := _model(draft, runtimes, problems))]
    count = Counter((model.name, model.version) for model in models)
    problems.extend(
        f"models: '{name}' version '{version}' is there {times} times"
        for (name, version), times in count.items()
        if times > 1
    )
    return tuple(models)


def model_values(given: Mapping[str, Given], problems: list[str]) -> dict[str, object]:
    """The converted values by ModelConfig path; a version that a file gives as a number becomes text."""
    values = convert(MODEL_LEAVES, given, problems)
    if "version" in values:
        values["version"] = str(values["version"])
    return values


def _overlaid(draft: Draft, overrides: Mapping[str, Given]) -> Draft:
    return replace(draft, given={**draft.given, **overrides})


def _model(draft: Draft, runtimes: Collection[str] | None, problems: list[str]) -> ModelConfig | None:
    before = len(problems)
    values = model_values(draft.given, problems)
    problems.extend(
        f"{draft.places[path]}: expected {MODEL_LEAVES[path].expected}, got nothing"
        for path in ("runtime", "model_uri")
        if path not in draft.given
    )
    if "model_uri" in values:
        values["model_uri"] = _existing(draft.given["model_uri"], problems)
    if "runtime" in values and runtimes is not None:
        _check_runtime(draft.given["runtime"], runtimes, problems)
    if len(problems) > before:
        return None
    values["name"] = _name(draft.given)
    if values["name"] is None:
        problems.append(f"{draft.places['name']}: the path makes no name, give one")
        return None
    return build(ModelConfig, values)


def _check_runtime(given: Given, runtimes: Collection[str], problems: list[str]) -> None:
    name = str(given.value)
    if name not in runtimes:
        listing = ", ".join(sorted(runtimes)) or "there is none"
        problems.append(
            f"{given.source}: expected an installed runtime ({listing}), got {shown(name)}"
            + did_you_mean(name, runtimes)
        )


def _version(given: Mapping[str, Given]) -> str | None:
    return str(given["version"].value) if "version" in given else None


def _name(given: Mapping[str, Given]) -> str | None:
    """The name given, or else the one that the path makes: "model.joblib" is "model"."""
    if "name" in given:
        return str(given["name"].value)
    uri = given.get("model_uri")
    if uri is None or not isinstance(uri.value, str):
        return None
    try:
        path = _local_path(uri)
    except ValueError:
        return None
    name = path.name if os.path.isdir(path) else path.stem
    return _NOT_IN_NAMES.sub("-", name).lstrip("._-")[:128] or None


def _local_path(uri: Given) -> Path:
    """The absolute path that a URI means; ValueError for what is not a local path."""
    text = str(uri.value)
    scheme = _SCHEME.match(text)
    if scheme is None:
        return Path(os.path.abspath(uri.base / text))
    if scheme[1].lower() != "file":
        raise ValueError("expected a local path or a file:// URI, this version serves local files only")
    host, slash, path = text[scheme.end() :].removeprefix("/").partition("/")
    if not slash or host not in ("", "localhost"):
        raise ValueError("expected an absolute path in the URI, as in file:///models/iris")
    return Path(os.path.abspath("/" + unquote(path)))


def _existing(uri: Given, problems: list[str]) -> str:
    try:
        path = _local_path(uri)
    except ValueError as error:
        problems.append(f"{uri.source}: {error}, got {shown(uri.value)}")
        return ""
    if not os.path.exists(path):
        problems.append(f"{uri.source}: no such file or directory: {shown(str(path))}")
    elif not os.access(path, os.R_OK):
        problems.append(f"{uri.source}: this user may not read {shown(str(path))}")
    return str(path)
