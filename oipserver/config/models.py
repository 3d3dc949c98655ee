"""Models on their way to a ModelConfig: merged, checked, named."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from oipserver.config import uris
from oipserver.config.fields import Given, build, convert, did_you_mean, shown
from oipserver.config.schema import MODEL_FLAGS, MODEL_LEAVES, SETTINGS
from oipserver.config.sources import Draft
from oipserver.core.model_config import ModelConfig
from oipserver.core.user_code import CodeUri

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
    drafts: Sequence[Draft],
    runtimes: Collection[str] | None,
    schemes: Collection[str],
    problems: list[str],
) -> tuple[ModelConfig, ...]:
    """The drafts that are in order; complains of the others, and of two with one name and version."""
    models = [model for draft in drafts if (model := _model(draft, runtimes, schemes, problems))]
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


def _model(
    draft: Draft, runtimes: Collection[str] | None, schemes: Collection[str], problems: list[str]
) -> ModelConfig | None:
    before = len(problems)
    values = model_values(draft.given, problems)
    problems.extend(
        f"{draft.places[path]}: expected {_expected(path, runtimes)}, got nothing"
        for path in ("runtime", "model_uri")
        if path not in draft.given
    )
    if "model_uri" in values:
        values["model_uri"] = _usable(draft.given["model_uri"], schemes, problems)
    if "runtime" in values and runtimes is not None:
        _check_runtime(draft.given["runtime"], runtimes, problems)
    _check_levels(draft, values, problems)
    if len(problems) > before:
        return None
    values["name"] = _name(draft.given)
    if values["name"] is None:
        problems.append(f"{draft.places['name']}: the path makes no name, give one")
        return None
    return build(ModelConfig, values)


def _check_levels(draft: Draft, values: Mapping[str, object], problems: list[str]) -> None:
    default, levels = (
        values.get(f"dynamic_batching.{name}", 0) for name in ("default_priority_level", "priority_levels")
    )
    if isinstance(default, int) and isinstance(levels, int) and default > levels:
        source = draft.given["dynamic_batching.default_priority_level"].source
        problems.append(f"{source}: expected one of the {levels} priority_levels, got {default}")


def _expected(path: str, runtimes: Collection[str] | None) -> str:
    installed = f" ({', '.join(sorted(runtimes))})" if path == "runtime" and runtimes else ""
    return MODEL_LEAVES[path].expected + installed


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
    name = _stem(uri.value, uri.base)
    return _NOT_IN_NAMES.sub("-", name).lstrip("._-")[:128] or None


def _stem(uri: str, base: Path) -> str:
    """What the URI calls the model, suffix taken off."""
    if not uris.is_local(uri):
        return uris.stem_of(uri) if uris.is_well_formed(uri) else ""
    code = CodeUri.parse(uri)
    if code.module:
        return code.module.rpartition(".")[2]
    try:
        path = uris.local_path(code.location, base)
    except ValueError:
        return ""
    return path.name if os.path.isdir(path) else uris.archive_stem(path.name) or path.stem


def _usable(uri: Given, schemes: Collection[str], problems: list[str]) -> str:
    """The URI of what will be fetched, as it is; the absolute path of what is here."""
    text = str(uri.value)
    if uris.is_local(text):
        return _existing(uri, problems)
    scheme = uris.scheme_of(text)
    if scheme not in uris.SCHEMES:
        known = ", ".join(("file", *uris.SCHEMES))
        problems.append(f"{uri.source}: expected a path or one of the schemes {known}, got {_shown(text)}")
    elif not uris.is_well_formed(text):
        problems.append(f"{uri.source}: expected a URI with a usable host and port, got {_shown(text)}")
    elif scheme not in schemes:
        allowed = ", ".join(schemes) or "none"
        problems.append(
            f"{uri.source}: sources.schemes does not allow '{scheme}' (allowed: {allowed}),"
            f" got {_shown(text)}"
        )
    return text


def _shown(uri: str) -> str:
    return shown(uris.without_secrets(uri))


def _existing(uri: Given, problems: list[str]) -> str:
    text = str(uri.value)
    code = CodeUri.parse(text)
    if code.module and not os.path.exists(uri.base / text):
        return text  # the runtime finds out whether there is such a module
    try:
        path = uris.local_path(code.location or text, uri.base)
    except ValueError as error:
        problems.append(f"{uri.source}: {error}, got {shown(uri.value)}")
        return ""
    if not os.path.exists(path):
        problems.append(f"{uri.source}: no such file or directory: {shown(str(path))}")
    elif not os.access(path, os.R_OK):
        problems.append(f"{uri.source}: this user may not read {shown(str(path))}")
    return f"{path}:{code.name}" if code.location and code.name else str(path)
