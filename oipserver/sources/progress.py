"""What is told while bytes come: one line that changes on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from oipserver.sources.meter import Progress

logger = logging.getLogger("oipserver.sources")

TERMINAL_SECONDS = 0.2
LOG_SECONDS = 10.0


@contextmanager
def reporting(
    name: str, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Progress]:
    """A progress function for one model.

    Args:
        name: what is fetched.
        stream: stderr when not given.
        clock: seconds.
    """
    stream = stream or sys.stderr
    on_terminal = stream.isatty()
    pause = TERMINAL_SECONDS if on_terminal else LOG_SECONDS
    last = clock()
    drawn = False

    def report(done: int, total: int | None) -> None:
        nonlocal last, drawn
        if clock() - last < pause and not (drawn and done == total):
            return
        last = clock()
        text = f"fetching {name}: {_amount(done, total)}"
        if on_terminal:
            drawn = True
            stream.write(f"\r{text}\x1b[K")
            stream.flush()
        else:
            logger.info("%s", text)

    try:
        yield report
    finally:
        if drawn:
            stream.write("\n")


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1e6:.1f} MB"


def _amount(done: int, total: int | None) -> str:
    if not total:
        return megabytes(done)
    return f"{megabytes(done)} of {megabytes(total)} ({100 * done // total} %)"
