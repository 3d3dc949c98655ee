"""What serves in a thread of its own, with its own event loop, while tests ask it from theirs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, Self, TypeVar

import uvloop

from tests.support import PATIENCE, until

T = TypeVar("T")


class InThread:
    """Enter it to start, leave it to stop; `serving` says what that means.

    Attributes:
        loop: the one that the server uses.
    """

    loop: asyncio.AbstractEventLoop
    _end: asyncio.Event

    def __init__(self) -> None:
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def serving(self) -> AbstractAsyncContextManager[None]:
        """Entered on the loop; what is inside it is started."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.result(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What a coroutine returns on the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)

    def call(self, function: Callable[[], T]) -> T:
        """The result of `function`, called on the loop."""

        async def run() -> T:
            return function()

        return self.run(run())

    def until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition`, looked at with every turn of the loop, holds."""
        self.run(until(condition))

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        async with self.serving():
            self._started.set_result(None)
            await self._end.wait()
