"""Small documents of unknown origin: bounded in length and depth."""

from __future__ import annotations

import json
from pathlib import Path

MAX_BYTES = 4 * 2**20
MAX_DEPTH = 50


def read_text(file: Path) -> str:
    """The text of a file.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is long, or no UTF-8.
    """
    with file.open("rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is longer than {MAX_BYTES} bytes")
    return data.decode()


def parse_json(text: str) -> object:
    """The value of a JSON document.

    Raises:
        ValueError: no JSON, or nested deeply.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH}") from None
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return value
    raise ValueError(f"it is nested deeper than {MAX_DEPTH}")


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
