"""The thread pools of native libraries (BLAS, OpenMP), held to the CPUs that the server may use.

They ask the kernel, which tells them of the CPUs of a host but not of a container's quota.  A runtime may
hold them to less; nothing that the user has set is changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from oipserver.core.cpus import Cpus

# Read by libraries when they are loaded, and by the processes that a model may start.
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def held_to(cpus: Cpus) -> Iterator[None]:
    """Put back at the end: the process may be a notebook that goes on."""
    unset = [name for name in VARIABLES if name not in os.environ] if cpus.is_limited else []
    os.environ.update({name: str(cpus.usable) for name in unset})
    try:
        with _loaded_held_to(cpus.usable) if len(unset) == len(VARIABLES) else nullcontext():
            yield
    finally:
        for name in unset:
            os.environ.pop(name, None)


def _loaded_held_to(threads: int) -> Any:
    """NumPy's BLAS is there already."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # comes with scikit-learn
        return nullcontext()
    return threadpool_limits(threads, user_api="blas")
