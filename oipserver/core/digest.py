"""SHA-256 of what is stored: a file, or a whole directory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path


def digest(path: Path) -> str:
    """The SHA-256 of a file, or of a directory's tree, in hexadecimal.

    A tree's digest is that of the listing `sha256sum` would give of its files, paths relative to it, with
    slashes and in order of their bytes.  Times, owners and empty directories do not count; a link counts
    as what it leads to.

    Raises:
        OSError: something in it cannot be read.
    """
    if path.is_dir():
        return hashlib.sha256("".join(_listing(path)).encode("utf-8", "surrogateescape")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_in(directory: Path) -> list[Path]:
    """Every file below a directory, in an order that does not depend on the machine."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return sorted(
        files, key=lambda path: path.relative_to(directory).as_posix().encode("utf-8", "surrogateescape")
    )


def _listing(directory: Path) -> Iterator[str]:
    for file in files_in(directory):
        yield f"{digest(file)}  {file.relative_to(directory).as_posix()}\n"
