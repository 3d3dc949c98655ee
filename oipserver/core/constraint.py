"""What a model declares of the values in a tensor: ranges, categories, lengths.

A value that breaks it is UNPROCESSABLE in a request and INFERENCE_FAILED in an answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from oipserver.core.errors import printable
from oipserver.core.messages import Array

Category = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Constraint:
    """Declared limits; each is None, or empty, where there is none.

    Attributes:
        minimum, maximum: of every number, both included; NaN is outside of any range.
        categories: the only values that may occur; strings stand for their UTF-8 bytes.
        min_length, max_length: bytes of every element of a BYTES tensor, both included.
    """

    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[Category, ...] = ()
    min_length: int | None = None
    max_length: int | None = None

    def violation(self, array: Array) -> str | None:
        """The first value that breaks it, in words: "holds 7, expected at most 5"; None when all is well."""
        if not array.size:
            return None
        if array.dtype.hasobject:
            return self._of_bytes(array)
        return self._outside(array) or self._unknown(array)

    def plainest(self, text: bool) -> Category | bytes:
        """The value nearest to 0, or to the empty text, that breaks nothing."""
        if self.categories:
            first = self.categories[0]
            return first.encode() if isinstance(first, str) else first
        if text:
            return b" " * (self.min_length or 0)
        low = 0 if self.minimum is None or self.minimum <= 0 else math.ceil(self.minimum)
        return low if self.maximum is None else min(low, self.maximum)

    def _outside(self, array: Array) -> str | None:
        if self.minimum is not None and not (inside := array >= _exact(self.minimum, array, math.ceil)).all():
            return f"holds {array[~inside].flat[0]}, expected at least {self.minimum}"
        if (
            self.maximum is not None
            and not (inside := array <= _exact(self.maximum, array, math.floor)).all()
        ):
            return f"holds {array[~inside].flat[0]}, expected at most {self.maximum}"
        return None

    def _unknown(self, array: Array) -> str | None:
        # Of the tensor's own type: 0.1 is another number in FP32, and large integers are none in FP64.
        if self.categories and not (known := np.isin(array, np.array(self.categories, array.dtype))).all():
            return f"holds {array[~known].flat[0]}, expected one of {self._listed()}"
        return None

    def _of_bytes(self, array: Array) -> str | None:
        allowed = {category.encode() for category in self.categories if isinstance(category, str)}
        for element in array.flat:
            if self.min_length is not None and len(element) < self.min_length:
                return f"holds an element of {len(element)} bytes, expected at least {self.min_length}"
            if self.max_length is not None and len(element) > self.max_length:
                return f"holds an element of {len(element)} bytes, expected at most {self.max_length}"
            if allowed and element not in allowed:
                shown = printable(element.decode(errors="replace"))
                return f"holds '{shown}', expected one of {self._listed()}"
        return None

    def _listed(self) -> str:
        listed = [f"'{printable(str(category))}'" for category in self.categories[:20]]
        return ", ".join(listed) + (" and others" if len(self.categories) > 20 else "")


def _exact(limit: float, array: Array, to_integer: Callable[[float], int]) -> float | np.float64:
    """The limit as a number that numpy compares with the array without rounding integers or overflow."""
    if array.dtype.kind in "iu":
        return to_integer(limit) if math.isfinite(limit) else limit
    return np.float64(limit) if abs(limit) > float(np.finfo(array.dtype).max) else limit
