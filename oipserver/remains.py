"""What a model leaves behind when it was let go of, and how that comes back.

Most of it goes with the last reference.  What refers to itself waits for the collector, which looks past what
is frozen, libraries and the models that were there then; and the C library keeps free pages.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import TypeAlias

from oipserver.allocator import give_back
from oipserver.core.model import Model

logger = logging.getLogger("oipserver.remains")

# What is still there of an object that has gone, or None.
_Trace: TypeAlias = Callable[[], object]

# Seconds between a model's end and a look at what is left of it.
_PAUSE = 1.0
# To look at everything holds the process up, for 0.1 s with scikit-learn: so much of its time at most.
_SHARE = 0.01


class Remains:
    """Clears up after models; loop-only."""

    def __init__(self) -> None:
        self._planned: asyncio.TimerHandle | None = None
        self._cost = 0.0
        self._gone: list[_Trace] = []

    def left(self, model: Model) -> None:
        """A model has gone: clear up what is new at once; what was frozen soon, for several models once."""
        loop = asyncio.get_running_loop()
        self._gone += traces_of(model)
        loop.call_soon(gc.collect)  # when those who say so have let go of it, too
        if self._planned is None:
            self._planned = loop.call_later(max(_PAUSE, self._cost / _SHARE), self._clear)

    def _clear(self) -> None:
        self._planned = None
        gone, self._gone = self._gone, []
        if any(trace() is not None for trace in gone):
            self._look_at_everything()
        else:
            logger.debug("what went left nothing behind")
        threading.Thread(target=give_back, name="give-back", daemon=True).start()

    def _look_at_everything(self) -> None:
        began = time.thread_time()
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._cost = time.thread_time() - began
        logger.debug("looked for what was left behind for %.3f s", self._cost)


def traces_of(model: Model) -> list[_Trace]:
    """What tells later whether the model has gone with all that it holds."""
    if not model.holds:
        return [lambda: True]  # nobody knows
    try:
        return [weakref.ref(each) for each in (model, *model.holds)]
    except TypeError:  # something leaves no trace
        return [lambda: True]
