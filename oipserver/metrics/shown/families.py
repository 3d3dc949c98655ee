"""Everything that is counted here, in the order in which it is shown."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric

from oipserver.metrics.moment import Moment
from oipserver.metrics.shown import counted, inside, slo, triton


def families(moment: Moment) -> Iterator[Metric]:
    """The families one by one."""
    yield from counted.families(moment.counted)
    yield from slo.families(moment.promises)
    if moment.inside is not None:
        yield from inside.families(moment.inside)
    if moment.triton_names:
        versions = moment.inside.versions if moment.inside is not None else ()
        yield from triton.families(moment.counted, {each.labels: each.depth for each in versions})
