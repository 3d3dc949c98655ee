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
from dataclasses import dataclass
from typing import TypeAlias

import orjson

from oipserver.core.codec import decode_known_list
from oipserver.core.contract import Contract, Work
from oipserver.core.messages import InferenceRequest, Tensor
from oipserver.core.reserved import Reserved, read_parameters
from oipserver.http.wire import LARGE, Envelope, Plan, decode_request, new_request

# Learning takes longer than reading; a body of many numbers has little to gain from it.
MAX_BODY = 8192

_ID = re.compile(rb'\{\s*"id"\s*:\s*"([\w.-]{1,64})"\s*,', re.ASCII)
_DATA = b'"data":'
_HOLE = "\0the data"
_HOLE_TEXT = orjson.dumps(_HOLE)
_read_value = json.JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True)
class Template:
    """A checked document around its data.

    Attributes:
        suffix: the bytes behind the data.
        request: what the document asks for.
        work: what the contract made of that.
    """

    suffix: bytes
    request: InferenceRequest
    reserved: Reserved
    plan: Plan
    work: Work


Read: TypeAlias = tuple[InferenceRequest, Plan, Work]


def read_json(body: bytes, envelope: Envelope, contract: Contract) -> Read:
    """The checked request in a JSON body.

    Raises:
        BadRequest: whatever is malformed, or not this model's.
        Unprocessable: NaN or infinity where the model refuses them.
    """
    found = _ID.match(body) if len(body) < LARGE else None
    body_id, rest = (None, body) if found is None else (found[1].decode(), b"{" + body[found.end() :])
    if (known := _recognize(rest, body_id, envelope, contract)) is not None:
        return known
    request, plan = decode_request(body, None, envelope)
    read = request, plan, contract.check(request)
    _learn(rest, read, contract)
    return read


def _recognize(body: bytes, body_id: str | None, envelope: Envelope, contract: Contract) -> Read | None:
    """The request, if it fits a template; None when it must be read from the beginning."""
    start = body.find(_DATA) + len(_DATA)
    template: Template | None = contract.memory.get(body[:start])
    if template is None or len(body) >= LARGE or not body.endswith(template.suffix, start):
        return None
    try:
        values = orjson.loads(body[start : len(body) - len(template.suffix)])
    except orjson.JSONDecodeError:
        return None
    if type(values) is not list:
        return None
    (like,) = template.request.inputs
    shape, size = like.data.shape, like.data.size
    array = decode_known_list(values, like.datatype, shape, size, like.name)
    tensor = Tensor(like.name, like.datatype, array)
    request = new_request(envelope, (tensor,), template.reserved, body_id, template.request.outputs)
    return request, template.plan, contract.check_again(template.work, tensor)


def _learn(body: bytes, read: Read, contract: Contract) -> None:
    """Keep what was found out about an accepted JSON request, where the next one may be like it."""
    start = body.find(_DATA) + len(_DATA)
    if len(body) > MAX_BODY or len(read[0].inputs) != 1 or start < len(_DATA) or not body.isascii():
        return
    if contract.memory.wants_more() and (template := _template(body, start, *read)) is not None:
        contract.memory.add(body[:start], template)


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
    return Template(suffix, request, read_parameters(document.get("parameters") or {}), plan, work)
