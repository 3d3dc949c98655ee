"""Warnings raised while a model is loaded, kept from the terminal."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# `catch_warnings` swaps state of the whole process: two loads at once would restore each other's.
_LOCK = threading.RLock()


@contextmanager
def caught_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Collects the warnings of its block.  For loading only, never around a request."""
    with _LOCK, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
