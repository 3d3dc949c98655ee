"""One model: its URI in, a local path out."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from oipserver.config import SourcesConfig
from oipserver.config.uris import (
    SCHEMES,
    archive_stem,
    is_local,
    last_part,
    local_path,
    scheme_of,
    without_secrets,
)
from oipserver.core.digest import digest
from oipserver.core.model_config import ModelConfig
from oipserver.sources.archives import innermost, is_archive, unpack
from oipserver.sources.cache import Shelf, default_directory, remove
from oipserver.sources.errors import SourceError, TryAgain
from oipserver.sources.meter import Meter, Progress
from oipserver.sources.names import plain
from oipserver.sources.progress import reporting
from oipserver.sources.retry import Patience

logger = logging.getLogger("oipserver.sources")

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Brings a model into `shelf.partial`: the complete file or directory and its version, or None when the latest
# on the shelf is it.
Bring: TypeAlias = Callable[[Shelf, Meter, float], tuple[Path, str] | None]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model on this machine.

    Attributes:
        path: a file or a directory.
        local: the user named this path; nothing was fetched.
        pinned: it has the SHA-256 that the configuration asks for.
        sha256: of what was fetched (for an archive: of the archive), or of a local path with a pin; else "".
    """

    path: Path
    local: bool
    pinned: bool
    sha256: str = ""

    @property
    def trusted(self) -> bool:
        """The user vouches for its bytes, so files that run code when they are loaded may be loaded."""
        return self.local or self.pinned


def fetch(
    config: ModelConfig,
    sources: SourcesConfig,
    progress: Progress | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Fetched:
    """The model that a configuration names, on this machine.  It blocks: call it on a thread.

    Args:
        progress: called as bytes come; without one a terminal or the log is told.
        sleep: how to wait before another try.

    Raises:
        SourceError: it is not there, cannot be had, breaks a limit, or is not what it was pinned to.
    """
    uri = config.model_uri
    try:
        if is_local(uri):
            return _local(uri, config.sha256.lower(), sources)
        return _remote(uri, config.sha256.lower(), sources, progress, sleep)
    except (ValueError, OSError) as error:  # also what is no URI
        raise SourceError(f"cannot fetch '{uri}': {error}") from error


def _local(uri: str, pin: str, sources: SourcesConfig) -> Fetched:
    path = local_path(uri) if uri.startswith("file:") else Path(uri)
    if not pin and not is_archive(path):
        return Fetched(path, local=True, pinned=False)
    sha256 = digest(path)
    _check(pin, sha256)
    if is_archive(path):
        shelf = Shelf(_cache(sources), str(path))
        meter = Meter(sources.max_bytes, sources.max_files, shelf.home, lambda done, total: None)
        with shelf.locked(sources.timeout):
            path = innermost(shelf.holding(sha256) or _place(shelf, meter, path, sha256, ""))
    return Fetched(path, local=True, pinned=bool(pin), sha256=sha256)


def _remote(
    uri: str, pin: str, sources: SourcesConfig, progress: Progress | None, sleep: Callable[[float], None]
) -> Fetched:
    bring = _bring(uri, sources)
    shelf = Shelf(_cache(sources), uri)
    patience = Patience(sources.retries, sources.attempt_timeout, sources.timeout, sleep)
    with shelf.locked(sources.timeout, sleep):
        path, sha256 = shelf.holding(pin), pin
        if path is None:
            name = without_secrets(uri)
            began = time.monotonic()
            logger.info("fetching %s", name)
            with nullcontext(progress) if progress else reporting(name) as report:
                meter = Meter(sources.max_bytes, sources.max_files, shelf.home, report)
                path, sha256 = patience.run(lambda deadline: _attempt(bring, shelf, meter, pin, deadline))
            logger.info("fetched %s in %.1f s, sha256 %s", name, time.monotonic() - began, sha256)
    return Fetched(_opened(uri, path), local=False, pinned=bool(pin), sha256=sha256)


def _attempt(bring: Bring, shelf: Shelf, meter: Meter, pin: str, deadline: float) -> tuple[Path, str]:
    """One try: the model in the cache and its SHA-256."""
    try:
        found = bring(shelf, meter, deadline)
        if found is None:
            path, sha256 = shelf.latest()
            _check(pin, sha256)
            return path, sha256
        complete, version = found
        sha256 = digest(complete)
        _check(pin, sha256)
        return _place(shelf, meter, complete, sha256, version), sha256
    except TryAgain:
        raise
    except SourceError:
        shelf.drop()
        raise
    except OSError as error:
        shelf.drop()
        if error.errno in _FULL:
            raise TryAgain(f"no room in the cache directory: {error.strerror}") from error
        raise


def _place(shelf: Shelf, meter: Meter, complete: Path, sha256: str, version: str) -> Path:
    if not is_archive(complete):
        return shelf.place(shelf.partial, sha256, version)
    try:
        unpack(complete, shelf.staging / plain(archive_stem(complete.name), "model"), meter)
        return shelf.place(shelf.staging, sha256, version)
    finally:
        remove(shelf.staging)


def _opened(uri: str, path: Path) -> Path:
    """What an archive held; anything else as it is."""
    return innermost(path) if archive_stem(last_part(uri)) and path.is_dir() else path


def _check(pin: str, sha256: str) -> None:
    if pin and pin != sha256:
        raise SourceError(f"its sha256 is {sha256[:12]}…, and it is pinned to {pin[:12]}…")


def _bring(uri: str, sources: SourcesConfig) -> Bring:
    scheme = scheme_of(uri)
    if scheme not in SCHEMES or scheme not in sources.schemes:
        allowed = ", ".join(one for one in SCHEMES if one in sources.schemes)
        raise SourceError(f"sources.schemes does not allow '{scheme}' (allowed: {allowed or 'none'})")
    from oipserver.sources import http, objects, tracking  # a local model needs none of them

    if scheme in ("http", "https"):
        return partial(http.bring, uri, sources.allow_hosts)
    return partial(tracking.bring if scheme in ("runs", "models") else objects.bring, uri)


def _cache(sources: SourcesConfig) -> Path:
    return Path(sources.cache_dir) if sources.cache_dir else default_directory()
