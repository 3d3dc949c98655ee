"""The highest values of an output, with their indices and labels, in place of the output.

Triton, "Classification Extension": the output parameter `classification: k` makes of each row a list of k
texts "value:index" or "value:index:label", the highest value first.  The labels are those that the model
announces for the output's columns, e.g. scikit-learn's `classes_` for `predict_proba`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from oipserver.core.datatypes import BYTES, Datatype
from oipserver.core.errors import BadRequest, printable
from oipserver.core.messages import Array, Tensor, TensorMetadata

# Texts in one answer: they are written one by one on the event loop, in about 10 ms then.
MAX_CLASSES = 2**14


class Classification:
    """How one output of one request, or of requests like it, is to be answered.

    Args:
        count: how many values of each row, at most.
    """

    __slots__ = ("_batched", "_count", "_labels")

    def __init__(self, count: int) -> None:
        self._count = count
        self._batched = True
        self._labels: Sequence[str] = ()

    def bind(self, declared: TensorMetadata, batched: bool, rows: int) -> None:
        """Learn what the model announces of the output.

        Raises:
            BadRequest: its elements have no order, or there would be too many texts.
        """
        name = printable(declared.name)
        if not _has_order(declared.datatype):
            raise BadRequest(
                f"output '{name}': classification takes numbers, but this output is {declared.datatype}"
            )
        columns = declared.shape[1:] if batched else declared.shape
        size = math.prod(columns)
        known = -1 not in columns
        texts = rows * (min(self._count, size) if known else self._count)
        if texts > MAX_CLASSES:
            raise BadRequest(
                f"output '{name}': classification gives at most {MAX_CLASSES} values in one answer; "
                f"{texts} are asked for"
            )
        self._batched = batched
        labels = declared.parameters.get("classes")
        # A list per target, where there are several, does not say which column is whose.
        if isinstance(labels, list) and not any(isinstance(label, list) for label in labels):
            self._labels = [str(label) for label in labels] if known and len(labels) == size else ()

    def deliver(self, tensor: Tensor) -> Tensor:
        """The output as BYTES of shape [rows, k], [k] where there is no batch axis; k values or all."""
        rows = tensor.data.reshape(len(tensor.data) if self._batched else 1, -1)
        best = _highest(rows)[:, : self._count]
        texts = np.empty(best.shape, dtype=np.object_)
        for row, indices in enumerate(best.tolist()):
            texts[row] = [self._text(rows[row, index], index) for index in indices]
        return Tensor(tensor.name, BYTES, texts if self._batched else texts[0], tensor.parameters)

    def _text(self, value: object, index: int) -> bytes:
        text = f"{value!s}:{index}"  # str, for a format would write the digits of a double
        return (f"{text}:{self._labels[index]}" if self._labels else text).encode()


def _has_order(datatype: Datatype) -> bool:
    return datatype.kind in "iuf"


def _highest(rows: Array) -> Array:
    """The indices of each row from the highest value down: of equal ones the first first, NaN last."""
    # Both turn the order round without losing a value; of integers, the lowest has no negative.
    turned = -rows if rows.dtype.kind == "f" else ~rows
    indices: Array = np.argsort(turned, axis=1, kind="stable")
    return indices
