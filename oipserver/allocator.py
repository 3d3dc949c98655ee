"""How the C library keeps the memory of large requests.

glibc takes a large block from the system and gives it back when it is freed: a body of 7 MB costs thousands
of page faults on its way, with every request again, which is as long as a model may take.  It learns from
blocks that are freed, up to 32 MiB; what it would have learnt from one such block is told to it at once.

What it keeps, then, is at most what it may keep anyhow once it has freed a block of that size: the free end
of an arena up to 64 MiB; an arena serves one thread or several.  Larger blocks are given back, as ever.

Models are not requests: what one has taken is not needed again when it goes, so it is taken from the system.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# The most that glibc takes and, as it does by itself, twice as much.
_LARGEST = 32 * 2**20
_KEPT = 2 * _LARGEST
# <malloc.h>, DEFAULT_MMAP_THRESHOLD_MIN
_SMALLEST = 128 * 2**10

_lock = threading.Lock()
_keeps = False
_models = 0


def keep_large_blocks(environ: Mapping[str, str] = os.environ) -> bool:
    """Have memory used again instead of given back; whether that was done.

    To be called when the models are loaded: what their libraries need for a moment is given back before.
    It is for the whole process, and for good.  Nothing is done where the C library is not glibc, or where
    whoever runs the process has chosen for it (MALLOC_..._, GLIBC_TUNABLES).
    """
    if any(name.startswith("MALLOC_") for name in environ) or "malloc" in environ.get("GLIBC_TUNABLES", ""):
        return False
    global _keeps
    try:
        library = _glibc()
        library.malloc_trim(0)
        _keeps = bool(library.mallopt(_M_MMAP_THRESHOLD, _LARGEST)) and bool(
            library.mallopt(_M_TRIM_THRESHOLD, _KEPT)
        )
    except (AttributeError, OSError, TypeError):
        return False
    return _keeps


@contextmanager
def for_a_model() -> Iterator[None]:
    """Large blocks that are taken meanwhile, by any thread, go back to the system when they are freed."""
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(step: int) -> None:
    global _models
    with _lock:
        _models += step
        if _keeps:
            _glibc().mallopt(_M_MMAP_THRESHOLD, _SMALLEST if _models else _LARGEST)


def give_back() -> bool:
    """Give free memory back to the system, once; whether there was any.  It takes a while: not for the loop.

    Nothing is done where the C library is not glibc.
    """
    try:
        return bool(_glibc().malloc_trim(0))
    except (AttributeError, OSError, TypeError):
        return False


def _glibc() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    library.gnu_get_libc_version  # noqa: B018  # others have a mallopt with other options
    return library
