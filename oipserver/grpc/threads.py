"""Threads for grpcio, whose one reading thread must not die of what it hands them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)


class Threads(ThreadPoolExecutor):
    """A pool whose `submit` never raises; one thread is there from the start, so that work is always done.

    grpcio submits from the thread that reads all events of a server, and an exception there ends it: no
    call is answered any more.
    """

    def __init__(self, count: int, name: str) -> None:
        super().__init__(count, name)
        super().submit(int)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have `fn` run soon; after `shutdown`, never."""
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError as error:
            # Where no thread could be started the work is queued already, and a busy one will take it.
            log.warning("%s: %s", self._thread_name_prefix, error)
            unknown: Future[T] = Future()
            unknown.cancel()
            return unknown
