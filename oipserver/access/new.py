"""New keys."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from oipserver.access import AccessError
from oipserver.access.entry import check_names, read_text

# So that people and secret scanners know one when they see it.
PREFIX = "oip_"
_BYTES = 32


class Made(NamedTuple):
    """A new key, and the line for the file of the keys."""

    key: str
    line: str


def make(name: str, given: Mapping[str, str | tuple[str, ...] | None]) -> Made:
    """A key with 256 random bits.

    Args:
        given: of its entry; what is None or empty keeps its default.

    Raises:
        AccessError: an entry cannot be like that.
    """
    key = PREFIX + secrets.token_urlsafe(_BYTES)
    entry: dict[str, object] = {"name": name, "sha256": digest_of(key)}
    entry |= {field: _number(field, value) for field, value in given.items() if value}
    line = f"- {json.dumps(entry)}\n"  # JSON is YAML, too
    read_text(line, "the new key")
    return Made(key, line)


def digest_of(key: str) -> str:
    """What is stored of a key: SHA-256 in hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()


def append(path: Path, line: str) -> None:
    """Add a line to a YAML file, which only its owner may read when it is new.

    Raises:
        AccessError: what stands in the file is no list that can be added to, or has the name.
        OSError: it cannot be written.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise AccessError(f"--file: expected a name that ends in .yaml or .yml, got '{path}'")
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if before and not before.endswith("\n"):
        line = "\n" + line
    check_names(read_text(before + line, str(path)))
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8") as file:
        file.write(line)


def _number(field: str, value: str | tuple[str, ...]) -> object:
    if isinstance(value, tuple):
        return list(value)
    try:
        return int(value) if value.isdecimal() else float(value)
    except ValueError:
        raise AccessError(f"--{field.replace('_', '-')}: expected a number, got '{value}'") from None
