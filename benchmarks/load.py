"""What all load clients share: a closed loop of callers, each asking again as soon as it is answered."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

# Callers that were not answered so long after the end are given up.
PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Span:
    """How long to load, in seconds; what is answered while warming up is not counted."""

    warm_up: float
    measured: float


class Tally:
    """The answers of one run.

    Attributes:
        latencies: seconds, of the right answers within the measured span.
        answers: all that came, warming up included.
        errors: wrong answers, lost connections, callers given up.
    """

    def __init__(self, span: Span) -> None:
        self.latencies: list[float] = []
        self.answers = 0
        self.errors = 0
        self._begin = perf_counter() + span.warm_up
        self._end = self._begin + span.measured

    def count(self, asked: float, right: bool) -> bool:
        """Take in one answer to a question asked at `asked`; whether the caller is to ask again."""
        now = perf_counter()
        self.answers += 1
        if not right:
            self.errors += 1
        elif self._begin <= now < self._end:
            self.latencies.append(now - asked)
        return now < self._end
