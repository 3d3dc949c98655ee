"""The types in a `.skops` file, told by its schema and by skops itself; no object is made."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from oipserver.core.errors import printable

MAX_SCHEMA = 64 * 2**20
# skops reads each array that the schema names into memory, as often as it is named.
MAX_ARRAYS = 256 * 2**20
MAX_RATIO = 20


@dataclass(slots=True)
class SkopsReport:
    """One `.skops` file.

    Attributes:
        untrusted: types that skops refuses unless the parameter `trusted` names them; None without skops.
        types: all that it holds.
        problem: why it cannot be read, or "".
    """

    file: str
    types: list[str] = field(default_factory=list)
    untrusted: list[str] | None = None
    sklearn_versions: list[str] = field(default_factory=list)
    problem: str = ""


def scan_skops(path: Path, name: str) -> SkopsReport:
    """The report on a `.skops` file, called `name` in it."""
    report = SkopsReport(name)
    try:
        schema = _schema(path)
        report.types = sorted(_types(schema))
        report.sklearn_versions = sorted(_versions(schema))
        _check_arrays(path, schema)
        report.untrusted = _untrusted(path)
    # Whatever skops raises for a schema of no sense.
    except Exception as error:
        report.problem = f"cannot be read: {printable(str(error)) or type(error).__name__}"
    return report


def _schema(path: Path) -> object:
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo("schema.json")
            if member.file_size > MAX_SCHEMA:
                raise ValueError(f"its schema is longer than {MAX_SCHEMA} bytes")
            return json.loads(archive.read(member))
    except KeyError:
        raise ValueError("it has no schema.json") from None
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(str(error)) from None


def _check_arrays(path: Path, schema: object) -> None:
    """A small file may name the same array of zeros a thousand times."""
    with zipfile.ZipFile(path) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
    named = (node.get("file") for node in _nodes(schema))
    total = sum(sizes.get(file, 0) for file in named if isinstance(file, str))
    if total > max(MAX_ARRAYS, MAX_RATIO * path.stat().st_size):
        raise ValueError(f"its arrays unpack to {total} bytes")


def _untrusted(path: Path) -> list[str] | None:
    try:
        from skops.io import get_untrusted_types
    except ModuleNotFoundError:
        return None
    return list(get_untrusted_types(file=path))


def _nodes(schema: object) -> Iterator[dict[str, object]]:
    """Every object of the schema, without recursion: it may be nested deeply."""
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _types(schema: object) -> set[str]:
    return {
        f"{node['__module__']}.{node['__class__']}"
        for node in _nodes(schema)
        if "__module__" in node and "__class__" in node
    }


def _versions(schema: object) -> Iterator[str]:
    found = set()
    for node in _nodes(schema):
        saved = node.get("_sklearn_version")
        content = saved.get("content") if isinstance(saved, dict) else None
        if isinstance(content, str) and content not in found:
            found.add(content)
            yield content.strip('"')
