"""The ASGI lifespan protocol (version 2.0) of one mounted application."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from oipserver.apps.app import Handler

logger = logging.getLogger("oipserver.apps")


class Lifespan:
    """Startup and shutdown of an application; one that knows no lifespan is served all the same.

    Attributes:
        state: what the application may fill at startup; each request gets a copy.
    """

    def __init__(self, asgi: Handler, state: dict[str, Any]) -> None:
        self.state = state
        self._asgi = asgi
        self._task: asyncio.Task[None] | None = None
        self._shutdown = asyncio.Event()
        self._asked = False
        self._answer: asyncio.Future[str]  # "" or why it failed

    async def start(self) -> None:
        """Run the startup; once.

        Raises:
            RuntimeError: the application says that it failed.
        """
        if self._task is not None:
            return
        self._answer = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run())
        if reason := await self._answer:
            raise RuntimeError(reason)

    async def stop(self) -> None:
        """Run the shutdown of what was started."""
        if self._task is None or self._task.done():
            return
        self._shutdown.set()
        try:
            await self._task
        finally:
            self._task.cancel()

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._asgi(scope, self._receive, self._send)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            # Lifespan Protocol, "Scope": an application that raises has no lifespan, and is served without.
            logger.debug("lifespan ended", exc_info=error)
            if self._shutdown.is_set():
                logger.exception("an app failed to stop")
        self._settle("")

    async def _receive(self) -> dict[str, str]:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self._shutdown.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self._settle("")
        elif kind == "lifespan.startup.failed":
            self._settle(_last_line(message.get("message", "")) or "its startup failed")
        elif kind == "lifespan.shutdown.failed":
            logger.error("an app failed to stop: %s", _last_line(message.get("message", "")))

    def _settle(self, reason: str) -> None:
        if not self._answer.done():
            self._answer.set_result(reason)


def _last_line(text: str) -> str:
    """Starlette sends a whole traceback, whose last line says what happened."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
