"""JSON requests that differ from an earlier one in their numbers alone.

A client sends the same document again and again, with other data.  Everything around the data was read,
checked and matched with the model when it came first; to compare it is cheaper than to do that again.

Why the answer is the same: a template is a document that was accepted, with a hole in place of one JSON
value, the data of its only tensor.  A body that begins and ends like it and has a JSON value in between is
that document with other data, whatever the bytes are: JSON has no other way to read them.  A plain id in
front, as tritonclient writes it, is taken off before: it differs with every request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import orjson

from oipserver.core.codec import cast_float, decode_known_list
from oipserver.core.contract import Contract, Work
from oipserver.core.dataplane import TIMING_PARAMETER
from oipserver.core.datatypes import FP64
from oipserver.core.errors import BadRequest
from oipserver.core.memory import Memory
from oipserver.core.messages import Array, InferenceRequest, Tensor
from oipserver.core.reserved import Reserved, read_parameters
from oipserver.http.form import Form
from oipserver.http.wire import LARGE, Envelope, Plan, decode_request, new_request

# Learning takes longer than reading; a body of many numbers has little to gain from it.
MAX_BODY = 8192
# Documents that begin alike and end in different ways.
MAX_SUFFIXES = 4

# A plain id in front of everything else, and the most bytes that it has.
MAX_ID = 64
PLAIN_ID = re.compile(rb'\{\s*"id"\s*:\s*"([\w.-]{1,%d})"\s*,' % MAX_ID, re.ASCII)
_DATA = b'"data":'
_HOLE = "\0the data"
_HOLE_TEXT = orjson.dumps(_HOLE)
SPACE = b" \t\r\n"
_NUMBERS = b"0123456789+-.eE," + SPACE
_read_value = json.JSONDecoder().raw_decode


@dataclass(slots=True, eq=False)
class Template:
    """A checked document around its data.

    Attributes:
        suffix: the bytes behind the data.
        request: what the document asks for.
        work: what the contract made of that.
        tensor: its only one.
        single_row: of the only two axes of that, the first is 1.
        may_ride: requests like it may be read together: numbers, whose rows the model computes together, for
            answers that differ in id and data alone.
        form: how its last answer looked, where that is known.
    """

    suffix: bytes
    request: InferenceRequest
    reserved: Reserved
    plan: Plan
    work: Work
    tensor: Tensor
    single_row: bool
    may_ride: bool
    form: Form | None = None


# A body that fits a template: with the id in front, or None, and the JSON text in the hole.
Match: TypeAlias = tuple[Template, str | None, bytes]
Read: TypeAlias = tuple[InferenceRequest, Plan, Work]


def read_json(body: bytes, envelope: Envelope, contract: Contract) -> Read:
    """The checked request in a JSON body.

    Raises:
        BadRequest: whatever is malformed, or not this model's.
        Unprocessable: NaN or infinity where the model refuses them.
    """
    match = recognize(body, contract.memory)
    if match is not None and (known := _read_again(match, envelope, contract)) is not None:
        return known
    request, plan = decode_request(body, None, envelope)
    read = request, plan, contract.check(request)
    _learn(body, read, contract)
    return read


def recognize(body: bytes, memory: Memory[Any]) -> Match | None:
    """The template that a body fits; None when it must be read from the beginning."""
    if len(body) >= LARGE:
        return None
    body_id, rest = _split_id(body)
    start = rest.find(_DATA) + 7
    known = memory.get(rest[:start])
    if type(known) is tuple:  # the gRPC front keeps its own there
        for template in known:
            if rest.endswith(template.suffix, start):
                return template, body_id, rest[start : len(rest) - len(template.suffix)]
    return None


def inside(template: Template, text: bytes) -> bytes | None:
    """What stands in a text for its hole that is a flat list, or one row as a list in a list; else None."""
    text = text.strip(SPACE)
    if text.startswith(b"[[") and text.endswith(b"]]"):
        return text[2:-2] if template.single_row else None
    return text[1:-1] if text.startswith(b"[") and text.endswith(b"]") else None


def is_plain(template: Template, text: bytes) -> bool:
    """Whether there are as many numbers inside as the template says, as far as commas and letters tell."""
    return text.count(b",") + 1 == template.tensor.data.size and not text.translate(None, _NUMBERS)


def decode_together(template: Template, lists: Sequence[bytes]) -> Array | None:
    """What stands `inside` for each caller, as rows one behind the other; None when one needs a closer look.

    There must be numbers alone, so that nothing but our own brackets and commas can stand between those of
    two callers, and every caller has as many as the template says.
    """
    tensor = template.tensor
    shape = tensor.data.shape
    if b"".join(lists).translate(None, _NUMBERS):
        return None
    try:
        values = orjson.loads(b"[[" + b"],[".join(lists) + b"]]")
    except orjson.JSONDecodeError:
        return None
    together = (len(values) * shape[0], *shape[1:])
    try:
        return _rectangle(values, tensor).reshape(together)
    except (BadRequest, ValueError):
        return None


def _rectangle(values: list[list[float]], like: Tensor) -> Array:
    """Lists of as many numbers each as a tensor has, as an array with a row for each.

    Raises:
        BadRequest, ValueError: they are not as many, or not of its datatype.
    """
    datatype, size = like.datatype, like.data.size
    if datatype.is_float:
        array: Array = np.array(values, np.float64)
        if array.shape != (len(values), size):
            raise ValueError
        return array if datatype is FP64 else cast_float(array, datatype, like.name)
    if set(map(len, values)) != {size}:
        raise ValueError
    flat, total = list(chain.from_iterable(values)), len(values) * size
    return decode_known_list(flat, datatype, (total,), total, like.name)


def _split_id(body: bytes) -> tuple[str | None, bytes]:
    found = PLAIN_ID.match(body)
    return (None, body) if found is None else (found[1].decode(), b"{" + body[found.end() :])


def _read_again(match: Match, envelope: Envelope, contract: Contract) -> Read | None:
    template, body_id, text = match
    try:
        values = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if type(values) is not list:
        return None
    like = template.tensor
    shape, size = like.data.shape, like.data.size
    array = decode_known_list(values, like.datatype, shape, size, like.name)
    tensor = Tensor(like.name, like.datatype, array)
    request = new_request(envelope, (tensor,), template.reserved, body_id, template.request.outputs)
    return request, template.plan, contract.check_again(template.work, tensor)


def _learn(body: bytes, read: Read, contract: Contract) -> None:
    """Keep what was found out about an accepted JSON request, where the next one may be like it."""
    request, plan, _ = read
    if len(body) > MAX_BODY or len(request.inputs) != 1 or plan.deliveries or not body.isascii():
        return
    _, rest = _split_id(body)
    start = rest.find(_DATA) + len(_DATA)
    if start < len(_DATA):
        return
    if contract.memory.wants_more() and (template := _template(rest, start, *read)) is not None:
        others = contract.memory.get(rest[:start]) or ()
        others = [other for other in others if other.suffix != template.suffix][: MAX_SUFFIXES - 1]
        # The longest first: a body that ends like it may end like a shorter one as well.
        known = tuple(sorted((template, *others), key=lambda each: -len(each.suffix)))
        contract.memory.add(rest[:start], known)


def _template(body: bytes, start: int, request: InferenceRequest, plan: Plan, work: Work) -> Template | None:
    (tensor,) = request.inputs
    text = body[start:].decode("ascii")
    try:
        _, end = _read_value(text, len(text) - len(text.lstrip()))
        suffix = body[start + end :]
        document = orjson.loads(body[:start] + _HOLE_TEXT + suffix)
    except ValueError:  # an integer of thousands of digits; NaN in the data, which is elsewhere
        return None
    (item,) = document["inputs"]
    shape = tensor.data.shape
    # A name may be written in another way, or twice: the hole must be what was read as the data.
    if item.get("data") != _HOLE or item["shape"] != list(shape) or "id" in document:
        return None
    reserved = read_parameters(document.get("parameters") or {})
    numbers = tensor.datatype.dtype.kind in "fiu"
    may_ride = numbers and work.key is not None and TIMING_PARAMETER not in reserved.rest
    single_row = len(shape) == 2 and shape[0] == 1
    return Template(suffix, request, reserved, plan, work, tensor, single_row, may_ride)
