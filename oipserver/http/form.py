"""JSON answers of one kind: the text around ids and data is written once, the data of many in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from oipserver.core.messages import Array, Arrays, InferenceResponse
from oipserver.http.wire import Plan, encode_response, json_data

_ID = "\0the id"
_ID_TEXT = orjson.dumps(_ID)


@dataclass(frozen=True, slots=True)
class Form:
    """An answer's document with holes.

    Attributes:
        shapes: of each output, for one caller.
        start: the text in front of the id.
        pieces: the text behind it and behind each output's data.
    """

    shapes: Sequence[Sequence[int]]
    start: bytes
    pieces: Sequence[bytes]

    def rests(self, arrays: Arrays, callers: int) -> list[bytes]:
        """For each caller, what stands behind the id; `arrays` hold the rows of all, equally many each."""
        data = [_texts(array, callers) for array in arrays.values()]
        first, *others = self.pieces
        if len(data) == 1:
            return [b"".join((first, text, others[0])) for text in data[0]]
        return [
            b"".join((first, *(part for pair in zip(texts, others, strict=True) for part in pair)))
            for texts in zip(*data, strict=True)
        ]


def form_of(response: InferenceResponse, plan: Plan) -> Form | None:
    """The form of an answer and of all that differ from it in id and data alone; None when it has none.

    Only numbers are written in one call for many: a text may hold anything.
    """
    if plan.deliveries:
        return None
    arrays = [json_data(tensor) for tensor in response.outputs]
    if not arrays:
        return None
    if plan.binary or any(plan.named.values()) or not all(isinstance(array, np.ndarray) for array in arrays):
        return None
    like = InferenceResponse(
        response.model_name, response.model_version, _ID, response.outputs, response.parameters
    )
    start, found, rest = encode_response(like, plan).data.partition(_ID_TEXT[1:-1])
    pieces: list[bytes] = []
    for array in arrays:
        data = orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
        piece, marked, rest = rest.partition(b'"data":' + data)
        pieces.append(piece + b'"data":[')
        if not marked:
            return None
        rest = b"]" + rest
    return Form([tensor.data.shape for tensor in response.outputs], start, [*pieces, rest]) if found else None


def _texts(array: Array, callers: int) -> list[bytes]:
    """The numbers of each caller, with commas between them; NaN and infinities as null."""
    rows = np.ascontiguousarray(array).reshape(callers, -1)
    return orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],[")
