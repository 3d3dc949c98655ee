"""Rows of several callers as one batch, and back.  `split(merge(xs)) == xs`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from oipserver.core.messages import Array


def merge(inputs: Sequence[Mapping[str, Array]]) -> Mapping[str, Array]:
    """Concatenate along the first axis; every mapping has the same names, dtypes and trailing shapes."""
    if len(inputs) == 1:
        return inputs[0]
    return {name: np.concatenate([arrays[name] for arrays in inputs]) for name in inputs[0]}


def split(outputs: Mapping[str, Array], rows: Sequence[int]) -> Iterator[Mapping[str, Array]]:
    """Views of `outputs`, one mapping per caller; the first axis of every output has `sum(rows)` entries."""
    start = 0
    for count in rows:
        yield {name: array[start : start + count] for name, array in outputs.items()}
        start += count
