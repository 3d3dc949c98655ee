"""Nested dataclasses as tables of dotted paths: `http.port` is the field `port` of the section `http`.

The dataclasses are written once, with a type, a default and a line of help per field.  File keys, flags,
environment variables, help texts and complaints are all read off them here.  A complaint goes into a list, so
that one error can name every bad field.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from oipserver.core.errors import printable

T = TypeVar("T")

MAX_SHOWN = 200


def setting(default: T, text: str) -> T:
    """A dataclass field with a default and a line of help."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True)
class Leaf:
    """One field that holds a value, not a section.

    Attributes:
        annotation: what msgspec converts to; its `Meta` carries limits, `title` and `description`.
        metavar: the value's place holder in the help, e.g. "PORT".
        expected: the value in words, for complaints.
        can_be_off: "off" is None; `Meta(extra={"off": True})` says so.
        is_path: a relative one starts where it was given; `Meta(extra={"path": True})` says so.
    """

    path: str
    annotation: Any
    default: object
    help: str
    metavar: str
    expected: str
    can_be_off: bool
    is_path: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """A value as somebody gave it.

    Attributes:
        source: what a complaint calls it: a flag, an environment variable, or a file and its key.
        base: where relative paths start.
        text: numbers may be written as text, as flags and the environment have to.
    """

    value: object
    source: str
    base: Path = Path()
    text: bool = False


def leaves(cls: type[Any], types: Mapping[str, Any] | None = None, prefix: str = "") -> dict[str, Leaf]:
    """Every leaf of `cls` by path; `types` replaces the annotation of some, by path."""
    found: dict[str, Leaf] = {}
    for entry, annotation in _fields(cls):
        path = prefix + entry.name
        if is_dataclass(annotation):
            found |= leaves(cast(type[Any], annotation), types, path + ".")
        else:
            found[path] = _leaf(path, entry, (types or {}).get(path, annotation))
    return found


def flatten(
    table: Mapping[Any, Any], known: Iterable[str], source: str, base: Path, problems: list[str]
) -> dict[str, Given]:
    """The values of a nested mapping by path; complains of keys that are not `known`."""
    paths = set(known)
    sections = {path[:at] for path in paths for at, letter in enumerate(path) if letter == "."}

    def walk(level: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Given]]:
        for key, value in level.items():
            path = f"{prefix}{key}"
            if path in paths:
                yield path, Given(value, source + path, base)
            elif path not in sections:
                problems.append(
                    f"{source}{printable(path)}: unknown key{did_you_mean(path, paths | sections)}"
                )
            elif isinstance(value, Mapping):
                yield from walk(value, path + ".")
            elif value is not None:
                problems.append(f"{source}{path}: expected a section of settings, got {shown(value)}")

    return dict(walk(table, ""))


def convert(known: Mapping[str, Leaf], given: Mapping[str, Given], problems: list[str]) -> dict[str, object]:
    """The values of the right type, by path; complains of the others."""
    converted = {}
    for path, one in given.items():
        leaf = known[path]
        try:
            converted[path] = _convert(leaf, one)
        except msgspec.ValidationError:
            problems.append(f"{one.source}: expected {leaf.expected}, got {shown(one.value)}")
    return converted


def build(cls: type[T], values: Mapping[str, object], prefix: str = "") -> T:
    """An instance of `cls` from values by path; what is absent keeps its default."""
    arguments: dict[str, object] = {}
    for entry, annotation in _fields(cls):
        path = prefix + entry.name
        if is_dataclass(annotation):
            arguments[entry.name] = build(cast(type[Any], annotation), values, path + ".")
        elif path in values:
            arguments[entry.name] = values[path]
    return cls(**arguments)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a complaint: the nearest known word, or nothing when none is near."""
    close = get_close_matches(word, sorted(known), n=1)
    return f", did you mean '{close[0]}'?" if close else ""


def shown(value: object) -> str:
    """A bad value as a complaint shows it: short, on one line, text in quotes."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"'{printable(value, MAX_SHOWN)}'"
    return f"{type(value).__name__} {printable(str(value), MAX_SHOWN)}"


def _fields(cls: type[Any]) -> Iterator[tuple[Field[Any], Any]]:
    hints = get_type_hints(cls, include_extras=True)
    return ((entry, hints[entry.name]) for entry in fields(cls))


def _leaf(path: str, entry: Field[Any], annotation: Any) -> Leaf:
    default = None if entry.default is MISSING else entry.default
    text = entry.metadata.get("help", "")
    metavar, expected = _describe(annotation)
    meta = _meta(annotation)
    extra = (meta.extra if meta is not None else None) or {}
    can_be_off, is_path = bool(extra.get("off")), bool(extra.get("path"))
    return Leaf(path, annotation, default, text, metavar, expected, can_be_off, is_path)


def _describe(annotation: Any) -> tuple[str, str]:
    """The place holder and the words for a type."""
    meta = _meta(annotation)
    if meta is not None and meta.description:
        return meta.title or "VALUE", meta.description
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        return f"[{'|'.join(choices)}]", "one of " + ", ".join(choices)
    if annotation is bool:
        return "BOOL", "true or false"
    return ("TEXT", "text") if annotation is str else ("TABLE", "a table of values")


def _meta(annotation: Any) -> msgspec.Meta | None:
    """What `Annotated` says of a type, or of the first type of a union."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return cast(msgspec.Meta, annotation.__metadata__[0])
    return _meta(get_args(annotation)[0]) if origin in (Union, UnionType) else None


def _convert(leaf: Leaf, given: Given) -> object:
    value = given.value
    if isinstance(value, str) and get_origin(leaf.annotation) is Literal:
        value = value.lower()
    if leaf.can_be_off and _is_off(value):
        return None
    if given.text and isinstance(value, str) and _is_list(leaf.annotation):
        value = [part for part in map(str.strip, value.split(",")) if part]
    converted: object = msgspec.convert(value, leaf.annotation, strict=not given.text)
    return os.path.abspath(given.base / str(converted)) if leaf.is_path and converted else converted


def _is_list(annotation: Any) -> bool:
    inner = annotation.__origin__ if get_origin(annotation) is Annotated else annotation
    return get_origin(inner) is tuple


def _is_off(value: object) -> bool:
    """YAML reads a bare `off` as false."""
    return value is False or (isinstance(value, str) and value.lower() == "off")
