"""The observer that counts, and all that a scrape shows.

Labels come from the configuration alone (model, version) or from fixed tables (front, route, code, state), so
no client can make a new series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client.core import Metric

from oipserver.core.admission import Gate
from oipserver.core.model_config import ModelConfig
from oipserver.core.observer import Ended, SilentObserver
from oipserver.core.registry import Registry
from oipserver.core.threads import in_daemon_thread
from oipserver.metrics import inside, slo, triton
from oipserver.metrics.counted import Counted
from oipserver.metrics.exposition import expose
from oipserver.metrics.families import families


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
        self._inside: Callable[[], Iterator[Metric]] = lambda: iter(())
        self._depths: Callable[[], dict[tuple[str, str], int]] = dict

    def watch(
        self, gate: Gate, models: Registry, release: str = "", dropped_lines: Callable[[], int] = int
    ) -> None:
        """Show what is inside now: requests in flight, queue depths, states.

        Args:
            release: of this server, for those who look at several.
            dropped_lines: how many lines the log has lost.
        """

        def now() -> Iterator[Metric]:
            yield from inside.of_server(gate.in_flight, release, dropped_lines())
            yield from inside.of_models(models.versions())

        self._inside = now
        self._depths = lambda: inside.depths(models.versions())

    async def exposition(self, accept: str) -> tuple[str, bytes]:
        """Content type and text of everything, for a scraper that sent this Accept header.

        The numbers are of one moment; writing them down, which takes a while, is left to a thread.
        """
        shown = self.collect()
        return await in_daemon_thread(lambda: expose(shown, accept), "metrics")

    def collect(self) -> Iterator[Metric]:
        """Every family that is counted here, as it is now, whenever and wherever it is iterated."""
        counted, depths = self._counted.copy(), self._depths()
        now = [*slo.families(self._promises), *self._inside()]

        def shown() -> Iterator[Metric]:
            yield from families(counted)
            yield from now
            if self._triton_names:
                yield from triton.families(counted, depths)

        return shown()

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
