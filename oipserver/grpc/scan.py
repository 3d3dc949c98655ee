"""Reads a large serialized ModelInferRequest without letting it grow.

The protobuf parser builds an object for every submessage: 32 MB of empty inputs, two bytes each, become
1.4 GB before anybody can count them.  So a large body is walked first: its fields and those of its tensors
are counted against a limit, typed strings against another, and the raw tensors are cut out, which also
spares them a copy by the parser.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from oipserver.core.codec import MAX_STRINGS
from oipserver.core.errors import BadRequest
from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest

# 256 tensors of rank 32, each dimension a field of its own, stay below it.
MAX_FIELDS = 2**14

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_INPUTS = ModelInferRequest.INPUTS_FIELD_NUMBER
_TENSORS = (_INPUTS, ModelInferRequest.OUTPUTS_FIELD_NUMBER)
_CONTENTS = ModelInferRequest.InferInputTensor.CONTENTS_FIELD_NUMBER


class Field(NamedTuple):
    """One field of a serialized message: the tag begins at `start`, the value is `payload` to `end`."""

    number: int
    kind: int
    start: int
    payload: int
    end: int


def split_raw(body: bytes) -> tuple[bytes, list[bytes]]:
    """The message without its raw tensors, and the raw tensors.

    Raises:
        BadRequest: not a protobuf message, more than MAX_FIELDS fields outside of tensor contents, or more
            than MAX_STRINGS inside.
    """
    rest: list[memoryview] = []
    raw: list[bytes] = []
    left, strings = MAX_FIELDS, MAX_STRINGS
    view = memoryview(body)
    for field in fields(body, 0, len(body)):
        left -= 1
        if field.kind == _BYTES and field.number == ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER:
            raw.append(body[field.payload : field.end])
        else:
            rest.append(view[field.start : field.end])
            if field.kind == _BYTES and field.number in _TENSORS:
                for inner in fields(body, field.payload, field.end):
                    left -= 1
                    _check(left)
                    if inner.kind == _BYTES and (field.number, inner.number) == (_INPUTS, _CONTENTS):
                        strings = _count_down(body, inner.payload, inner.end, strings)
        _check(left)
    return (b"".join(rest), raw) if raw else (body, raw)


def fields(data: bytes, position: int, end: int) -> Iterator[Field]:
    """The fields of the message in `data[position:end]`; BadRequest where it is none."""
    while position < end:
        start = position
        tag, payload = _varint(data, start, end)
        kind = tag & 7
        if kind == _BYTES:
            size, payload = _varint(data, payload, end)
            position = payload + size
        elif kind == _VARINT:
            _, position = _varint(data, payload, end)
        elif kind in (_FIXED32, _FIXED64):
            position = payload + (4 if kind == _FIXED32 else 8)
        else:
            raise malformed()
        if position > end:
            raise malformed()
        yield Field(tag >> 3, kind, start, payload, position)


def _count_down(data: bytes, position: int, end: int, left: int) -> int:
    """`left` less the fields of the contents in `data[position:end]`: numbers are one field, strings many."""
    while position < end:
        left -= 1
        if left < 0:
            raise BadRequest(f"the request has more than {MAX_STRINGS} elements in bytes_contents")
        # A string under 128 bytes, of which there may be millions; others take the long way.
        if data[position] & 0x87 == _BYTES and position + 1 < end and data[position + 1] < 0x80:
            position += 2 + data[position + 1]
        else:
            position = next(fields(data, position, end)).end
    if position > end:
        raise malformed()
    return left


def malformed() -> BadRequest:
    """What is said of bytes that are not the message they should be."""
    return BadRequest("the request is not a valid protobuf message of this call")


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = 0
    # "Varints": seven bits a byte, least significant first, at most ten bytes.
    for shift in range(0, 70, 7):
        if position == end:
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise malformed()


def _check(left: int) -> None:
    if left < 0:
        raise BadRequest(f"the request has more than {MAX_FIELDS} fields outside of its tensor contents")
