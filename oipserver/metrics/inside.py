"""What is inside now: read when somebody looks, and free until then."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from oipserver.core.messages import ModelState
from oipserver.core.registry import Version


class VersionInside(NamedTuple):
    """One version of a model.

    Attributes:
        labels: model and version.
        depth: requests that wait for it.
        lost_threads: in which it hangs, given up.
        refused: the newest that was stored is not what is served.
    """

    labels: tuple[str, str]
    depth: int
    state: ModelState
    lost_threads: int
    refused: bool


class Inside(NamedTuple):
    """The whole process.

    Attributes:
        in_flight: infer requests.
        release: of this server.
        dropped_lines: that the log has lost.
    """

    in_flight: int
    release: str
    dropped_lines: int
    versions: tuple[VersionInside, ...]


def of_versions(versions: Iterable[Version]) -> tuple[VersionInside, ...]:
    """Each version as it is now."""
    return tuple(
        VersionInside(
            (version.config.name, version.config.version),
            version.depth,
            version.state,
            version.lost_threads,
            bool(version.refused),
        )
        for version in versions
    )
