"""Who is inside: every infer request is admitted once, before its body is read, and ends once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from oipserver.core.errors import NotReady
from oipserver.core.model_config import ModelConfig
from oipserver.core.observer import Observer


class Admission:
    """One infer request inside the server.

    Attributes:
        model, version: empty until `of`, so that no client text ever becomes a metric label.
    """

    __slots__ = ("_front", "_gate", "_started", "model", "version")

    def __init__(self, gate: Gate, front: str) -> None:
        self.model = ""
        self.version = ""
        self._front = front
        self._gate: Gate | None = gate
        self._started = time.perf_counter()

    def of(self, config: ModelConfig) -> None:
        """The request is for a known model."""
        self.model = config.name
        self.version = config.version

    def finish(self, code: str) -> None:
        """The answer is out, with "OK" or a fault's code; later calls do nothing."""
        gate, self._gate = self._gate, None
        if gate is not None:
            seconds = time.perf_counter() - self._started
            gate.left(self._front, self.model, self.version, code, (seconds,))


class Gate:
    """Counts the requests inside and refuses new ones while draining.

    Loop-only, but for `draining`: a plain bool that any thread may read.

    Attributes:
        stopping: the end has begun: not ready any more, but requests are still taken (lame duck).
        draining: new requests are refused.
    """

    def __init__(self, observer: Observer) -> None:
        self.stopping = False
        self.draining = False
        self.in_flight = 0
        self._observer = observer
        self._empty = asyncio.Event()

    def admit(self, front: str, on_behalf: bool = False) -> Admission:
        """Let one request in.

        Args:
            on_behalf: it comes from one that is inside already, which the drain waits for.

        Raises:
            NotReady: the server is draining.
        """
        if self.draining and not on_behalf:
            raise NotReady("the server is shutting down")
        self.in_flight += 1
        return Admission(self, front)

    def admit_together(self, requests: int) -> None:
        """Let so many in, of which somebody else keeps account; each must be `left` once.

        Raises:
            NotReady: the server is draining.
        """
        if self.draining:
            raise NotReady("the server is shutting down")
        self.in_flight += requests

    def left(self, front: str, model: str, version: str, code: str, seconds: Sequence[float]) -> None:
        """Requests that ended alike have left, each `seconds` after it came."""
        self.in_flight -= len(seconds)
        self._observer.requests(front, model, version, code, seconds)
        if self.draining and not self.in_flight:
            self._empty.set()

    async def drain(self) -> None:
        """Refuse new requests and wait until the last one inside has left."""
        self.stopping = self.draining = True
        if self.in_flight:
            await self._empty.wait()
