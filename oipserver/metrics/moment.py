"""What one scrape tells: taken on the event loop, and written down by another thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from oipserver.metrics.counted import Counted
from oipserver.metrics.inside import Inside
from oipserver.metrics.slo import Promise


class Moment(NamedTuple):
    """The numbers of one moment, which do not change any more.

    Attributes:
        inside: None where nobody said what to watch.
        triton_names: show what Triton would, too.
    """

    counted: Counted
    promises: Sequence[Promise]
    inside: Inside | None
    triton_names: bool
