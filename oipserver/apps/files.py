"""The parts of a multipart form, as a handler gets them: all in memory, bounded by the body's limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from oipserver.core.errors import BadRequest, printable


@dataclass(frozen=True, slots=True)
class File:
    """One part of a form.

    Attributes:
        filename: as the client says, so never a path to be trusted; "" for a plain field.
        content_type: as the client says; "" when it does not.
    """

    name: str
    filename: str
    content_type: str
    data: bytes


class Files:
    """The parts of one form, in the order sent: `files["image"].data`."""

    def __init__(self, parts: Sequence[File]) -> None:
        self._parts = parts

    def __getitem__(self, name: str) -> File:
        """The first part called `name`.

        Raises:
            BadRequest: there is none.
        """
        for part in self._parts:
            if part.name == name:
                return part
        there = ", ".join(f"'{printable(each.name)}'" for each in self._parts[:20]) or "none"
        raise BadRequest(f"the form has no part '{name}'; it has {there}")

    def all(self, name: str) -> list[File]:
        """Every part called `name`; an empty list when there is none."""
        return [part for part in self._parts if part.name == name]

    def __contains__(self, name: object) -> bool:
        return any(part.name == name for part in self._parts)

    def __iter__(self) -> Iterator[File]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)
