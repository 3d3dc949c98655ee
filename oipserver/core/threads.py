"""Blocking work off the event loop, on threads that never keep the process from ending."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_daemon_thread(function: Callable[[], T], name: str) -> T:
    """What `function` returns or raises, run on a daemon thread of its own.

    `asyncio.to_thread` would be joined at exit, so that one hanging load could hold up the end.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # a T whenever there is no error

    def run() -> None:
        result, error = None, None
        try:
            result = function()
        except BaseException as caught:  # SystemExit of foreign code must not vanish with its thread
            error = caught if isinstance(caught, Exception) else RuntimeError(repr(caught))
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    threading.Thread(target=run, name=name, daemon=True).start()
    return await future
