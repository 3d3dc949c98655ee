"""Ends the calls that hold something of ours for too long while they wait for their peer.

A thread waits while a message arrives, and an answer is kept until it is read: peers that never send, or
never read, would hold every thread and fill the memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from oipserver.core.errors import BadRequest

PERIOD_SECONDS = 0.5


class Patience:
    """The calls whose peer has to do something, and until when.  Any thread may use it."""

    def __init__(self) -> None:
        self._until: dict[grpc.ServicerContext, float] = {}

    def start(self, context: grpc.ServicerContext, seconds: float) -> None:
        """Cancel the call in `seconds`, unless `stop` comes first."""
        self._until[context] = time.monotonic() + seconds

    def stop(self, context: grpc.ServicerContext) -> None:
        """The peer has done its part."""
        self._until.pop(context, None)

    @contextmanager
    def limit(self, context: grpc.ServicerContext, seconds: float) -> Iterator[None]:
        """Cancel the call when the body of the `with` statement lasts longer than `seconds`."""
        self.start(context, seconds)
        try:
            yield
        finally:
            self.stop(context)

    def receive(self, messages: Iterator[bytes], context: grpc.ServicerContext, seconds: float) -> bytes:
        """The one message of a unary call.

        Raises:
            BadRequest: the caller closed its side without one.
            grpc.RpcError: the call is over.
        """
        with self.limit(context, seconds):
            message = next(messages, None)
        if message is None:
            raise BadRequest("the call brought no message")
        return message

    def cancel_late(self, now: float) -> None:
        """Cancel the calls whose time was over at `now` (monotonic)."""
        # Other threads add and remove meanwhile; a copy is made in one step.
        for context, until in self._until.copy().items():
            if until < now:
                self.stop(context)
                context.cancel()  # type: ignore[no-untyped-call]

    async def watch(self) -> None:
        """Look for late calls until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            self.cancel_late(time.monotonic())
