"""The events that metrics (and later traces and logs) listen to.  The core only reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from oipserver.core.messages import ModelState


class Observer(Protocol):
    """Receives facts, on the event loop, and must neither block nor raise.  Durations are seconds."""

    def requests(self, front: str, model: str, version: str, code: str, seconds: Sequence[float]) -> None:
        """Infer requests are over that ended alike; `seconds` has one entry for each.

        Args:
            front: "http" or "grpc".
            model: empty when the request named no known model; so is `version`.
            code: "OK" or a fault's code.
        """

    def batch(
        self, model: str, version: str, rows: int, compute_seconds: float, queue_seconds: Sequence[float]
    ) -> None:
        """One call of `predict` is over; `queue_seconds` has one entry per request in it."""

    def state(self, model: str, version: str, state: ModelState) -> None:
        """A version entered `state`."""


class SilentObserver:
    """Listens to nothing; for tests and embedding."""

    def requests(self, front: str, model: str, version: str, code: str, seconds: Sequence[float]) -> None: ...

    def batch(
        self, model: str, version: str, rows: int, compute_seconds: float, queue_seconds: Sequence[float]
    ) -> None: ...

    def state(self, model: str, version: str, state: ModelState) -> None: ...
