"""The list of keys as somebody wrote it: read, checked, and complained of in one go."""
# ruff: noqa: RUF009 -- `setting` is `dataclasses.field` with a help text

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from oipserver.access import AccessError
from oipserver.config.fields import build, convert, flatten, leaves, setting, shown
from oipserver.config.schema import Name
from oipserver.config.sources import PARSERS

Rate = Annotated[float, Meta(ge=1e-6, le=1e9, description="a number a second from 0.000001")]
Burst = Annotated[int, Meta(ge=1, le=10**9, description="a whole number from 1")]
Role: TypeAlias = Literal["infer", "read", "admin"]
Roles = Annotated[tuple[Role, ...], Meta(min_length=1, description="a list of infer, read, admin")]
Patterns = Annotated[
    tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...],
    Meta(min_length=1, description="a list of patterns"),
]
Subject = Annotated[
    str, Meta(max_length=1024, description="a certificate's subject, e.g. CN=batch,O=Example")
]


@dataclass(frozen=True, slots=True)
class Entry:
    """One key or certificate, and what its owner may do."""

    name: Name = setting("", "Name in logs")
    sha256: str = setting("", "SHA-256 of the key")
    subject: Subject = setting("", "Subject of a client's certificate, as a pattern")
    roles: Roles = setting(("infer",), "What it may do")
    models: Patterns = setting(("*",), "Models, and paths of custom routes, as patterns")
    rate: Rate | None = setting(None, "Requests a second; none is no limit")
    burst: Burst | None = setting(None, "Requests at once; else those of a second")
    rows_rate: Rate | None = setting(None, "Rows a second; none is no limit")
    rows_burst: Burst | None = setting(None, "Rows at once; else those of a second")


LEAVES = leaves(Entry)

_DIGEST = re.compile(r"[0-9a-fA-F]{64}")


def read_file(path: str) -> list[Entry]:
    """The entries of a YAML, TOML or JSON file.  It reads a file, so not on the event loop.

    Raises:
        AccessError: it cannot be read, or is wrong.
    """
    place = f"access.keys_file: {shown(path)}"
    suffix = Path(path).suffix
    if suffix not in PARSERS:
        raise AccessError(f"{place}: expected a name that ends in {', '.join(PARSERS)}")
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise AccessError(f"{place}: cannot read it: {error.strerror}") from error
    except ValueError as error:
        raise AccessError(f"{place}: {error}") from error
    return _entries(text, suffix, place)


def read_text(text: str, place: str = "access.keys") -> list[Entry]:
    """The entries of a list as in a file, in JSON or YAML; none of an empty text.

    Args:
        place: what a complaint calls it.

    Raises:
        AccessError: it is wrong.
    """
    return _entries(text, ".yaml", place)


def check_names(entries: list[Entry]) -> None:
    """AccessError when two entries have one name, or one key."""
    for what in ("name", "sha256", "subject"):
        values = [getattr(entry, what).lower() for entry in entries if getattr(entry, what)]
        for value in dict.fromkeys(values):
            if values.count(value) > 1:
                raise AccessError(
                    f"access keys: {what}: expected another one for each key, {shown(value)} twice"
                )


def _entries(text: str, suffix: str, place: str) -> list[Entry]:
    try:
        listed = PARSERS[suffix](text)
    except (ValueError, RecursionError) as error:
        # A parser quotes what it cannot read, and that may be a key.
        raise AccessError(f"{place}: expected a list in {suffix[1:].upper()}") from error
    if isinstance(listed, Mapping) and set(listed) == {"keys"}:
        listed = listed["keys"]  # TOML has no list at the top
    return read_list([] if listed is None else listed, place)


def read_list(listed: object, place: str) -> list[Entry]:
    """The entries of a list that was read already.

    Args:
        place: what a complaint calls it.

    Raises:
        AccessError: it is wrong.
    """
    if not isinstance(listed, list):
        raise AccessError(f"{place}: expected a list of keys")
    problems: list[str] = []
    entries = [_entry(one, f"{place}: keys[{at}]", problems) for at, one in enumerate(listed)]
    if problems:
        raise AccessError("; ".join(problems))
    return entries


def _entry(table: object, place: str, problems: list[str]) -> Entry:
    if not isinstance(table, Mapping):
        problems.append(f"{place}: expected a table with name and sha256")
        return Entry()
    given = flatten(table, LEAVES, f"{place}.", Path(), problems)
    entry = build(Entry, convert(LEAVES, given, problems))
    if "sha256" in given and not _DIGEST.fullmatch(entry.sha256):
        # What stands there is not shown: it may be the key itself.
        problems.append(
            f"{place}.sha256: expected 64 hexadecimal digits, as 'oipserver keys new' prints them"
        )
    if "name" not in given:
        problems.append(f"{place}.name: expected a name, got nothing")
    if not ("sha256" in given or "subject" in given):
        problems.append(f"{place}.sha256: expected it, or a subject, got nothing")
    for limit, least in (("burst", "rate"), ("rows_burst", "rows_rate")):
        if limit in given and least not in given:
            problems.append(f"{place}.{limit}: expected {least} beside it, got nothing")
    return entry
