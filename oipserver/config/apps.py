"""Where the files with routes of the user's own are: paths are made absolute, and looked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from oipserver.config.fields import Given, shown
from oipserver.core.user_code import CodeUri


def locate(given: Given | None, uris: Sequence[str], problems: list[str]) -> tuple[str, ...]:
    """The URIs with absolute paths; complains of files that are not there.

    Args:
        given: where the list came from, None for nowhere.
        uris: `file.py`, `file.py:name`, `module` or `module:name` each.
    """
    return tuple(_located(given, uris, problems)) if given is not None else ()


def _located(given: Given, uris: Sequence[str], problems: list[str]) -> Iterator[str]:
    for uri in uris:
        code = CodeUri.parse(uri)
        if not code.location.endswith(".py"):
            yield uri  # a module: whether there is one is found out when it is imported
            continue
        path = os.path.abspath(given.base / code.location)
        if not os.path.isfile(path):
            problems.append(f"{given.source}: no such file: {shown(path)}")
        yield f"{path}:{code.name}" if code.name else path
