"""Threads for handlers that are a plain `def`: never the event loop, and never somebody else's threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar

from oipserver.apps.caller import CALLER, Caller
from oipserver.core.errors import Overloaded

T = TypeVar("T")

THREADS = 32
# Requests that may wait for one of them; one more is refused.
MOST_WAITING = 512


class HandlerThreads:
    """A bounded number of threads with a bounded queue.  Loop-only."""

    def __init__(self, threads: int = THREADS, most_waiting: int = MOST_WAITING) -> None:
        self._pool = ThreadPoolExecutor(threads, "app")
        self._free = asyncio.Semaphore(threads)
        self._most_waiting = most_waiting
        self._waiting = 0

    async def run(self, function: Callable[[], T], caller: Caller) -> T:
        """What `function` returns or raises; it finds its caller as `CALLER`.

        Raises:
            Overloaded: too many wait already.
        """
        if self._waiting >= self._most_waiting:
            raise Overloaded(f"{self._waiting} requests wait for a thread already")
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        loop = asyncio.get_running_loop()
        future = self._pool.submit(_call, function, caller)
        # When the thread is free, which may be long after the caller has left.
        future.add_done_callback(lambda _: _soon(loop, self._free.release))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Let idle threads end, and forget what has not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _soon(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(function)


def _call(function: Callable[[], T], caller: Caller) -> T:
    def run() -> T:
        CALLER.set(caller)
        try:
            return function()
        except (SystemExit, KeyboardInterrupt) as error:  # would end the event loop that waits for it
            raise RuntimeError(repr(error)) from error
        except StopIteration as error:  # cannot pass through a future
            raise RuntimeError("the handler raised StopIteration") from error

    return copy_context().run(run)
