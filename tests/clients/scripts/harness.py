"""Runs a client's checks in that client's own Python, and prints what each of them returned.

A script has one class.  Its public methods are the checks: they ask the server, assert what only they can
see, and return plain values for the test on the other side to compare.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

# The document of the specification's tutorial.
ROWS = [[5.1, 3.5, 1.4, 0.2], [4.9, 3.0, 1.4, 0.2]]
DOCUMENT = {"inputs": [{"name": "input-0", "shape": [2, 4], "datatype": "FP64", "data": ROWS}]}


class Checks(Protocol):
    """What a script's class is made with.

    Args:
        address: the server's host:port.
        folder: for arrays that are too large for JSON.
    """

    def __init__(self, address: str, folder: Path) -> None: ...


def run(script: type[Checks]) -> None:
    """Print the outcome of every check as one JSON object."""
    address, folder = sys.argv[1:]
    checks = script(address, Path(folder))
    names = [name for name in dir(checks) if not name.startswith("_")]
    json.dump({name: outcome(getattr(checks, name)) for name in names}, sys.stdout)


def outcome(check: Callable[[], Any]) -> dict[str, Any]:
    """What it returned, or the traceback of what it raised."""
    try:
        result = check()
        return {"result": asyncio.run(result) if inspect.iscoroutine(result) else result}
    except Exception:
        return {"error": traceback.format_exc()}


def elements(array: Any) -> list[Any]:
    """A tensor's elements, row-major, as JSON takes them."""
    return [value.decode() if isinstance(value, bytes) else value for value in array.ravel().tolist()]
