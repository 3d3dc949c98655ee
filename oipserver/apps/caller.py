"""On whose behalf a thread asks the models: until when an answer is of use, and how to give it up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar


class Caller:
    """One request to a user's handler.  Any thread may use it.

    Args:
        deadline: in the event loop's time; after it nobody waits.
    """

    def __init__(self, deadline: float = float("inf")) -> None:
        self.deadline = deadline
        self._lock = threading.Lock()
        self._give_up: Callable[[], object] | None = None
        self._gone = False

    def leave(self) -> None:
        """Nobody waits any more: what is asked now, and what will be asked, is cancelled."""
        with self._lock:
            self._gone = True
            give_up = self._give_up
        if give_up is not None:
            with suppress(RuntimeError):  # the event loop is closed
                give_up()

    def waits_for(self, give_up: Callable[[], object] | None) -> None:
        """What to call when the caller leaves, at once if it has; None when it waits for nothing."""
        with self._lock:
            self._give_up = give_up
            gone = self._gone
        if gone and give_up is not None:
            give_up()


CALLER: ContextVar[Caller | None] = ContextVar("CALLER", default=None)
