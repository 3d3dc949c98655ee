"""A request that fits a template is the request that a reader from scratch would see."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oipserver import BYTES, FP64, INT64, Model, TensorMetadata
from oipserver.core.contract import MAX_REMEMBERED, Contract
from oipserver.core.errors import Fault
from oipserver.http.template import read_json
from oipserver.http.wire import Envelope
from tests.support import Doubler

ENVELOPE = Envelope("m", None, "an-id", 60.0)
PLAIN = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data":%b}]}'


class Strict(Doubler):
    """Refuses NaN and infinity."""

    inputs = (TensorMetadata("x", FP64, (-1, 2), allow_nan=False),)


class Texts(Doubler):
    """Takes strings."""

    inputs = (TensorMetadata("x", BYTES, (-1, 2)),)


class Counts(Doubler):
    """Takes integers, and parameters of its own."""

    inputs = (TensorMetadata("x", INT64, (-1, 2)),)
    parameter_names = ("depth",)


def contract(model: Model | None = None) -> Contract:
    return Contract(model or Doubler(), "m", batched=True)


def seen(body: bytes, by: Contract) -> object:
    """Everything that a reader makes of a body; the deadline as the seconds that it gives."""
    began = time.monotonic()
    try:
        request, plan, work = read_json(body, ENVELOPE, by)
    except Fault as fault:
        return type(fault), fault.message
    now = time.monotonic()
    [left] = [seconds for seconds in (5.0, 60.0) if began + seconds <= request.deadline <= now + seconds]
    (tensor,) = request.inputs
    (array,) = work.inputs.values()
    return (
        replace(request, inputs=(), deadline=left),
        (tensor.name, tensor.datatype, tensor.parameters, repr(tensor.data.tolist()), tensor.data.shape),
        plan,
        replace(work, inputs={}),
        (list(work.inputs), array.dtype, repr(array.tolist()), array.shape),
    )


DATA = [
    b"[1.5,2.5]",
    b"[[1.5,2.5]]",
    b" [ 1, 2 ] ",
    b"\n[[1, 2]]",
    b"[null, 1]",
    b"[NaN, 1]",
    b"[1e999, 1]",
    b"[1]",
    b"[1,2,3]",
    b"[[1],[2]]",
    b'["a","b"]',
    b"[true,false]",
    b"[1.5,[2.5]]",
    b"{}",
    b"7",
    b"null",
    b"",
    b"[1,2",
    b'[1,2],"shape":[2,1]',
    b'[1,2]}],"outputs":[{"name":"y"',
    b'[1,2],"data":[3,4]',
    b'[1,2],"d\\u0061ta":[3,4]',
    b"[1,2]]",
    b"[1,2]} ",
    b"[9223372036854775807,1]",
    b"[9223372036854775808,1]",
    b"[3.0,1]",
    '["ä","b"]'.encode(),
    b'["\\ud800","b"]',
    b'["\xff","b"]',
]
DOCUMENTS = [
    PLAIN,
    b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": %b}]}\n',
    b'{"inputs":[{"data":%b,"name":"x","shape":[1,2],"datatype":"FP64"}]}',
    b'{"inputs":[{"data":%b,"name":"x","shape":[1,2],"datatype":"FP64","d\\u0061ta":[8,9]}]}',
    b'{"inputs":[{"d\\u0061ta":[8,9],"name":"x","shape":[1,2],"datatype":"FP64","data":%b}]}',
    b'{"parameters":{"data":"no"},"inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data":%b}]}',
    b'{"parameters":{"data":%b},"inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data":[1,2]}]}',
    b'{"inputs":[{"name":"x","shape":[-1,2],"datatype":"FP64","data":%b}]}',
    b'{"inputs":[{"name":"x","shape":[2],"datatype":"FP64","data":%b}]}',
    b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"INT64","data":%b}]}',
    b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":%b}]}',
    b'{"inputs":[{"name":"other","shape":[1,2],"datatype":"BYTES","data":%b}],"outputs":[{"name":"y"}]}',
    b'{"id":"mine","inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data":%b}],"id":"last"}',
    b'{"id":"mine","id":"","inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data":%b}]}',
    b'{"id":"mine","inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data":%b}],"id":null}',
    b'{"id":"mine","inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data":%b}]}',
    b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"INT64","data":%b}],"parameters":{"timeout":5000000,'
    b'"depth":3,"binary_data_output":true}}',
    b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","parameters":{"content_type":"np"},"data":%b}],'
    b'"outputs":[{"name":"y","parameters":{"binary_data":true}}]}',
    b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data":%b}],"inputs":[]}',
]


@pytest.mark.parametrize("model", [Doubler, Strict, Texts, Counts])
@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_reader_who_knows_sees_what_a_new_one_sees(document: bytes, model: type[Model]) -> None:
    knowing = contract(model())
    for first in DATA:
        seen(document % first, knowing)
        for data in DATA:
            assert seen(document % data, knowing) == seen(document % data, contract(model())), (first, data)


@given(
    st.lists(st.floats() | st.integers() | st.text() | st.none() | st.booleans(), max_size=3), st.booleans()
)
@example([1, 2], True)
def test_any_data_in_a_known_document(values: list[object], nested: bool) -> None:
    knowing = contract()
    seen(PLAIN % b"[1,2]", knowing)
    assert len(knowing.memory) == 1
    body = PLAIN % json.dumps([values] if nested else values).encode()
    assert seen(body, knowing) == seen(body, contract())


def test_what_is_known_is_used() -> None:
    knowing = contract()
    read_json(PLAIN % b"[1,2]", ENVELOPE, knowing)
    known = knowing.memory.get(PLAIN[: PLAIN.index(b"%b")])
    assert known is not None
    (template,) = known
    template.plan.binary = True
    _, plan, work = read_json(PLAIN % b"[[3,4]]", ENVELOPE, knowing)
    assert plan.binary
    assert work.inputs["x"].tolist() == [[3.0, 4.0]]


def test_templates_are_few() -> None:
    knowing = contract()
    body = b'{"parameters":{"n":%d},"inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data":[1,2]}]}'
    for n in range(MAX_REMEMBERED * 40):
        read_json(body % n, ENVELOPE, knowing)
    assert len(knowing.memory) == MAX_REMEMBERED


@pytest.mark.parametrize("document", [b'{"id":"%b",', b'{ "id" : "%b" , '])
def test_an_id_in_front_is_the_requests_own(document: bytes) -> None:
    knowing = contract()
    for number in (b"a", b"b-2", b"a\\u0041", "ä".encode(), b"", b"x" * 65, b"c"):
        body = PLAIN.replace(b"{", document % number, 1) % b"[1,2]"
        assert seen(body, knowing) == seen(body, contract())
    assert len(knowing.memory) == 1


def test_a_document_with_another_id_is_not_kept() -> None:
    """Ids differ with every request: to keep such a document would push out those that come again."""
    knowing = contract()
    body = PLAIN.replace(b"{", b'{"id":"a",', 1) % b"[1,2]"
    for again in (body[:-1] + b',"id":"b"}', body.replace(b'"a"', b'"a b"')):
        assert seen(again, knowing) == seen(again, contract())
    assert len(knowing.memory) == 0


def test_a_template_keeps_its_numbers_to_itself() -> None:
    knowing = contract()
    _, _, first = read_json(PLAIN % b"[1,2]", ENVELOPE, knowing)
    _, _, second = read_json(PLAIN % b"[3,4]", ENVELOPE, knowing)
    assert (first.inputs["x"].tolist(), second.inputs["x"].tolist()) == ([[1, 2]], [[3, 4]])
    assert not np.shares_memory(first.inputs["x"], second.inputs["x"])
