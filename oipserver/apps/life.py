"""The life of the user's apps: started when the models are loaded, stopped when the last request is out."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from oipserver.apps.app import Handler
from oipserver.apps.arguments import wanted
from oipserver.apps.lifespan import Lifespan
from oipserver.apps.loading import AppError, LoadedApp
from oipserver.apps.models import Models
from oipserver.apps.threads import HandlerThreads
from oipserver.core.errors import printable
from oipserver.core.threads import in_daemon_thread

logger = logging.getLogger("oipserver.apps")


class Apps:
    """All apps of a server.

    Attributes:
        models: what their handlers are given.
        threads: where their plain functions run.
        reason: why they do not serve now, in words; "" when they do.

    Raises:
        AppError: a hook takes what there is not.
    """

    def __init__(self, loaded: Sequence[LoadedApp], models: Models) -> None:
        self.loaded = loaded
        self.models = models
        self.threads = HandlerThreads()
        self.reason = "the app is starting" if loaded else ""
        # By identity: one application may be mounted at two paths, and lives once.
        self._lifespans: dict[int, Lifespan] = {}
        self._started: list[Callable[[], Coroutine[Any, Any, None]]] = []
        for one in loaded:
            for mount in one.app.mounts:
                self._lifespans[id(mount.asgi)] = Lifespan(mount.asgi, {"models": models})
            for hook in (*one.app.start_hooks, *one.app.stop_hooks):
                try:
                    wanted(hook, ("models",))
                except TypeError as error:
                    raise AppError(f"app {one.name}: {error}") from None

    @property
    def names(self) -> list[str]:
        """For a line of the log."""
        return [f"app {one.name}" for one in self.loaded]

    def state_of(self, asgi: Handler) -> dict[str, Any]:
        """What a mounted application finds in `scope["state"]`: the models, and what its startup adds."""
        return self._lifespans[id(asgi)].state

    async def start(self) -> None:
        """Start every app, one after the other; a failure is the reason why none serves."""
        for one in self.loaded:
            try:
                await self._start(one)
            except Exception as error:
                logger.error("app %s failed to start: %s", one.name, error or type(error).__name__)
                logger.debug("traceback", exc_info=error)
                self.reason = printable(
                    f"app {one.name} failed to start: {error or type(error).__name__}", 1024
                )
                return
        self.reason = ""

    async def stop(self, seconds: float) -> None:
        """Stop what was started, the last first; what does not end in time is left."""
        try:
            async with asyncio.timeout(seconds):
                while self._started:
                    await self._stop_one(self._started.pop())
        except TimeoutError:
            logger.warning("an app did not stop in %g s", seconds)
        self.threads.close()

    async def _start(self, one: LoadedApp) -> None:
        for mount in one.app.mounts:
            lifespan = self._lifespans[id(mount.asgi)]
            self._started.append(lifespan.stop)
            await lifespan.start()
        self._started.append(lambda: self._call_all(one.app.stop_hooks[::-1]))
        for hook in one.app.start_hooks:
            await self._call(hook)

    async def _stop_one(self, stop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await stop()
        except Exception:
            logger.exception("an app failed to stop")

    async def _call_all(self, hooks: Sequence[Handler]) -> None:
        for hook in hooks:
            try:
                await self._call(hook)
            except Exception:
                logger.exception("a function that was to run at the stop failed")

    async def _call(self, hook: Handler) -> None:
        """A hook, on the loop when it is a coroutine function, else on a thread."""
        arguments = {"models": self.models} if wanted(hook, ("models",)) else {}
        if inspect.iscoroutinefunction(hook):
            try:
                await hook(**arguments)
            except (SystemExit, KeyboardInterrupt) as error:  # would end the loop
                raise RuntimeError(repr(error)) from error
        else:
            await in_daemon_thread(lambda: hook(**arguments), "app-hook")
