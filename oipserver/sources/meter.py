"""How much: bytes are counted against the limit as they come, and told to whoever shows progress."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from oipserver.sources.errors import SourceError, TryAgain

# Called with the bytes that have come and the bytes that are expected, None while nobody knows.
Progress: TypeAlias = Callable[[int, int | None], None]


class Meter:
    """Counts one model's bytes.

    Args:
        max_bytes: one more is refused.
        max_files: likewise.
        disk: a directory where the bytes go.
    """

    def __init__(self, max_bytes: int, max_files: int, disk: Path, progress: Progress) -> None:
        self.max_bytes = max_bytes
        self._max_files = max_files
        self._disk = disk
        self._progress = progress
        self._done = 0
        self._total: int | None = None

    def start(self, done: int, total: int | None) -> None:
        """A try begins, with `done` bytes there already.

        Raises:
            SourceError: it will be too large.
            TryAgain: the disk has no room for it.
        """
        self._done, self._total = done, total
        if total is not None and total > self.max_bytes:
            raise self._too_large(total)
        free = shutil.disk_usage(self._disk).free
        if total is not None and total - done > free:
            raise TryAgain(f"no room on the disk: {total - done} bytes to come, {free} free")
        self._progress(done, total)

    def add(self, size: int) -> None:
        """Bytes have come.

        Raises:
            SourceError: that was one too many.
        """
        self._done += size
        if self._done > self.max_bytes:
            raise self._too_large(self._done)
        self._progress(self._done, self._total)

    def files(self, count: int) -> None:
        """So many files it will be, or are there already.

        Raises:
            SourceError: too many.
        """
        if count > self._max_files:
            raise SourceError(f"more files than sources.max_files allows ({self._max_files})")

    def _too_large(self, size: int) -> SourceError:
        return SourceError(f"larger than sources.max_bytes allows: {size} of {self.max_bytes} bytes")
