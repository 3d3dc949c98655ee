"""What a model leaves behind when it was let go of, and how that comes back.

Most of it goes with the last reference.  What refers to itself waits for the collector, which looks past what
is frozen, libraries and the models that were there then; and the C library keeps free pages.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time

from oipserver.allocator import give_back

# Seconds between a model's end and a look at everything.
_PAUSE = 1.0
# That holds the process up (for 0.1 s with scikit-learn): so much of its time may go into it.
_SHARE = 0.01


class Remains:
    """Clears up after models; loop-only."""

    def __init__(self) -> None:
        self._planned: asyncio.TimerHandle | None = None
        self._cost = 0.0

    def left(self) -> None:
        """A model has gone: clear up what is new at once; what was frozen soon, for several models once."""
        gc.collect()
        if self._planned is None:
            pause = max(_PAUSE, self._cost / _SHARE)
            self._planned = asyncio.get_running_loop().call_later(pause, self._clear)

    def _clear(self) -> None:
        self._planned = None
        began = time.thread_time()
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._cost = time.thread_time() - began
        threading.Thread(target=give_back, name="give-back", daemon=True).start()
