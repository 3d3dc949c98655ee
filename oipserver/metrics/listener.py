"""The observer that counts, and all that a scrape shows.

Labels come from the configuration alone (model, version) or from fixed tables (front, route, code, state), so
no client can make a new series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from oipserver.core.admission import Gate
from oipserver.core.model_config import ModelConfig
from oipserver.core.observer import Ended, SilentObserver
from oipserver.core.registry import Registry
from oipserver.core.threads import in_daemon_thread
from oipserver.metrics import slo
from oipserver.metrics.counted import Counted
from oipserver.metrics.inside import Inside, of_versions
from oipserver.metrics.moment import Moment

if TYPE_CHECKING:
    from prometheus_client.core import Metric


class Metrics(SilentObserver):
    """Listens to the core; see `oipserver.core.observer.Observer`.

    Args:
        models: whose objectives are watched.
        triton_names: show what Triton would, too.
    """

    def __init__(self, models: Iterable[ModelConfig] = (), triton_names: bool = False) -> None:
        self._counted = Counted()
        self._promises = slo.promised_by(models)
        self._triton_names = triton_names
        self._inside: Callable[[], Inside | None] = lambda: None

    def watch(
        self, gate: Gate, models: Registry, release: str = "", dropped_lines: Callable[[], int] = int
    ) -> None:
        """Show what is inside now: requests in flight, queue depths, states.

        Args:
            release: of this server, for those who look at several.
            dropped_lines: how many lines the log has lost.
        """
        self._inside = lambda: Inside(
            gate.in_flight, release, dropped_lines(), of_versions(models.versions())
        )

    async def exposition(self, accept: str) -> tuple[str, bytes]:
        """Content type and text of everything, for a scraper that sent this Accept header.

        The numbers are of one moment; writing them down, which takes a while, is left to a thread.
        """
        shown = self.collect()
        return await in_daemon_thread(lambda: _written(shown, accept), "metrics")

    def collect(self) -> Iterator[Metric]:
        """Every family that is counted here, as it is now, whenever and wherever it is iterated."""
        counted, promises = self._counted.copy(), slo.kept(self._promises)
        return _shown(Moment(counted, promises, self._inside(), self._triton_names))

    def requests(self, ended: Ended) -> None:
        """Infer requests are over."""
        self._counted.doors[ended.front, ended.model, ended.version].ended(ended)
        if self._promises and (promised := self._promises.get((ended.model, ended.version))):
            promised.ended(ended.code, ended.seconds)

    def control(self, ended: Ended) -> None:
        """One request is over that asks for no inference."""
        self._counted.control[ended.front, ended.route, ended.code] += 1

    def batch(
        self,
        model: str,
        version: str,
        rows: int,
        compute_seconds: float,
        queue_seconds: Sequence[float],
        failed: bool = False,
    ) -> None:
        """One call of the model is over, with an answer or without."""
        here = self._counted.models[model, version]
        here.compute.observe(compute_seconds)
        here.rows.observe(rows)
        here.queue.observe_all(queue_seconds)
        here.request_seconds += compute_seconds * len(queue_seconds)


# The client library is not loaded before somebody looks, see `oipserver.metrics.shown`.


def _shown(moment: Moment) -> Iterator[Metric]:
    from oipserver.metrics.shown.families import families

    yield from families(moment)


def _written(shown: Iterable[Metric], accept: str) -> tuple[str, bytes]:
    from oipserver.metrics.shown.exposition import expose

    return expose(shown, accept)
