"""Names from outside: a path that stays where it is put, or a refusal."""

from __future__ import annotations

from pathlib import PurePosixPath

from oipserver.core.errors import printable
from oipserver.sources.errors import SourceError


def relative(name: str, kind: str) -> PurePosixPath:
    """The name of an archive's member, or of an object below its prefix, as a relative path.

    Args:
        kind: what a complaint calls it.

    Raises:
        SourceError: it is empty or absolute, or leads upwards.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise SourceError(f"{kind} has a name that is not allowed: '{printable(name)}'")
    return path


def plain(name: str, default: str) -> str:
    """A name for one file or directory; `default` where the URI gives none that can be used."""
    usable = name not in ("", ".", "..") and not set(name) & set("/\\\0") and len(name.encode()) <= 200
    return name if usable else default
