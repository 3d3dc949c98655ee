"""Infer bodies to requests and answers to bodies: what is said is understood exactly, the rest is refused."""

from __future__ import annotations

import json
import math
import struct
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oipserver.core.datatypes import BF16, BOOL, BYTES, DATATYPES, FP16, FP32, FP64, INT32, INT64, Datatype
from oipserver.core.errors import BadRequest, Unsupported
from oipserver.core.messages import InferenceRequest, InferenceResponse, Tensor, TensorMetadata
from oipserver.http.wire import (
    BINARY,
    JSON,
    MAX_ID_BYTES,
    MAX_NAN_BODY,
    MAX_TENSORS,
    Body,
    Envelope,
    Plan,
    decode_raw_request,
    decode_request,
    encode_response,
)

Array = npt.NDArray[Any]
Document = dict[str, Any]


ENVELOPE = Envelope("m", "7", "request-1", 60.0)
X: Document = {"name": "x", "shape": [2], "datatype": "FP64", "data": [1, 2]}


def text(document: object) -> bytes:
    """JSON as Python's own writer has it, which knows the literals NaN and Infinity."""
    return json.dumps(document).encode()


def read(document: object, *blobs: bytes, length: str | None = None) -> tuple[InferenceRequest, Plan]:
    """The request of a JSON document, with raw tensors behind it where there are any."""
    head = document if isinstance(document, bytes) else text(document)
    if length is None and blobs:
        length = str(len(head))
    return decode_request(head + b"".join(blobs), length, ENVELOPE)


def read_x(**members: Any) -> Array:
    """The array of a lone tensor 'x' with these members."""
    request, _ = read({"inputs": [{**X, **members}]})
    (tensor,) = request.inputs
    return tensor.data


def refusal(call: Callable[[], object], *words: str, kind: type[BadRequest] = BadRequest) -> str:
    with pytest.raises(BadRequest) as caught:
        call()
    message = caught.value.message
    assert type(caught.value) is kind
    assert message.isprintable()
    assert len(message) < 700
    for word in words:
        assert word in message
    return message


def refused(document: object, *words: str, kind: type[BadRequest] = BadRequest) -> str:
    return refusal(lambda: read(document), *words, kind=kind)


def refused_x(members: Document, *words: str, kind: type[BadRequest] = BadRequest) -> str:
    return refused({"inputs": [{**X, **members}]}, *words, kind=kind)


# --- requests in JSON --------------------------------------------------------------------------------------


def test_the_smallest_request() -> None:
    request, plan = read({"inputs": [X]})
    (tensor,) = request.inputs
    assert (tensor.name, tensor.datatype, tensor.data.tolist()) == ("x", FP64, [1.0, 2.0])
    assert (request.model_name, request.model_version) == ("m", "7")
    assert (request.id, list(request.outputs), dict(request.parameters)) == ("request-1", [], {})
    assert not plan.is_binary("y")


def test_everything_at_once() -> None:
    request, plan = read(
        {
            "id": "mine",
            "model_name": "ignored",
            "parameters": {"binary_data_output": True, "temperature": 0.5, "priority": 1},
            "inputs": [
                {
                    "name": "a",
                    "shape": [1, 2],
                    "datatype": "INT32",
                    "data": [[1, 2]],
                    "parameters": {"k": "v"},
                },
                {"name": "b", "shape": [1], "datatype": "BYTES", "data": ["é"]},
            ],
            "outputs": [{"name": "y"}, {"name": "z", "parameters": {"binary_data": False}}],
        }
    )
    assert [(one.name, one.datatype, one.data.tolist()) for one in request.inputs] == [
        ("a", INT32, [[1, 2]]),
        ("b", BYTES, ["é".encode()]),
    ]
    assert (request.id, list(request.outputs)) == ("mine", ["y", "z"])
    assert request.parameters == {"temperature": 0.5}
    assert (plan.is_binary("y"), plan.is_binary("z")) == (True, False)


def test_null_members_are_absent() -> None:
    tensor = {**X, "parameters": None}
    document = {"inputs": [tensor], "id": None, "parameters": None, "outputs": None}
    request, plan = read(document)
    assert (request.id, list(request.outputs), dict(request.parameters)) == ("request-1", [], {})
    assert plan == Plan()


def test_null_parameters_are_absent() -> None:
    nothing = {"binary_data_size": None, "shared_memory_region": None, "classification": None, "mine": None}
    request, plan = read(
        {
            "inputs": [{**X, "parameters": nothing}],
            "parameters": {"timeout": None, "binary_data_output": None, "mine": None},
            "outputs": [{"name": "y", "parameters": {"binary_data": None, "classification": None}}],
        }
    )
    assert request.inputs[0].data.tolist() == [1, 2]
    assert dict(request.parameters) == {}
    assert plan == Plan()


@pytest.mark.parametrize("outputs", [[], None])
def test_no_outputs_are_all_outputs(outputs: object) -> None:
    request, _ = read({"inputs": [X], "outputs": outputs})
    assert list(request.outputs) == []


def test_unknown_members_are_ignored() -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    request, _ = read(
        {
            "inputs": [{**X, "colour": {"a": [1]}}],
            "outputs": [{"name": "y", "colour": 1}],
            "model_version": 5,
            "deep": deep,
            "": None,
        }
    )
    assert request.inputs[0].data.tolist() == [1, 2]
    assert list(request.outputs) == ["y"]


# --- identity and time -------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["a", "日本 é", "\r\n\0", "a" * MAX_ID_BYTES, "é" * (MAX_ID_BYTES // 2)])
def test_an_id_is_echoed_as_it_came(given: str) -> None:
    request, _ = read({"inputs": [X], "id": given})
    assert request.id == given
    answer = encode_response(InferenceResponse("m", "7", request.id, []), Plan())
    assert json.loads(answer.data)["id"] == given


@pytest.mark.parametrize("given", [None, ""])
def test_without_an_id_the_fronts_own_is_taken(given: str | None) -> None:
    assert read({"inputs": [X], "id": given})[0].id == "request-1"


@pytest.mark.parametrize("given", [1, True, 1.5, [], ["a"], {}])
def test_an_id_is_a_string(given: object) -> None:
    refused({"inputs": [X], "id": given}, "'id' must be a string")


@pytest.mark.parametrize("given", ["a" * (MAX_ID_BYTES + 1), "é" * (MAX_ID_BYTES // 2 + 1), "日" * 30_000])
def test_an_id_has_64_kib_at_most(given: str) -> None:
    assert len(refused({"inputs": [X], "id": given}, "'id' is longer than 65536 bytes")) < 100


@pytest.mark.parametrize(
    ("microseconds", "seconds"),
    [(None, 60.0), (0, 60.0), (1, 1e-6), (2_500_000, 2.5), (10**12, 60.0), (2**64 - 1, 60)],
)
def test_a_timeout_may_shorten_the_deadline(microseconds: int | None, seconds: float) -> None:
    before = time.monotonic()
    request, _ = read({"inputs": [X], "parameters": {"timeout": microseconds}})
    after = time.monotonic()
    assert before + seconds <= request.deadline <= after + seconds
    assert "timeout" not in request.parameters


# --- row 1: the JSON itself --------------------------------------------------------------------------------

GOOD = text({"inputs": [X]})

NOT_JSON = {
    "nothing": b"",
    "blank": b" \n",
    "truncated": GOOD[:-1],
    "trailing": GOOD + b"x",
    "twice": GOOD + GOOD,
    "zero byte": GOOD + b"\0",
    "BOM": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "UTF-16 without BOM": GOOD.decode().encode("utf-16-le"),
    "UTF-32": GOOD.decode().encode("utf-32"),
    "Latin-1": '{"é": 1}'.encode("latin-1"),
    "overlong": b'{"\xc0\xaf": 1}',
    "surrogate in UTF-8": b'{"id": "\xed\xa0\x80"}',
    "lone surrogate": rb'{"id": "\ud800"}',
    "lone low surrogate": rb'{"id": "\udc00"}',
    "comment": b"{} // no",
    "single quotes": b"{'inputs': []}",
    "trailing comma": b'{"inputs": [1,]}',
    "leading zero": b'{"a": 01}',
    "plus": b'{"a": +1}',
    "hexadecimal": b'{"a": 0x10}',
    "1e400": b'{"a": 1e400}',
    "-1e400": b'{"a": -1e400}',
    "200000 digits": b'{"a": ' + b"1" * 200_000 + b"}",
    "nan": b'{"a": nan}',
    "Inf": b'{"a": Inf}',
    "+Infinity": b'{"a": +Infinity}',
    "-NaN": b'{"a": -NaN}',
    "NaN as a key": b"{NaN: 1}",
    "NaNNaN": b'{"a": NaNNaN}',
    "NaN1": b'{"a": NaN1}',
    "1NaN": b'{"a": 1NaN}',
    "NaN behind": GOOD + b"NaN",
    "NaN in an open string": b'{"a": "NaN',
    "control character": b'{"a": "\n"}',
    "pickle": b"\x80\x04\x95\x0b\0\0\0\0\0\0\0]\x94.",
}


@pytest.mark.parametrize("case", NOT_JSON)
def test_what_is_not_json(case: str) -> None:
    refused(NOT_JSON[case], "the body is")


@pytest.mark.parametrize("document", [[], [X], 1, "inputs", None, True, 1.5], ids=str)
def test_json_that_is_no_object(document: object) -> None:
    refused(document, "the body must be a JSON object, got")


def test_a_literal_alone_is_no_object() -> None:
    for literal in (b"NaN", b"-Infinity", b"[NaN]", b"[[Infinity]]"):
        refused(literal, "NaN and Infinity")


# --- row 1: NaN and Infinity -------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_literals_in_floating_tensors(datatype: str) -> None:
    array = read_x(shape=[2, 2], datatype=datatype, data=[[math.nan, math.inf], [-math.inf, 1.5]])
    assert array.dtype == DATATYPES[datatype].dtype
    assert repr(array.tolist()) == "[[nan, inf], [-inf, 1.5]]"
    assert repr(read_x(shape=[3], datatype=datatype, data=[math.nan, None, 0]).tolist()) == "[nan, nan, 0.0]"


def test_literals_at_every_depth_of_a_shape() -> None:
    data: Any = math.inf
    for _ in range(32):
        data = [data]
    assert read_x(shape=[1] * 32, data=data).ravel().tolist() == [math.inf]
    refused_x({"shape": [1] * 32, "data": [data]}, "NaN and Infinity")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize(
    "datatype", [one for one in DATATYPES.values() if not (one.is_float and one.json_allowed)], ids=str
)
def test_literals_in_other_tensors(datatype: Datatype, value: float) -> None:
    refused_x({"shape": [2], "datatype": datatype.name, "data": [1, value]}, "tensor 'x'", datatype.name)


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": [X], "id": math.nan},
        {"inputs": [X], "parameters": {"p": math.nan}},
        {"inputs": [X], "parameters": math.inf},
        {"inputs": [X], "parameters": {"timeout": math.inf}},
        {"inputs": [X], "outputs": math.nan},
        {"inputs": [X], "outputs": [math.nan]},
        {"inputs": [X], "unknown": [math.nan]},
        {"inputs": math.nan},
        {"inputs": [math.nan]},
        {"inputs": [X, math.nan]},
        {"inputs": [{**X, "name": math.nan}]},
        {"inputs": [{**X, "shape": [math.nan]}]},
        {"inputs": [{**X, "shape": math.nan}]},
        {"inputs": [{**X, "datatype": math.nan}]},
        {"inputs": [{**X, "parameters": {"p": -math.inf}}]},
        {"inputs": [{**X, "data": [{"a": math.nan}, 1]}]},
        {"data": [math.nan]},
        math.nan,
    ],
    ids=str,
)
def test_literals_elsewhere(document: object) -> None:
    refused(document, "NaN and Infinity are accepted in the data of tensors only")


@pytest.mark.parametrize(
    "name", ["NaN", "-Infinity", 'a"NaN', "NaN\\", '\\"NaN', "\\\\", "é NaN ☃", '"', "[NaN]"]
)
def test_literals_inside_strings_are_text(name: str) -> None:
    document = {"id": name, "inputs": [{**X, "name": name, "data": [math.nan, 1]}], name: name}
    request, _ = read(document)
    assert (request.id, request.inputs[0].name) == (name, name)
    assert repr(request.inputs[0].data.tolist()) == "[nan, 1.0]"


@given(st.text(st.sampled_from('"\\NaInfty -[]{},:u0/é\n'), max_size=30))
def test_no_string_is_ever_touched(content: str) -> None:
    document = {"id": content + "!", "inputs": [{**X, "data": [math.inf, 1]}], content: "NaN"}
    assert read(document)[0].id == content + "!"


@given(
    st.lists(
        st.sampled_from(['"', "\\", "NaN", "Infinity", "-", "[", "]", "{", "}", ",", ":", "1", " "]),
        max_size=30,
    ).map("".join)
)
@example("[NaN]")
@example('"NaN"')
def test_bodies_of_fragments_never_crash(fragments: str) -> None:
    # Nothing of this can be a request; whatever it is, it is refused.
    refused(fragments.encode())
    refused(b'{"inputs":[{"name":"x","shape":[1],"datatype":"INT64","data":[NaN, %s]}]}' % fragments.encode())


FORGED = [
    rb'{"\u0000NaN":0}',
    rb'{"\u0000NaN":"x"}',
    rb'{"\u0000Infinity":[]}',
    rb'{"\u0000literal":"x"}',
    rb'{"\u0000":0}',
    rb'{"":0}',
    b"{}",
]


@pytest.mark.parametrize("forged", FORGED, ids=str)
@pytest.mark.parametrize("other", [b"NaN", b"1"])
def test_the_mark_of_a_literal_cannot_be_forged(forged: bytes, other: bytes) -> None:
    refused(b'{"inputs":[{"name":"x","shape":[2],"datatype":"FP64","data":[%s, %s]}]}' % (other, forged))


def test_bodies_with_literals_are_bounded() -> None:
    def body(size: int) -> bytes:
        head = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP64","data":[NaN]}],"pad":"'
        return head + b"a" * (size - len(head) - 2) + b'"}'

    assert len(body(MAX_NAN_BODY)) == MAX_NAN_BODY
    request, _ = read(body(MAX_NAN_BODY))
    assert repr(request.inputs[0].data.tolist()) == "[nan]"
    refused(body(MAX_NAN_BODY + 1), f"NaN and Infinity are read in bodies of at most {MAX_NAN_BODY} bytes")


def filled(unit: bytes, head: bytes = b"", tail: bytes = b"NaN") -> bytes:
    """A body of exactly 1 MiB: head, unit over and over, tail."""
    count = (MAX_NAN_BODY - len(head) - len(tail)) // len(unit)
    body = head + unit * count + tail
    return body + b" " * (MAX_NAN_BODY - len(body))


ADVERSARIAL = {
    "quotes": filled(b'"'),
    "odd quotes": filled(b'"', head=b'"'),
    "open string": filled(b"a", head=b'NaN"'),
    "backslashes": filled(b"\\", head=b'NaN"'),
    "odd backslashes": filled(b"\\", head=b'NaN"a'),
    "escaped quotes": filled(b'\\"', head=b'NaN"'),
    "escapes": filled(b"\\a", head=b'NaN"'),
    "escapes and text": filled(b"a\\", head=b'NaN"', tail=b""),
    "strings": filled(b'"a",', head=b"[", tail=b"NaN]"),
    "escaped strings": filled(b'"\\\\",', head=b"[", tail=b"NaN]"),
    "half a literal": filled(b"Infinit"),
    "minuses": filled(b"-"),
    "N": filled(b"N"),
    "NaNNaN": filled(b"NaN"),
    "opening brackets": filled(b"["),
    "closing brackets": filled(b"]"),
    "braces": filled(b'{"a":'),
    "zeros": filled(b"\0"),
    "newlines in a string": filled(b"\n", head=b'NaN"'),
    "literals in a list": filled(b"NaN,", head=b"[", tail=b"NaN]"),
    "literals in tensors": filled(
        b"NaN,", head=b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1],"data":[', tail=b"NaN]}]}"
    ),
    "nested literals": filled(
        b"[NaN],", head=b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1],"data":[', tail=b"[NaN]]}]}"
    ),
    "empty lists": filled(
        b"[],", head=b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1],"data":[', tail=b"[NaN]]}]}"
    ),
}


@pytest.mark.parametrize("case", ADVERSARIAL)
def test_adversarial_bodies_take_linear_time(case: str) -> None:
    body = ADVERSARIAL[case]
    assert len(body) == MAX_NAN_BODY
    started = time.thread_time()
    refused(body)
    assert time.thread_time() - started < 4.0  # a tenth of a second here; quadratic work takes minutes


# --- row 2: depth ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"inputs":' + b"[" * 100_000,
        b"[" * 100_000 + b"NaN" + b"]" * 100_000,
    ],
    ids=lambda body: body[:12].decode(),
)
def test_100_000_brackets(body: bytes) -> None:
    started = time.thread_time()
    refused(body, "the body is not JSON")
    assert time.thread_time() - started < 4.0  # a tenth of a second here; quadratic work takes minutes


DEEP = b"[" * 1000 + b"%s" + b"]" * 1000


@pytest.mark.parametrize("inner", [b"", b"1", b'"a"'])
@pytest.mark.parametrize("member", ["name", "shape", "datatype", "data", "parameters"])
def test_a_deep_member_of_a_tensor(member: str, inner: bytes) -> None:
    good = {**X, member: 0}
    body = text({"inputs": [good]}).replace(
        b'"%s": 0' % member.encode(), b'"%s": %s' % (member.encode(), DEEP % inner)
    )
    assert body.count(b"[") > 1000
    refused(body, member)


@pytest.mark.parametrize("member", ["id", "parameters", "outputs", "inputs"])
def test_a_deep_member_of_a_request(member: str) -> None:
    body = b'{"inputs": [%s], "%s": %s}' % (text(X), member.encode(), DEEP % b"1")
    refused(body, member)


def test_a_deep_element() -> None:
    refused_x({"shape": [[[[[1]]]]]}, "tensor 'x': shape must hold integers, got a list or object")
    refused_x({"shape": [{"a": 1}]}, "shape must hold integers")
    refused_x({"shape": [1], "data": [[[[1]]]]}, "nested deeper than the shape")
    refused({"inputs": [X], "parameters": {"p": [1]}}, "parameter 'p' must be a string, number or boolean")
    refused({"inputs": [X], "parameters": {"p": {"q": 1}}}, "parameter 'p'")
    refused_x({"parameters": {"p": [1]}}, "tensor 'x': parameter 'p'")
    refused({"inputs": [X], "outputs": [{"name": "y", "parameters": {"p": {}}}]}, "tensor 'y': parameter 'p'")


# --- row 3: members ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [None, [], {}, "x", 1, True, {"x": [1]}], ids=str)
def test_inputs_are_a_list_of_one_or_more(inputs: object) -> None:
    refused({"inputs": inputs}, "'inputs' must be a list of at least one tensor")


def test_inputs_are_needed() -> None:
    refused({}, "'inputs' must be a list of at least one tensor, got nothing")
    refused({"outputs": [{"name": "y"}]}, "'inputs'")


@pytest.mark.parametrize("item", [None, [], [X], "x", 1, True], ids=str)
@pytest.mark.parametrize("field", ["inputs", "outputs"])
def test_a_tensor_is_an_object(field: str, item: object) -> None:
    good: Document = {"inputs": [X], "outputs": [{"name": "y"}]}
    good[field] = [good[field][0], item]
    refused(good, f"'{field}[1]' must be an object")


@pytest.mark.parametrize("name", [None, 1, True, 1.5, [], ["x"], {}], ids=str)
@pytest.mark.parametrize("field", ["inputs", "outputs"])
def test_a_tensor_has_a_name(field: str, name: object) -> None:
    good: Document = {"inputs": [X], "outputs": [{"name": "y"}]}
    good[field] = [{**good[field][0], "name": name}]
    refused(good, f"'{field}[0].name' must be a string")
    del good[field][0]["name"]
    refused(good, f"'{field}[0].name' must be a string, got nothing")


@pytest.mark.parametrize("field", ["inputs", "outputs"])
def test_at_most_256_tensors(field: str) -> None:
    good: Document = {"inputs": [X], "outputs": [{"name": "y"}]}
    good[field] = good[field] * MAX_TENSORS
    assert len(read(good)[0].inputs if field == "inputs" else read(good)[0].outputs) == MAX_TENSORS == 256
    good[field] = good[field][:1] * (MAX_TENSORS + 1)
    refused(good, f"'{field}' holds 257 tensors, at most 256")


@pytest.mark.parametrize("outputs", [{}, "y", 0, 1, False, True, "", {"name": "y"}], ids=repr)
def test_outputs_are_a_list(outputs: object) -> None:
    refused({"inputs": [X], "outputs": outputs}, "'outputs' must be a list of objects")


@pytest.mark.parametrize("parameters", [[], "p", 0, 1, False, [["p", 1]]], ids=repr)
def test_parameters_are_an_object(parameters: object) -> None:
    refused({"inputs": [X], "parameters": parameters}, "'parameters' must be an object")
    refused_x({"parameters": parameters}, "'parameters' must be an object")
    refused(
        {"inputs": [X], "outputs": [{"name": "y", "parameters": parameters}]},
        "'parameters' must be an object",
    )


@pytest.mark.parametrize("shape", [None, 2, "2", {}, {"0": 2}, True], ids=repr)
def test_a_shape_is_a_list(shape: object) -> None:
    refused_x({"shape": shape}, "tensor 'x': shape must be a list of integers")


@pytest.mark.parametrize("data", [1, 1.5, "12", True, {}, {"0": 1}], ids=repr)
def test_data_is_a_list(data: object) -> None:
    refused_x({"data": data}, "tensor 'x': data must be a list")


@pytest.mark.parametrize("member", ["shape", "datatype", "data"])
def test_a_tensor_misses_a_member(member: str) -> None:
    tensor = {name: value for name, value in X.items() if name != member}
    refused({"inputs": [tensor]}, f"tensor 'x': {'one of data' if member == 'data' else member}")
    refused_x({member: None}, f"tensor 'x': {'one of data' if member == 'data' else member}")


# --- rows 4 to 7: shapes, counts, datatypes, values --------------------------------------------------------

WRONG_TENSORS: list[tuple[Document, str]] = [
    ({"shape": [-2]}, "dimension -2"),
    ({"shape": [-1, -1]}, "2 unknown dimensions"),
    ({"shape": [2.0]}, "integers, got '2.0'"),
    ({"shape": [2.5]}, "integers, got '2.5'"),
    ({"shape": ["2"]}, "integers, got '2'"),
    ({"shape": [True]}, "integers, got 'True'"),
    ({"shape": [None]}, "integers, got 'None'"),
    ({"shape": [1] * 33, "data": [1]}, "33 dimensions"),
    ({"shape": [2**31 + 1]}, "dimension 2147483649"),
    ({"shape": [10**30]}, "integers, got '1e+30'"),
    ({"shape": [2**32, 2**32]}, "dimension 4294967296"),
    ({"shape": [2**13, 2**13, 2]}, "more than 67108864 elements"),
    ({"shape": [0, 2**31, 2**31, 2**31, 2**31], "data": []}, "more than 67108864 elements"),
    ({"shape": [2**26]}, "67108864 elements, data has 2"),
    ({"shape": [3]}, "3 elements, data has 2"),
    ({"shape": [0]}, "0 elements, data has 2"),
    ({"shape": []}, "1 elements, data has 2"),
    ({"shape": [-1, 3]}, "no size for -1"),
    ({"shape": [2, 2], "data": [[1, 2], [3]]}, "nested exactly as shape [2, 2]"),
    ({"shape": [2, 2], "data": [[1, 2, 3], [4]]}, "expected a list of 2, got 3"),
    ({"shape": [2, 2], "data": [[1, 2], 3]}, "expected a list of 2, got integer"),
    ({"datatype": "FP65"}, "datatype must be one of"),
    ({"datatype": "fp64"}, "got 'fp64'"),
    ({"datatype": 64}, "got no string"),
    ({"datatype": "FP16"}, "FP16 travels as binary data only"),
    ({"datatype": "BF16"}, "BF16 travels as binary data only"),
    ({"data": ["1", 2]}, "FP64 takes numbers or null, got string"),
    ({"data": [True, 2]}, "got true or false"),
    ({"data": [{}, 2]}, "got object"),
    ({"datatype": "UINT8", "data": [256, 0]}, "256 is out of range for UINT8"),
    ({"datatype": "UINT64", "data": [-1, 0]}, "-1 is out of range for UINT64"),
    ({"datatype": "INT64", "data": [2**63, 0]}, "9223372036854775808 is out of range for INT64"),
    ({"datatype": "UINT64", "data": [2**64, 0]}, "UINT64 takes integers, got 1.8446744073709552e+19"),
    ({"datatype": "INT64", "data": [1.5, 0]}, "INT64 takes integers, got 1.5"),
    ({"datatype": "INT64", "data": [True, 0]}, "got true or false"),
    ({"datatype": "INT64", "data": ["1", 0]}, "got string"),
    ({"datatype": "INT64", "data": [None, 0]}, "got null"),
    ({"datatype": "FP32", "data": [1e39, 0]}, "1e+39 is out of range for FP32"),
    ({"datatype": "BOOL", "data": [1, 0]}, "BOOL takes true or false, got integer"),
    ({"datatype": "BYTES", "data": [1, "a"]}, "BYTES takes strings, got integer"),
]


@pytest.mark.parametrize(("members", "words"), WRONG_TENSORS, ids=lambda value: str(value)[:50])
def test_a_wrong_tensor_names_itself(members: Document, words: str) -> None:
    assert refused_x(members, words).startswith("tensor 'x': ")
    second = {"inputs": [{**X, "name": "first"}, {**X, **members}]}
    assert refused(second, words).startswith("tensor 'x': ")


def test_large_integers_survive() -> None:
    assert read_x(datatype="INT64", data=[2**53 + 1, -(2**63)]).tolist() == [2**53 + 1, -(2**63)]
    assert read_x(datatype="UINT64", data=[2**64 - 1, 2**53 + 1]).tolist() == [2**64 - 1, 2**53 + 1]


def test_shapes_with_nothing_and_shapes_of_one() -> None:
    assert read_x(shape=[0, 3], data=[]).shape == (0, 3)
    assert read_x(shape=[2, 0], data=[[], []]).shape == (2, 0)
    assert read_x(shape=[], data=[5]).shape == ()
    assert read_x(shape=[2, -1], data=[[1, 2, 3], [4, 5, 6]]).shape == (2, 3)


def test_a_long_name_is_cut() -> None:
    message = refused_x({"name": "\x1b[2J" + "n" * 100_000, "shape": [3]})
    assert message.startswith("tensor '?[2Jnnn")
    assert len(message) < 250


# --- row 9: names are for the contract ---------------------------------------------------------------------


def test_names_are_kept_as_they_come() -> None:
    request, _ = read(
        {"inputs": [X, {**X, "name": "х"}, X], "outputs": [{"name": "y"}, {"name": "y"}, {"name": ""}]}
    )
    assert [tensor.name for tensor in request.inputs] == ["x", "х", "x"]
    assert list(request.outputs) == ["y", "y", ""]


# --- row 10: the binary extension --------------------------------------------------------------------------


def raw(name: str, datatype: Datatype, shape: Sequence[int], size: object) -> Document:
    return {
        "name": name,
        "datatype": datatype.name,
        "shape": list(shape),
        "parameters": {"binary_data_size": size},
    }


@pytest.mark.parametrize("datatype", [one for one in DATATYPES.values() if one is not BYTES], ids=str)
def test_raw_tensors(datatype: Datatype) -> None:
    blob = bytes([1, 0] * datatype.itemsize) if datatype is BOOL else bytes(range(2 * datatype.itemsize))
    request, _ = read({"inputs": [raw("x", datatype, [-1], len(blob))]}, blob)
    (tensor,) = request.inputs
    assert tensor.datatype is datatype
    if datatype is BF16:
        assert tensor.data.tobytes() == b"\0\0\0\1\0\0\2\3"
    else:
        assert tensor.data.tobytes() == blob


def test_raw_tensors_follow_in_the_order_of_the_inputs() -> None:
    numbers, words = np.arange(4.0).tobytes(), b"\1\0\0\0a\0\0\0\0"
    document = {
        "inputs": [
            raw("a", FP64, [2, 2], 32),
            {**X, "name": "listed"},
            raw("empty", INT64, [0, 3], 0),
            raw("b", BYTES, [2], 9),
            raw("nothing", BYTES, [0], 0),
        ]
    }
    request, _ = read(document, numbers, words)
    assert [(tensor.name, tensor.data.tolist()) for tensor in request.inputs] == [
        ("a", [[0.0, 1.0], [2.0, 3.0]]),
        ("listed", [1.0, 2.0]),
        ("empty", []),
        ("b", [b"a", b""]),
        ("nothing", []),
    ]


@pytest.mark.parametrize("shift", range(8))
def test_raw_tensors_are_views_of_the_body_where_that_is_aligned(shift: int) -> None:
    head = text({"inputs": [raw("x", FP64, [2], 16)]})
    head += b" " * (-len(head) % 8 + shift)
    body = head + np.arange(2.0).tobytes()
    request, _ = decode_request(body, str(len(head)), ENVELOPE)
    array = request.inputs[0].data
    assert array.flags.aligned
    assert array.tolist() == [0, 1]
    assert np.shares_memory(array, np.frombuffer(body, np.uint8)) == (shift == 0)


def test_nan_bits_survive_raw() -> None:
    blob = struct.pack("<QQ", 0x7FF8000000000123, 0xFFF0000000000001)
    request, _ = read({"inputs": [raw("x", FP64, [2], 16)]}, blob)
    assert request.inputs[0].data.tobytes() == blob


@pytest.mark.parametrize(
    "length", ["", " ", "-1", "+5", "1.0", "1e2", "0x10", "abc", "1 ", " 1", "1_0", "٣", "²", "9" * 19]
)
def test_header_lengths_that_are_junk(length: str) -> None:
    refusal(
        lambda: read({"inputs": [X]}, length=length),
        "Inference-Header-Content-Length must be a number from 0",
    )


def test_a_header_length_of_20_digits_or_past_the_body() -> None:
    size = len(GOOD)
    assert read(GOOD, length=str(size))[0].inputs[0].data.tolist() == [1, 2]
    for length in (str(size + 1), "1" * 20, "9" * 5000, "0" * 5000):
        message = refusal(lambda length=length: read(GOOD, length=length), f"from 0 to {size}, the body's")  # type: ignore[misc]
        assert len(message) < 300


def test_a_header_length_that_cuts_the_json() -> None:
    refusal(lambda: read(GOOD, length=str(len(GOOD) - 1)), "the body is not JSON")
    refusal(lambda: read(GOOD, length="0"), "the body is empty")
    refusal(lambda: read(b"", length="0"), "the body is empty")


@pytest.mark.parametrize("size", [-1, 1.5, 16.0, True, "16", 10**30], ids=repr)
def test_binary_sizes_that_are_no_sizes(size: object) -> None:
    document = {"inputs": [raw("x", FP64, [2], size)]}
    refusal(lambda: read(document, bytes(16)), "tensor 'x': binary_data_size must be an unsigned integer")


@pytest.mark.parametrize(
    ("size", "blob", "words"),
    [
        (16, 15, "binary_data_size is 16, but 15 bytes are left in the body"),
        (16, 0, "binary_data_size is 16, but 0 bytes are left in the body"),
        (2**64 - 1, 16, "binary_data_size is 18446744073709551615, but 16 bytes are left"),
        (16, 17, "the body holds 1 bytes more than the inputs' binary_data_size"),
        (8, 16, "FP64 of shape [2] takes 16 bytes, got 8"),
        (24, 24, "FP64 of shape [2] takes 16 bytes, got 24"),
        (0, 0, "takes 16 bytes, got 0"),
    ],
)
def test_binary_sizes_that_lie(size: int, blob: int, words: str) -> None:
    head = text({"inputs": [raw("x", FP64, [2], size)]})
    refusal(lambda: read(head, bytes(blob), length=str(len(head))), words)


def test_tensors_never_share_bytes() -> None:
    document = {"inputs": [raw("a", FP64, [1], 8), raw("b", FP64, [1], 8)]}
    refusal(lambda: read(document, bytes(8)), "tensor 'b': binary_data_size is 8, but 0 bytes are left")


def test_bytes_behind_json_tensors() -> None:
    refusal(lambda: read({"inputs": [X]}, b"\0"), "the body holds 1 bytes more")


def test_data_and_binary_size_exclude_each_other() -> None:
    both = {**X, "parameters": {"binary_data_size": 16}}
    refusal(
        lambda: read({"inputs": [both]}, bytes(16)),
        "tensor 'x': one of data and binary_data_size",
        "got both",
    )
    neither = {"name": "x", "shape": [2], "datatype": "FP64", "parameters": {}}
    refused({"inputs": [neither]}, "tensor 'x': one of data and binary_data_size", "got neither")


def test_a_binary_size_needs_the_header() -> None:
    for size in (0, 16):
        refused(
            {"inputs": [raw("x", FP64, [2], size)]},
            "tensor 'x'",
            "needs the header Inference-Header-Content-Length",
        )


@pytest.mark.parametrize("blob", [b"\xff\xff\xff\xff", b"\xff\xff\xff\xffab", b"\1\0\0", b"\1\0\0\0ab", b""])
def test_bytes_that_lie(blob: bytes) -> None:
    head = text({"inputs": [raw("x", BYTES, [1], len(blob))]})
    refusal(lambda: read(head, blob, length=str(len(head))), "tensor 'x': ")


def test_a_huge_shape_with_little_data_allocates_nothing() -> None:
    bodies: list[tuple[bytes, str | None]] = []
    for shape in ([2**26], [2**31, 2**31], [2**13, 2**13]):
        for datatype in (FP64, BYTES, BOOL):
            head = text({"inputs": [raw("x", datatype, shape, 8)]})
            bodies.append((head + bytes(8), str(len(head))))
            bodies.append((text({"inputs": [{**X, "datatype": datatype.name, "shape": shape}]}), None))
    for body, length in bodies:
        tracemalloc.start()
        try:
            refusal(lambda body=body, length=length: decode_request(body, length, ENVELOPE), "tensor 'x'")  # type: ignore[misc]
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 2**17


@pytest.mark.parametrize("name", ["shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"])
def test_shared_memory_is_not_supported(name: str) -> None:
    tensor = {"name": "x", "shape": [2], "datatype": "FP64", "parameters": {name: 1}}
    refused({"inputs": [tensor]}, f"tensor 'x': parameter '{name}' is not supported", kind=Unsupported)
    output = {"name": "y", "parameters": {name: 1}}
    refused({"inputs": [X], "outputs": [output]}, f"tensor 'y': parameter '{name}'", kind=Unsupported)


def test_classification_takes_a_count() -> None:
    output = {"name": "y", "parameters": {"classification": 0}}
    refused(
        {"inputs": [X], "outputs": [output]}, "output 'y': classification must be a number from 1, got '0'"
    )


# --- raw binary requests -----------------------------------------------------------------------------------


def read_raw(body: bytes, *inputs: TensorMetadata) -> Array:
    request, plan = decode_raw_request(body, inputs, ENVELOPE)
    (tensor,) = request.inputs
    assert (tensor.name, tensor.datatype) == (inputs[0].name, inputs[0].datatype)
    assert (request.model_name, request.id, list(request.outputs)) == ("m", "request-1", [])
    assert plan.is_binary("anything")
    return tensor.data


@pytest.mark.parametrize(
    ("declared", "count", "shape"),
    [
        ((-1, 3), 3, (1, 3)),
        ((-1, -1), 5, (1, 5)),
        ((-1, 2, -1), 6, (1, 2, 3)),
        ((-1,), 1, (1,)),
        ((8, 2), 2, (1, 2)),
    ],
)
def test_a_raw_request_is_one_row(declared: tuple[int, ...], count: int, shape: tuple[int, ...]) -> None:
    array = read_raw(np.arange(float(count)).tobytes(), TensorMetadata("x", FP64, declared))
    assert (array.shape, array.ravel().tolist()) == (shape, [float(number) for number in range(count)])


@pytest.mark.parametrize("body", [b"", b"a", b"\xff\xff\xff\xff", b"abc" * 1000])
@pytest.mark.parametrize("declared", [(-1,), (-1, 1), (-1, -1)])
def test_a_raw_element_has_no_length_prefix(declared: tuple[int, ...], body: bytes) -> None:
    array = read_raw(body, TensorMetadata("x", BYTES, declared))
    assert (array.shape, array.ravel().tolist()) == ((1,) * len(declared), [body])


def test_raw_requests_that_cannot_be() -> None:
    x = TensorMetadata("x", FP64, (-1, 3))

    def refused_raw(body: bytes, inputs: list[TensorMetadata], *words: str) -> None:
        refusal(lambda: decode_raw_request(body, inputs, ENVELOPE), *words)

    refused_raw(bytes(24), [x, x], "a model with one input, this one has 2")
    refused_raw(bytes(24), [], "this one has 0")
    refused_raw(bytes(25), [x], "tensor 'x': FP64 of shape [1, 3] takes 24 bytes, got 25")
    refused_raw(bytes(48), [x], "takes 24 bytes, got 48")
    refused_raw(bytes(8), [TensorMetadata("x", FP64, (-1, -1, -1))], "2 unknown dimensions")
    refused_raw(bytes(20), [TensorMetadata("x", FP64, (-1, -1))], "a multiple of 8 bytes, got 20")
    refused_raw(b"ab", [TensorMetadata("x", BYTES, (-1, 2))], "a single BYTES element")


# --- answers -----------------------------------------------------------------------------------------------


def answer(*outputs: Tensor, plan: Plan | None = None, **rest: Any) -> Body:
    return encode_response(InferenceResponse("m", "7", "1", outputs, **rest), plan or Plan())


def y(array: Array, datatype: Datatype = FP64, name: str = "y") -> Tensor:
    return Tensor(name, datatype, array)


def understood(body: Body) -> tuple[Document, dict[str, bytes]]:
    """The JSON of an answer and the raw tensors behind it, split as a client would."""
    head, rest = (
        body.data[: body.header_length],
        body.data[body.header_length :] if body.header_length else b"",
    )
    document = json.loads(head, parse_constant=lambda literal: pytest.fail(f"{literal} is not JSON"))
    blobs = {}
    for output in document["outputs"]:
        size = output["parameters"].get("binary_data_size")
        assert ("data" in output) == (size is None)
        if size is not None:
            blobs[output["name"]], rest = rest[:size], rest[size:]
    assert rest == b""
    return document, blobs


def test_an_answer_in_json() -> None:
    body = answer(y(np.array([[1.5], [2.0]])), parameters={"content_type": "np"})
    assert (body.header_length, body.content_type) == (None, JSON) == (None, b"application/json")
    assert json.loads(body.data) == {
        "model_name": "m",
        "model_version": "7",
        "id": "1",
        "parameters": {"content_type": "np"},
        "outputs": [{"name": "y", "shape": [2, 1], "datatype": "FP64", "parameters": {}, "data": [1.5, 2.0]}],
    }


def test_an_answer_in_binary() -> None:
    body = answer(y(np.array([[1.5], [2.0]])), plan=Plan(binary=True))
    assert body.content_type == BINARY == b"application/octet-stream"
    document, blobs = understood(body)
    assert document["outputs"] == [
        {"name": "y", "shape": [2, 1], "datatype": "FP64", "parameters": {"binary_data_size": 16}}
    ]
    assert blobs == {"y": struct.pack("<dd", 1.5, 2.0)}


def test_binary_data_overrides_binary_data_output() -> None:
    for everywhere in (True, False):
        _, plan = read(
            {
                "inputs": [X],
                "parameters": {"binary_data_output": everywhere},
                "outputs": [
                    {"name": "raw", "parameters": {"binary_data": True}},
                    {"name": "listed", "parameters": {"binary_data": False}},
                    {"name": "default"},
                    {"name": "empty", "parameters": {}},
                ],
            }
        )
        binary = [plan.is_binary(name) for name in ("raw", "listed", "default", "empty", "unnamed")]
        assert binary == [True, False, everywhere, everywhere, everywhere]


@pytest.mark.parametrize("value", [1, 0, "true", 1.0], ids=repr)
def test_binary_data_is_true_or_false(value: object) -> None:
    output = {"name": "y", "parameters": {"binary_data": value}}
    refused({"inputs": [X], "outputs": [output]}, "output 'y': binary_data must be true or false")
    refused(
        {"inputs": [X], "parameters": {"binary_data_output": value}}, "'binary_data_output'", "true or false"
    )


def test_json_and_binary_outputs_mix_in_order() -> None:
    outputs = [y(np.array([float(number)]), name=name) for number, name in enumerate("abcd")]
    document, blobs = understood(answer(*outputs, plan=Plan(True, {"a": False, "c": False})))
    assert [output["name"] for output in document["outputs"]] == ["a", "b", "c", "d"]
    assert [output.get("data") for output in document["outputs"]] == [[0.0], None, [2.0], None]
    assert blobs == {"b": struct.pack("<d", 1), "d": struct.pack("<d", 3)}


def test_an_empty_raw_output_is_still_binary() -> None:
    body = answer(y(np.zeros((0, 2))), plan=Plan(binary=True))
    assert body.header_length == len(body.data)
    document, blobs = understood(body)
    assert (document["outputs"][0]["shape"], blobs) == ([0, 2], {"y": b""})


def test_nan_and_infinity_leave_as_null() -> None:
    values = [math.nan, math.inf, -math.inf, -0.0, 0.1]
    for datatype in (FP32, FP64):
        document, _ = understood(answer(y(np.array(values, datatype.dtype), datatype)))
        assert repr(document["outputs"][0]["data"]) == "[None, None, None, -0.0, 0.1]"
    _, blobs = understood(answer(y(np.array(values)), plan=Plan(binary=True)))
    assert blobs["y"] == struct.pack("<5d", *values)


def test_parameters_of_an_output_are_kept_and_not_changed() -> None:
    parameters = {"content_type": "np"}
    output = Tensor("y", FP64, np.zeros(1), parameters)
    listed, _ = understood(answer(output))
    binary, _ = understood(answer(output, plan=Plan(binary=True)))
    assert listed["outputs"][0]["parameters"] == {"content_type": "np"}
    assert binary["outputs"][0]["parameters"] == {"content_type": "np", "binary_data_size": 8}
    assert parameters == {"content_type": "np"}


@pytest.mark.parametrize("datatype", [FP16, BF16], ids=str)
def test_half_precision_needs_binary(datatype: Datatype) -> None:
    output = y(np.array([1.5], datatype.dtype), datatype)
    refusal(lambda: answer(output), f"output 'y' is {datatype}: request it with binary_data")
    _, blobs = understood(answer(output, plan=Plan(named={"y": True})))
    assert len(blobs["y"]) == 2


def objects(*elements: bytes) -> Array:
    array: Array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array


def test_bytes_that_are_no_text_need_binary() -> None:
    refusal(lambda: answer(y(objects(b"a", b"\xff"), BYTES)), "output 'y' holds bytes that are not UTF-8")
    _, blobs = understood(answer(y(objects(b"a", b"\xff\0"), BYTES), plan=Plan(binary=True)))
    assert blobs["y"] == b"\1\0\0\0a\2\0\0\0\xff\0"
    document, _ = understood(answer(y(objects("é".encode(), b"", b"\0"), BYTES)))
    assert document["outputs"][0]["data"] == ["é", "", "\0"]


@pytest.mark.parametrize("binary", [True, False])
def test_an_answer_does_not_depend_on_the_memory_layout(binary: bool) -> None:
    array = np.arange(12.0).reshape(3, 4)
    plan = Plan(binary)
    expected = answer(y(array), plan=plan).data
    for other in (
        np.asfortranarray(array),
        array.astype(">f8"),
        np.repeat(array, 2, axis=1)[:, ::2],
        array.T.copy().T,
    ):
        assert answer(y(other), plan=plan).data == expected


# --- there and back ----------------------------------------------------------------------------------------


def element(datatype: Datatype) -> st.SearchStrategy[Any]:
    if datatype is BOOL:
        return st.booleans()
    if datatype is BYTES:
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=4).map(str.encode)
    if datatype.is_float:
        return st.floats(width=16) if datatype in (FP16, BF16) else st.floats(width=32)
    limits = np.iinfo(datatype.dtype)
    return st.integers(int(limits.min), int(limits.max))


@st.composite
def tensors(draw: st.DrawFn, name: str) -> Tensor:
    datatype = draw(st.sampled_from(list(DATATYPES.values())))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=4)))
    count = math.prod(shape)
    array: Array = np.empty(count, datatype.dtype)
    array[:] = draw(st.lists(element(datatype), min_size=count, max_size=count))
    if datatype is BF16:
        array = (array.view(np.uint32) & 0xFFFF0000).view(np.float32)
    return Tensor(name, datatype, array.reshape(shape))


def same(sent: Tensor, got: Tensor, nulled: bool) -> bool:
    """Equal to the sign of zero; where JSON has carried it, infinities have become NaN like NaN itself."""
    expected = sent.data
    if nulled and sent.datatype.is_float:
        expected = np.where(np.isfinite(expected), expected, expected.dtype.type(math.nan))
    meta = (sent.name, sent.datatype, expected.shape, expected.dtype)
    return meta == (got.name, got.datatype, got.data.shape, got.data.dtype) and repr(
        expected.tolist()
    ) == repr(got.data.tolist())


@given(data=st.data(), binary=st.sets(st.sampled_from("abcd")))
def test_an_answer_read_as_a_question_is_the_same(data: st.DataObject, binary: set[str]) -> None:
    sent = [data.draw(tensors(name)) for name in data.draw(st.sets(st.sampled_from("abcd"), min_size=1))]
    raw_only = {tensor.name for tensor in sent if not tensor.datatype.json_allowed}
    plan = Plan(named=dict.fromkeys(binary | raw_only, True))

    body = encode_response(InferenceResponse("m", "7", "é", sent), plan)

    document, blobs = understood(body)
    assert set(blobs) == {tensor.name for tensor in sent if plan.is_binary(tensor.name)}
    head = text({"inputs": document["outputs"], "id": document["id"]})
    request, _ = read(head, *blobs.values(), length=str(len(head)))
    assert request.id == "é"
    assert len(request.inputs) == len(sent)
    for tensor, got in zip(sent, request.inputs, strict=True):
        assert same(tensor, got, nulled=tensor.name not in blobs)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "name",
                        "shape",
                        "datatype",
                        "data",
                        "parameters",
                        "binary_data_size",
                        "binary_data",
                        "id",
                        "inputs",
                    ]
                ),
                inner,
                max_size=3,
            )
        ),
        max_leaves=8,
    ),
    st.sampled_from(
        ["name", "shape", "datatype", "data", "parameters", "inputs", "outputs", "id", "request parameters"]
    ),
)
def test_any_json_anywhere_is_understood_or_refused(value: Any, member: str) -> None:
    document: Mapping[str, Any]
    if member in X or member == "parameters":
        document = {"inputs": [{**X, member: value}]}
    else:
        document = {"inputs": [X], member.removeprefix("request "): value}
    try:
        request, _ = read(document)
    except BadRequest as fault:
        refused(document, fault.message)
    else:
        assert [tensor.data.size for tensor in request.inputs] == [2]
        assert isinstance(request.id, str)
