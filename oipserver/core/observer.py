"""The events that metrics, logs and traces listen to.  The core and the fronts only report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from oipserver.core.messages import ModelState


@dataclass(slots=True)
class Phases:
    """Where the time of an answered infer request went, in seconds.

    Attributes:
        decode: bytes to checked tensors.
        queue: from the queue to the start of its batch.
        compute: the call of the model that answered it, which it may share with others.
        encode: arrays to bytes.
        batch_rows: rows in that call.
        started: when it began, by `time.monotonic`; requests of one version with the same one shared it.
    """

    decode: float = 0.0
    queue: float = 0.0
    compute: float = 0.0
    encode: float = 0.0
    batch_rows: int = 0
    started: float = 0.0


@dataclass(slots=True)
class Ended:
    """Requests that are over and ended alike; mostly one.

    What one value stands for holds for each of them; a sequence has one entry for each, or none at all.

    Attributes:
        front: "http", "grpc"; "app-http", "app-grpc" for custom routes, "app" for what these ask of models.
        route: a path template or an RPC's name, never a client's text.
        model: empty when the request named no known model; so is `version`.
        code: "OK" or a fault's code.
        seconds: from admission to the encoded answer.
        ids: as their callers see them.
        callers: names of keys or certificates; empty where nobody is asked.
        phases: shared by all (they were computed together); None when there is no answer of a model.
        rows: of one request; 0 when it was not read so far.
        sizes: bytes of the bodies.
        traces: the callers' `traceparent`, checked; "" for none.
    """

    front: str
    route: str
    model: str
    version: str
    code: str
    seconds: Sequence[float]
    ids: Sequence[str] = ()
    callers: Sequence[str] = ()
    phases: Phases | None = None
    rows: int = 0
    sizes: Sequence[int] = ()
    traces: Sequence[str] = ()


class Observer(Protocol):
    """Receives facts, on the event loop, and must neither block nor raise.  Durations are seconds."""

    def requests(self, ended: Ended) -> None:
        """Infer requests are over."""

    def control(self, ended: Ended) -> None:
        """One request is over that asks for no inference: health, metadata, index, statistics, no route."""

    def batch(
        self,
        model: str,
        version: str,
        rows: int,
        compute_seconds: float,
        queue_seconds: Sequence[float],
        failed: bool = False,
    ) -> None:
        """One call of `predict` is over; `queue_seconds` has one entry per request in it.

        Args:
            failed: nobody was answered with it; some of the requests may be tried again.
        """

    def state(self, model: str, version: str, state: ModelState) -> None:
        """A version entered `state`."""


class SilentObserver:
    """Listens to nothing; for tests and embedding."""

    def requests(self, ended: Ended) -> None: ...

    def control(self, ended: Ended) -> None: ...

    def batch(
        self,
        model: str,
        version: str,
        rows: int,
        compute_seconds: float,
        queue_seconds: Sequence[float],
        failed: bool = False,
    ) -> None: ...

    def state(self, model: str, version: str, state: ModelState) -> None: ...


class Observers:
    """Tells several listeners, in turn; of each kind of fact, those who listen to it."""

    def __init__(self, listeners: Sequence[Observer]) -> None:
        self._requests = [each.requests for each in _who_hears(listeners, "requests")]
        self._control = [each.control for each in _who_hears(listeners, "control")]
        self._batch = [each.batch for each in _who_hears(listeners, "batch")]
        self._state = [each.state for each in _who_hears(listeners, "state")]

    def requests(self, ended: Ended) -> None:
        """Infer requests are over."""
        for tell in self._requests:
            tell(ended)

    def control(self, ended: Ended) -> None:
        """A request that asks for no inference is over."""
        for tell in self._control:
            tell(ended)

    def batch(
        self,
        model: str,
        version: str,
        rows: int,
        compute_seconds: float,
        queue_seconds: Sequence[float],
        failed: bool = False,
    ) -> None:
        """One call of `predict` is over."""
        for tell in self._batch:
            tell(model, version, rows, compute_seconds, queue_seconds, failed)

    def state(self, model: str, version: str, state: ModelState) -> None:
        """A version entered `state`."""
        for tell in self._state:
            tell(model, version, state)


def _who_hears(listeners: Sequence[Observer], what: str) -> list[Observer]:
    deaf = getattr(SilentObserver, what)
    return [each for each in listeners if getattr(type(each), what) is not deaf]
