"""An event loop on a thread of its own, for a user's async functions: the server's loop is not theirs."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger("oipserver.python")

_PATIENCE = 2.0


class LoopThread:
    """Runs coroutines one beside the other, as many as threads wait; the thread starts with the first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._closed = self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread

    def finish(self, value: Any) -> Any:
        """What an awaitable comes to; any other value is returned as it is."""
        return self.run(value) if inspect.isawaitable(value) else value

    def run(self, awaitable: Awaitable[T]) -> T:
        """What it returns or raises; to be called from any other thread."""
        loop = self._started()
        return asyncio.run_coroutine_threadsafe(_contained(awaitable), loop).result()

    def close(self) -> None:
        """Cancel what still runs, give it a moment to end, and stop."""
        with self._lock:
            self._closed = True
            loop = self._loop
        if loop is None:
            return
        try:
            asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result(_PATIENCE)
        except TimeoutError:
            log.warning("an async function of '%s' does not end when it is cancelled", self._name)
        self._stopping = True
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(_PATIENCE)
        if not self._thread.is_alive():
            loop.close()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise RuntimeError(f"model '{self._name}' is closed")
            if self._loop is None:
                self._loop = loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._turn, args=(loop,), name=f"{self._name}-async", daemon=True
                )
                self._thread.start()
            return self._loop

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopping:
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt):  # of a task that the user's code began
                log.exception("a task of an async function tried to end the process")


async def _contained(awaitable: Awaitable[T]) -> T:
    """asyncio lets these two end the loop; of a user's function they are failures like any other."""
    try:
        return await awaitable
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"raised {error!r}") from error


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
