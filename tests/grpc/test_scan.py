"""Large messages are read as protobuf reads them, but do not grow."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from oipserver.core.codec import MAX_STRINGS
from oipserver.core.errors import BadRequest
from oipserver.grpc import scan
from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest
from oipserver.grpc.scan import MAX_FIELDS, split_raw
from oipserver.grpc.wire import SCANNED, decode_request

messages = st.builds(
    ModelInferRequest,
    model_name=st.text(max_size=200),
    id=st.text(max_size=20),
    inputs=st.lists(
        st.builds(
            ModelInferRequest.InferInputTensor,
            name=st.text(max_size=5),
            shape=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
        ),
        max_size=4,
    ),
    raw_input_contents=st.lists(st.binary(max_size=300), max_size=4),
)


@given(messages)
def test_nothing_is_lost(message: ModelInferRequest) -> None:
    rest, raw = split_raw(message.SerializeToString())
    assert raw == list(message.raw_input_contents)
    del message.raw_input_contents[:]
    assert ModelInferRequest.FromString(rest) == message


@given(st.binary(max_size=60))
def test_what_protobuf_accepts_is_read_the_same(body: bytes) -> None:
    try:
        rest, raw = split_raw(body)
        ours: ModelInferRequest | None = ModelInferRequest.FromString(rest)
    except (BadRequest, DecodeError):
        ours = None
    try:
        theirs: ModelInferRequest | None = ModelInferRequest.FromString(body)
    except DecodeError:
        theirs = None
    if ours is not None:
        ours.raw_input_contents.extend(raw)
        assert ours == theirs


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a",  # a length is missing
        b"\x0a\x05abc",  # the value is shorter than its length
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a varint of more than ten bytes
        b"\x0d\x00\x00",  # four bytes announced
        b"\x0b",  # a group
        b"\x2a\x02\x0a\x05",  # a tensor's field ends outside of the tensor
    ],
)
def test_malformed(body: bytes) -> None:
    with pytest.raises(BadRequest, match="not a valid protobuf message"):
        split_raw(body)


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(b"\x2a\x00", id="empty inputs"),
        pytest.param(b"\x32\x00", id="empty outputs"),
        pytest.param(b"\x3a\x00", id="empty raw tensors"),
        pytest.param(b"\x22\x00", id="parameters"),
        pytest.param(b"\x78\x01", id="unknown fields"),
    ],
)
def test_small_fields_in_great_number_are_refused(field: bytes) -> None:
    body = field * max(MAX_FIELDS + 1, SCANNED)
    with pytest.raises(BadRequest, match=f"more than {MAX_FIELDS} fields"):
        decode_request(body, 0.0, 1.0, "id")


def test_parameters_of_a_tensor_in_great_number_are_refused() -> None:
    inside = b"\x22\x00" * MAX_FIELDS
    size = len(inside)
    body = b"\x2a" + bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14]) + inside
    with pytest.raises(BadRequest, match=f"more than {MAX_FIELDS} fields"):
        split_raw(body)


def delimited(tag: bytes, value: bytes) -> bytes:
    """A field whose value has fewer than 2^28 bytes; padded varints are varints."""
    size = len(value)
    return (
        tag
        + bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14 & 0x7F | 0x80, size >> 21])
        + value
    )


def test_strings_in_great_number_are_refused() -> None:
    strings = b"\x42\x00" * (MAX_STRINGS + 1)
    with pytest.raises(BadRequest, match=f"more than {MAX_STRINGS} elements in bytes_contents"):
        split_raw(delimited(b"\x2a", delimited(b"\x2a", strings)))


def typed(*counts: int, string: bytes = b"") -> bytes:
    inputs = [{"contents": {"bytes_contents": [string] * count}} for count in counts]
    return ModelInferRequest(inputs=inputs).SerializeToString()


@pytest.mark.parametrize("size", [0, 127, 128, 2**14])
def test_strings_of_all_inputs_are_counted(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(scan, "MAX_STRINGS", 10)
    body = typed(4, 6, string=b"x" * size)
    assert split_raw(body) == (body, [])
    with pytest.raises(BadRequest, match="more than 10 elements"):
        split_raw(typed(4, 7, string=b"x" * size))


@pytest.mark.parametrize("contents", [b"\x42\x05ab", b"\x42", b"\x42\xff", b"\x09ab", b"\x43"])
def test_malformed_contents(contents: bytes) -> None:
    with pytest.raises(BadRequest, match="not a valid protobuf message"):
        split_raw(delimited(b"\x2a", delimited(b"\x2a", contents)))
