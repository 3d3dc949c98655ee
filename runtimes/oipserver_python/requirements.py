"""What has to be installed beside a user's file: looked up, never installed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FILE = "requirements.txt"


def check_file(folder: Path) -> None:
    """Return when everything in the folder's requirements.txt is installed, or when there is no such file.

    Raises:
        ImportError: something is missing or has another version; the text says how to install it.
        ValueError: a line is no requirement.
    """
    file = folder / FILE
    if file.is_file():
        _check(list(_lines(file.read_text())), FILE, f"pip install -r {shlex.quote(str(file))}")


def check(requirements: object, place: str) -> None:
    """As `check_file`, for a list in the code."""
    if not isinstance(requirements, list | tuple) or not all(isinstance(one, str) for one in requirements):
        raise ValueError(f"{place}: expected a list such as ['scikit-image>=0.24'], got {requirements!r}")
    _check(requirements, place, "")


def _lines(content: str) -> Iterator[str]:
    """The requirements proper; options (-r, -c, --index-url, --hash) are pip's own business."""
    for line in content.replace("\\\n", " ").splitlines():
        text = line.partition(" #")[0].partition(" --")[0].strip()
        if text and not text.startswith(("#", "-")):
            yield text


def _check(requirements: Sequence[str], place: str, install: str) -> None:
    wrong = {text: problem for text in requirements if (problem := _problem(text, place))}
    if wrong:
        command = install or shlex.join(["pip", "install", *wrong])
        listed = ", ".join(f"{text} ({problem})" for text, problem in wrong.items())
        raise ImportError(f"{place} asks for {listed}: {command}")


def _problem(text: str, place: str) -> str:
    """Why one requirement is not met; empty when it is."""
    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ModuleNotFoundError as error:
        raise ImportError(f"{place} is checked with packaging: pip install 'oipserver[python]'") from error
    try:
        wanted = Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"{place}: '{text}' is no requirement: {str(error).splitlines()[0]}") from None
    if wanted.marker is not None and not wanted.marker.evaluate():
        return ""
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return "not installed"
    return "" if wanted.specifier.contains(found, prereleases=True) else f"{found} is installed"
