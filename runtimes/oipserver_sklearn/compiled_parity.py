"""Whether a compiled model answers as scikit-learn does: both are asked about the same rows.

Rule: labels are equal.  A number may differ by `tolerance` times itself, or times a millionth of the largest
number in its row, where that is more: a probability of 1e-20 is what rounding left of a difference.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oipserver import Array
from oipserver_sklearn.outputs import dense

_SMALL = 1e-6


@dataclass(frozen=True, slots=True)
class Compared:
    """What was compared.

    Attributes:
        rows: of these, `real_rows` came with the model, the others were made up.
        difference: the largest, in units of the rule above.
    """

    rows: int
    real_rows: int
    difference: float


class Different(Exception):
    """The answers are not the same; the text says where."""


def compare(
    native: Callable[[Any], Any],
    compiled: Callable[[Any], Any],
    real: Sequence[Any],
    generated: Sequence[Any],
    tolerance: float,
    seconds: float,
) -> Compared:
    """Ask both about blocks of rows, the real ones first, for about `seconds`; one block at least.

    Raises:
        Different: some answer is not the same within `tolerance`, or one of the two refuses a block.
    """
    end, rows, real_rows, worst = time.monotonic() + seconds, 0, 0, 0.0
    for block, is_real in [*((one, True) for one in real), *((one, False) for one in generated)]:
        with np.errstate(all="ignore"):
            worst = max(worst, _difference(_asked(native, block), compiled(block)))
        rows, real_rows = rows + len(block), real_rows + is_real * len(block)
        if worst > tolerance:
            kind = "a real row" if is_real else "a made-up row"
            raise Different(f"a number differs by {worst:.1e} of itself on {kind}, above {tolerance:g}")
        if time.monotonic() > end:
            break
    return Compared(rows, real_rows, worst)


def _asked(native: Callable[[Any], Any], block: Any) -> Any:
    try:
        return native(block)
    except (ValueError, TypeError) as error:
        raise Different(f"scikit-learn refuses rows that are answered when compiled: {error}") from error


def _difference(native: Any, compiled: Array) -> float:
    """The largest difference of two answers as a share of the number; infinity for another label."""
    native = dense(native)
    if native.shape != compiled.shape:
        raise Different(f"the shape is {list(compiled.shape)}, not {list(native.shape)}")
    if native.dtype.kind != "f":
        if not np.asarray(native == compiled).all():
            raise Different("labels are not the same")
        return 0.0
    with np.errstate(all="ignore"):
        size = np.abs(native).reshape(len(native), -1)
        unit = np.maximum(size, _SMALL * size.max(axis=1, keepdims=True)).reshape(native.shape)
        apart = np.abs(native - compiled) / unit
    same = (native == compiled) | (np.isnan(native) & np.isnan(compiled))
    return float(np.where(same, 0.0, np.nan_to_num(apart, nan=np.inf)).max(initial=0.0))
