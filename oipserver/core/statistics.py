"""What Triton's statistics extension tells of each version: an observer that keeps plain numbers.

Triton, "Statistics Extension".  Every number only grows while the process lives; a duration is how often it
happened, and the time of all that together.  Of the requests that were answered it is told how long they
waited, were decoded, computed and encoded; those that were computed together count the whole call each.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from oipserver.core.observer import Ended, SilentObserver

# Batches of up to so many rows are told apart; larger ones are counted with the next power of two.
EXACT_ROWS = 1024


@dataclass(slots=True)
class Duration:
    """How often something happened, and how many seconds it took in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, count: int, seconds: float) -> None:
        """It happened so often, in so many seconds together."""
        self.count += count
        self.seconds += seconds

    @property
    def nanoseconds(self) -> int:
        """The seconds as the extension writes them."""
        return round(self.seconds * 1e9)


@dataclass(slots=True)
class VersionStatistics:
    """The numbers of one version.

    Attributes:
        last_inference: when the last inference ended, in milliseconds since 1970; 0 when none did.
        inference_count: rows that the model answered.
        execution_count: calls of the model that it answered.
        success, fail: requests, from admission to the encoded answer.
        queue, compute_input, compute_infer, compute_output: of the answered requests; input and output are
            what Triton counts there: bytes to tensors, and tensors to bytes.
        batches: seconds in the model by rows in the call.
    """

    last_inference: int = 0
    inference_count: int = 0
    execution_count: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    batches: defaultdict[int, Duration] = field(default_factory=lambda: defaultdict(Duration))


class Statistics(SilentObserver):
    """Listens to the core; see `oipserver.core.observer.Observer`.  Loop-only."""

    def __init__(self) -> None:
        self._versions: defaultdict[tuple[str, str], VersionStatistics] = defaultdict(VersionStatistics)

    def of(self, model: str, version: str) -> VersionStatistics:
        """The numbers of a version; all zero when nothing was heard of it."""
        return self._versions.get((model, version)) or VersionStatistics()

    def requests(self, ended: Ended) -> None:
        """Infer requests are over."""
        if not ended.version:
            return
        here, count = self._versions[ended.model, ended.version], len(ended.seconds)
        if ended.code != "OK":
            here.fail.add(count, sum(ended.seconds))
            return
        here.success.add(count, sum(ended.seconds))
        if (phases := ended.phases) is not None:
            here.queue.add(count, count * phases.queue)
            here.compute_input.add(count, count * phases.decode)
            here.compute_infer.add(count, count * phases.compute)
            here.compute_output.add(count, count * phases.encode)
        elif ended.rows:  # a stream's answers are computed for one caller alone, and so in no batch
            here.last_inference = _now()
            here.inference_count += count * ended.rows
            here.execution_count += count

    def batch(
        self,
        model: str,
        version: str,
        rows: int,
        compute_seconds: float,
        queue_seconds: Sequence[float],
        failed: bool = False,
    ) -> None:
        """One call of the model is over."""
        here = self._versions[model, version]
        here.last_inference = _now()
        if not failed:
            here.inference_count += rows
            here.execution_count += 1
            here.batches[_told_apart(rows)].add(1, compute_seconds)


def _now() -> int:
    """Milliseconds since 1970: the extension means the time of day."""
    return int(time.time() * 1000)


def _told_apart(rows: int) -> int:
    return rows if rows <= EXACT_ROWS else 1 << (rows - 1).bit_length()


def sections(numbers: VersionStatistics) -> Mapping[str, Duration]:
    """The members of `inference_stats`, by the extension's names; there is no response cache."""
    return {
        "success": numbers.success,
        "fail": numbers.fail,
        "queue": numbers.queue,
        "compute_input": numbers.compute_input,
        "compute_infer": numbers.compute_infer,
        "compute_output": numbers.compute_output,
        "cache_hit": Duration(),
        "cache_miss": Duration(),
    }
