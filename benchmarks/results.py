"""What a run found: medians over the rounds, ratios within a round."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.cases import COMPILED, COPY, LIMITS, OURS, PREDICT, Case, Sample, in_process
from benchmarks.models import CANCER
from benchmarks.starts import Start

OURS_COMPILED = f"{OURS}, compiled"


@dataclass(frozen=True, slots=True)
class Results:
    """What a run found.

    Attributes:
        samples: a sample for each round in which the case was measured.
        failures: by the case with one caller, see `measure.door_of`.
        notes: what a reader has to know besides.
    """

    about: Mapping[str, Any]
    samples: Mapping[Case, Sequence[Sample]]
    starts: Mapping[str, Sequence[Start]]
    failures: Mapping[Case, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def middle(self, case: Case, name: str) -> float | None:
        """The median of a field over the rounds; None where there is nothing to be told."""
        values = [getattr(sample, name) for sample in self.samples.get(case, ())]
        known = [value for value in values if value is not None and not math.isnan(value)]
        return median(known) if known else None

    def ratio(self, case: Case, other: Case, name: str = "rate") -> float | None:
        """A field of a case over that of another: the median of the ratios within each round."""
        pairs = zip(self.samples.get(case, ()), self.samples.get(other, ()), strict=False)
        found = [getattr(one, name) / value for one, two in pairs if (value := getattr(two, name))]
        found = [value for value in found if not math.isnan(value)]
        return median(found) if found else None

    @property
    def servers(self) -> list[str]:
        """All that were asked or should have been: ours, its peers, the limits."""
        known = dict.fromkeys(case.server for case in (*self.samples, *self.failures))
        peers = [name for name in known if name not in (OURS, *LIMITS)]
        return [name for name in (OURS, OURS_COMPILED, *peers, *LIMITS) if name in (*known, OURS_COMPILED)]

    def case_of(self, column: Case, server: str) -> Case:
        """The case in the row of a server."""
        if server in (PREDICT, COPY):
            return in_process(column.model, column.rows, server)
        if server == OURS_COMPILED and column.model == CANCER:
            return Case(COMPILED, column.front, OURS, column.callers, column.rows, column.form)
        return column.by(server)

    @property
    def figures(self) -> dict[Case | str, Sequence[Any]]:
        """Samples by their cases, and starts by their names."""
        return dict((*self.samples.items(), *self.starts.items()))
