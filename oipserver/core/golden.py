"""Golden rows: requests whose answers are known from training.

Labels, booleans and texts must be equal.  Floating numbers may differ by `rtol` times the expected number
plus `atol`: a batch of another size is computed in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from oipserver.core.datatypes import BF16, FP16, FP32, Datatype
from oipserver.core.errors import printable
from oipserver.core.messages import Array, Parameters, Tensor, no_parameters

RTOL, ATOL = 1e-6, 1e-9
# These have few digits themselves.
_RTOL_OF_SHORT = {FP32: 1e-5, FP16: 1e-2, BF16: 1e-2}


@dataclass(frozen=True, slots=True)
class GoldenRow:
    """A request and its answer; of several rows, where the first axis is the batch.

    Attributes:
        outputs: by their declared names and datatypes; these are asked for, and no others.
        rtol, atol: None for the defaults: 1e-6 (FP32 1e-5, FP16 and BF16 1e-2) and 1e-9.
    """

    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    parameters: Parameters = field(default_factory=no_parameters)
    rtol: float | None = None
    atol: float | None = None

    def difference(self, expected: Array, came: Array, datatype: Datatype) -> str:
        """The first difference of two arrays in words; "" when they are the same within the tolerance."""
        if expected.shape != came.shape:
            return f"expected shape {list(expected.shape)}, got {list(came.shape)}"
        wrong = np.argwhere(~self._same(expected, came, datatype))
        if not len(wrong):
            return ""
        place = tuple(wrong[0].tolist())
        return f"expected {_shown(expected[place])}, got {_shown(came[place])}{_at(place, expected.shape)}"

    def _same(self, expected: Array, came: Array, datatype: Datatype) -> Array:
        if not datatype.is_float:
            return np.asarray(expected == came)
        rtol = _RTOL_OF_SHORT.get(datatype, RTOL) if self.rtol is None else self.rtol
        atol = ATOL if self.atol is None else self.atol
        wide, other = expected.astype(np.float64), came.astype(np.float64)
        return np.asarray(np.isclose(other, wide, rtol=rtol, atol=atol, equal_nan=True))


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return repr(printable(value[:64].decode("utf-8", "replace")))
    return str(value)


def _at(place: tuple[int, ...], shape: Sequence[int]) -> str:
    """Where it is, unless there is one place only."""
    return f" at {list(place)}" if max(shape, default=1) > 1 else ""
