"""What has been fetched before, and the way in.

One directory per URI:

    <cache>/<URI's SHA-256>/lock            held while something is fetched
                           /partial/        what has come so far; `partial.version` says of which version
                           /staging/        an archive that is being unpacked
                           /incoming-*/     where a library writes by itself
                           /<SHA-256>/NAME  a model: complete, verified, never changed again
                           /latest.json     which of them the URI meant last

A model appears by one rename, after its bytes are on the disk.  Processes may share the cache; deleting
any of it while nothing is being fetched costs a download.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from oipserver.sources.errors import SourceError

_LOCK_PAUSE = 0.1
_INCOMING = "incoming-"
_SHA256_DIGITS = 64


def default_directory() -> Path:
    """`oipserver/` in the user's cache directory (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "oipserver"


class Shelf:
    """The cache of one URI.  All but `locked` is for whoever holds the lock.

    Attributes:
        partial: the directory for bytes on their way; it holds one entry, the model.
        staging: the directory for an archive's members.
    """

    def __init__(self, root: Path, uri: str) -> None:
        self.home = root / hashlib.sha256(uri.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self.partial = self.home / "partial"
        self.staging = self.home / "staging"
        self._partial_version = self.home / "partial.version"
        self._latest = self.home / "latest.json"
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.home.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def locked(self, seconds: float, sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
        """Nobody else fetches this URI meanwhile; the lock of a process that died is free.

        Raises:
            SourceError: somebody else has it for too long.
        """
        end = time.monotonic() + seconds
        with (self.home / "lock").open("w") as file:
            while not _try_lock(file.fileno()):
                if time.monotonic() > end:
                    raise SourceError(f"another process has been fetching it for {seconds:g} s")
                sleep(_LOCK_PAUSE)
            self._clean()
            yield

    @property
    def version(self) -> str:
        """What the origin called the latest model that was placed; "" without one."""
        version, sha256 = self._read_latest()
        return version if self.holding(sha256) else ""

    def latest(self) -> tuple[Path, str]:
        """The latest model and its SHA-256; only where `version` is not empty."""
        sha256 = self._read_latest()[1]
        path = self.holding(sha256)
        if path is None:
            raise SourceError("it was removed from the cache meanwhile")
        return path, sha256

    def holding(self, sha256: str) -> Path | None:
        """The model with this SHA-256, when it is here."""
        place = self.home / sha256
        return next(place.iterdir(), None) if len(sha256) == _SHA256_DIGITS and place.is_dir() else None

    @property
    def resumable(self) -> str:
        """The version of what has come so far; "" when there is nothing to go on with."""
        return _read(self._partial_version) if self.partial.is_dir() else ""

    def begin(self, version: str) -> None:
        """Make `partial` ready for bytes of a version; what is there of the same one stays."""
        if not version or self.resumable != version:
            self.drop()
            self.partial.mkdir(mode=0o700)
            self._partial_version.write_text(version, encoding="utf-8")

    def incoming(self) -> Path:
        """A new directory for something that may still be written to when nobody waits for it any more."""
        return Path(tempfile.mkdtemp(prefix=_INCOMING, dir=self.home))

    def drop(self) -> None:
        """Forget what is not complete."""
        remove(self.partial)
        self._partial_version.unlink(missing_ok=True)
        self._clean()

    def _clean(self) -> None:
        remove(self.staging)
        for left in self.home.glob(_INCOMING + "*"):
            shutil.rmtree(left, ignore_errors=True)

    def place(self, complete: Path, sha256: str, version: str) -> Path:
        """Make `partial` or `staging` the model with this SHA-256; its path."""
        _sync_tree(complete)
        place = self.home / sha256
        if self.holding(sha256) is None:
            remove(place)
            os.rename(complete, place)
        self.drop()
        self._remember(version, sha256)
        return self.latest()[0]

    def _remember(self, version: str, sha256: str) -> None:
        fresh = self._latest.with_suffix(".new")
        fresh.write_text(json.dumps({"version": version, "sha256": sha256}), encoding="utf-8")
        _sync(fresh)
        os.replace(fresh, self._latest)
        _sync(self.home)

    def _read_latest(self) -> tuple[str, str]:
        try:
            found = json.loads(_read(self._latest) or "{}")
            return str(found.get("version", "")), str(found.get("sha256", ""))
        except (ValueError, AttributeError):
            return "", ""


def remove(path: Path) -> None:
    """Delete a file or a directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def _sync_tree(directory: Path) -> None:
    for folder, _, names in os.walk(directory):
        for name in names:
            _sync(Path(folder, name))
        _sync(Path(folder))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
