"""The native thread pools, held to the CPUs that this process may use."""

from __future__ import annotations

import threading

from threadpoolctl import ThreadpoolController


class ThreadBudget:
    """Holds the thread pools of the native libraries loaded so far to a number of threads; never raises them.

    BLAS has one pool in the process, which may use all `cpus`.  OpenMP has one for each thread that computes,
    so that several of them share the CPUs.

    Args:
        instances: threads that compute at the same time.

    Attributes:
        per_call: threads that one of them may use.
    """

    def __init__(self, cpus: int, instances: int = 1) -> None:
        self.per_call = max(1, cpus // instances)
        controller = ThreadpoolController()
        self.pools = sorted({library.internal_api for library in controller.lib_controllers})
        self._openmp = controller.select(user_api="openmp")
        self._thread = threading.local()
        _bound(controller, cpus)

    def enter(self) -> None:
        """To be called in each thread that computes: OpenMP keeps its bound per thread, BLAS per process."""
        if not hasattr(self._thread, "bounded"):
            _bound(self._openmp, self.per_call)
            self._thread.bounded = True


def _bound(controller: ThreadpoolController, threads: int) -> None:
    for library in controller.lib_controllers:
        library.set_num_threads(min(library.num_threads or threads, threads))
