"""Requests that differ from an earlier one in their id and in the bytes of their tensor alone.

A client sends the same message again and again, with other data.  Everything around the data was read,
checked and matched with the model when it came first; to compare it is cheaper than to do that again.

Why the answer is the same: a template is a message that was accepted, whose last field is its only raw
tensor, of a datatype whose elements have one size.  A message of the same length that begins with the same
bytes, up to and with the length of that field, is that message with other bytes in the tensor: protobuf has
no other way to read them.  The id, which differs with every request, is cut out before, where every
serializer puts it: behind name and version, in front of everything else.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from oipserver.core.contract import Contract, Work
from oipserver.core.dataplane import DataPlane
from oipserver.core.datatypes import BF16, BOOL, BYTES
from oipserver.core.errors import BadRequest, Fault
from oipserver.core.messages import InferenceRequest, Tensor
from oipserver.core.registry import Version
from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest
from oipserver.grpc.scan import fields
from oipserver.grpc.wire import Question

# To compare a long message is cheap, but to read it has cost little as well.
MAX_BODY = 8192

_NAME, _VERSION, _ID, _RAW = (
    ModelInferRequest.DESCRIPTOR.fields_by_name[name].number
    for name in ("model_name", "model_version", "id", "raw_input_contents")
)
_NAME_TAG, _VERSION_TAG, _ID_TAG = (number << 3 | 2 for number in (_NAME, _VERSION, _ID))
# What stands in a message only once, or not where it is looked for.
_SINGLE = {_NAME, _VERSION, _ID, _RAW}
_LENGTH = struct.Struct("<I")
# Their elements differ in size, or are looked at or converted one by one.
_OTHERWISE = (BYTES, BOOL, BF16)


@dataclass(frozen=True, slots=True)
class Template:
    """An accepted message around its tensor.

    Attributes:
        prefix: the bytes behind the id, up to the tensor.
        question: what the message asks for.
        work: what the contract made of it.
    """

    prefix: bytes
    question: Question
    work: Work


class Head(NamedTuple):
    """What stands at the beginning of a message, and the rest.

    Attributes:
        key: names the model, its version, and how long the rest is.
    """

    key: bytes
    name: bytes
    version: bytes
    id: bytes
    rest: bytes


class Known(NamedTuple):
    """A message that fits a template of `version`."""

    version: Version
    template: Template
    id: str
    raw: bytes

    def read(self, now: float, deadline: float, request_id: str) -> tuple[InferenceRequest, Work]:
        """The checked request; as `wire.decode_request` and `Contract.check`.

        Raises:
            BadRequest: a value is out of range of the declared datatype.
            Unprocessable: NaN or infinity where the model refuses them.
        """
        like = self.template.question.request
        timeout = self.template.question.timeout
        (tensor,) = like.inputs
        data = np.frombuffer(self.raw, tensor.data.dtype).reshape(tensor.data.shape)
        # By position: keywords cost a little, with every request.
        request = InferenceRequest(
            like.model_name,
            (Tensor(tensor.name, tensor.datatype, data, tensor.parameters),),
            self.id or request_id,
            deadline if timeout is None else min(deadline, now + timeout),
            like.model_version,
            like.outputs,
            like.parameters,
            like.priority,
        )
        work = self.version.contract.check_again(self.template.work, request.inputs[0])
        return request, work


def recognize(body: bytes, plane: DataPlane) -> Known | None:
    """The version and the template that a message fits; None when it must be read from the beginning."""
    head = _split(body)
    if head is None:
        return None
    try:
        version = plane.serving(head.name.decode(), head.version.decode() or None)
    except (Fault, UnicodeDecodeError):
        return None
    template = version.contract.memory.get(head.key)
    # Another front keeps templates of its own there.
    if not isinstance(template, Template) or not head.rest.startswith(template.prefix):
        return None
    return Known(version, template, head.id.decode("ascii"), head.rest[len(template.prefix) :])


def learn(body: bytes, question: Question, work: Work, contract: Contract) -> None:
    """Keep what was found out about an accepted message, where the next one may be like it."""
    head = _split(body)
    if head is None or not _fits(head, question) or not contract.memory.wants_more():
        return
    try:
        *others, last = fields(head.rest, 0, len(head.rest))
    except BadRequest:  # groups, which protobuf skips
        return
    if (last.number, last.kind) == (_RAW, 2) and not _SINGLE & {field.number for field in others}:
        contract.memory.add(head.key, Template(head.rest[: last.payload], question, work))


def _fits(head: Head, question: Question) -> bool:
    request = question.request
    if not question.raw or request.deliveries or len(request.inputs) != 1:
        return False
    (tensor,) = request.inputs
    return tensor.data.size > 0 and tensor.datatype not in _OTHERWISE


def _split(body: bytes) -> Head | None:
    """Name, version and id cut off, where they are short and stand in front."""
    if not 2 < len(body) <= MAX_BODY or body[0] != _NAME_TAG:
        return None
    name, position = _cut(body, 0, _NAME_TAG)
    version, named = _cut(body, position, _VERSION_TAG)
    id_, start = _cut(body, named, _ID_TAG)
    if not name or not id_.isascii() or start >= len(body):
        return None
    rest = body[start:]
    return Head(body[:named] + _LENGTH.pack(len(rest)), name, version, id_, rest)


def _cut(body: bytes, position: int, tag: int) -> tuple[bytes, int]:
    """The value of the field at `position` and where the next one begins; nothing where it is another."""
    if position + 1 >= len(body) or body[position] != tag or body[position + 1] > 0x7F:
        return b"", position
    start = position + 2
    end = start + body[position + 1]
    return body[start:end], end
