"""What must not break, tried over the wire on each front; afterwards both answer a good request.

What is tried, and by which test ("the table" is `cases.py`, run behind every door by `test_table.py`):

JSON that is none, literals and numbers without end     what_is_not_json, literals_that_json_has_not
nesting without end                                     nesting_without_end, objects_without_end
fields missing, null, of the wrong type, too many       fields_of_the_wrong_type, fields_missing_in_protobuf
shapes that lie, overflow or are not the model's        the table, and bad_tensors
counts that differ, ragged rows, lying length prefixes  the table, and bad_tensors
unknown or wrong datatypes, raw and typed together      the table, bad_tensors, mixed_tensor_forms
values outside of their datatype                        the table, and bad_tensors
NaN where the model takes none                          the table, and bad_tensors
duplicate, unknown, missing, look-alike names           the table, and bad_tensors
binary tensor data that lies about its sizes            binary_data_that_lies, two_binary_tensors
bodies over the limit: announced, chunked, tiny chunks  a_body_over_the_limit, tiny_chunks, a_grpc_message
compressed bodies that explode or cannot be read        a_compressed_body, a_coding, a_compressed_grpc_message
messages that are no protobuf, calls that are none      what_is_not_protobuf, a_million_empty_inputs
names, versions and ids that want to be something else  a_hostile_name, a_hostile_request_id, an_id
HTTP that two readers could read differently            ambiguous_http, an_endless_head, pipelined_requests
pickles and forms as bodies                             a_pickle_is_not_json, a_form_is_refused
callers who leave                                       a_caller_who_leaves
"""

from __future__ import annotations

import gzip
import pickle
import re
import socket
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grpc
import orjson
import pytest
import zstandard

from oipserver.grpc._generated.open_inference_pb2 import (
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelReadyRequest,
    ModelReadyResponse,
)
from tests.conformance.callers import Caller, check_health, document, infer, protobuf
from tests.conformance.cases import CASES, Error
from tests.conformance.doors import Ask, Door, Given, Refused, grpc_message
from tests.conformance.system import MAX_BODY, MAX_JSON, Ended, System
from tests.conformance.wires import (
    SERVICE,
    Answer,
    Channel,
    Connection,
    ask,
    chunked,
    failed,
    head,
    message,
    succeeded,
)
from tests.support import PATIENCE, GatedModel

INFER = "/v2/models/doubler/infer"
HOSTS = ("ours", "h11", "httptools")
GOOD = orjson.dumps(document())
LENGTH = "Inference-Header-Content-Length"

host = pytest.mark.parametrize("host", HOSTS)


@pytest.fixture(autouse=True)
def _well_afterwards(system: System, channel: Channel) -> Iterator[None]:
    yield
    check_health(system.ports["ours"], channel)
    system.wait_inside(0)


def text(data: str = "[1.0, 0.5]", datatype: str = "FP64", shape: str = "[1, 2]", more: str = "") -> bytes:
    """A JSON request with parts that a JSON writer would not write."""
    tensor = f'{{"name": "x", "datatype": "{datatype}", "shape": {shape}, "data": {data}}}'
    return f'{{"inputs": [{tensor}]{more}}}'.encode("utf-8", "surrogatepass")


# --- JSON --------------------------------------------------------------------------------------------------

NOT_JSON: Mapping[str, bytes] = {
    "nothing": b"",
    "blanks": b"  \n",
    "a word": b"hello",
    "half an object": GOOD[:-1],
    "two objects": GOOD + GOOD,
    "bytes behind the object": GOOD + b"\0",
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "UTF-32": GOOD.decode().encode("utf-32-le"),
    "Latin-1": text().replace(b'"x"', b'"\xe4"'),
    "single quotes": GOOD.replace(b'"', b"'"),
    "a comment": b"// hello\n" + GOOD,
    "a trailing comma": text("[1.0, 0.5,]"),
    "a leading zero": text("[01, 0.5]"),
    "a plus sign": text("[+1, 0.5]"),
    "a hexadecimal number": text("[0x1, 0.5]"),
    "1e400": text("[1e400, 0.5]"),
    "-1e400": text("[-1e400, 0.5]"),
    "nan in lower case": text("[nan, 0.5]"),
    "inf": text("[inf, 0.5]"),
    "a lone surrogate": text('["\\ud800", "a"]', "BYTES"),
    "a lone surrogate, encoded": text('["\ud800", "a"]', "BYTES"),
    "a raw control character": text('["\x01", "a"]', "BYTES"),
    "a string that does not end": b'{"inputs": "' + b"x" * 1000,
    "200 000 digits in an integer": text("[" + "9" * 200_000 + ", 1]", "INT64"),
    "NaN in an integer tensor": text("[NaN, 1]", "INT64"),
    "NaN in a shape": text(shape="[NaN, 2]"),
    "Infinity as a timeout": text(more=', "parameters": {"timeout": Infinity}'),
    "NaN as a parameter": text(more=', "parameters": {"p": NaN}'),
    "NaN as an id": text(more=', "id": NaN'),
    "NaN and a syntax error": text("[NaN, 0.5,]"),
    "a list": b"[]",
    "a string": b'"inputs"',
    "a number": b"1",
    "null": b"null",
}


@host
@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_not_json_is_refused(system: System, host: str, name: str) -> None:
    with Connection(system.ports[host]) as connection:
        connection.ask(message("POST", INFER, NOT_JSON[name])).error("BAD_REQUEST")
        assert connection.ask(message("POST", INFER, GOOD)).status == 200


def test_literals_that_json_has_not_are_read_in_floating_data_and_answered_as_null(system: System) -> None:
    answer = infer(system.ports["ours"], text("[NaN, -Infinity]"))
    assert answer.json()["outputs"][0]["data"] == [None, None]
    strings = text('["NaN", "-Infinity"]', "BYTES", more=', "parameters": {"x": "Infinity"}')
    answer = infer(system.ports["ours"], strings, model="echo-BYTES")
    assert answer.json()["outputs"][0]["data"] == ["NaN", "-Infinity"]


def test_200_000_digits_of_a_fraction_are_only_a_number(system: System) -> None:
    answer = infer(system.ports["ours"], text("[0." + "1" * 200_000 + ", 0.5]"))
    assert answer.json()["outputs"][0]["data"] == [2 / 9, 1.0]


@pytest.mark.parametrize("depth", [33, 1000, 100_000, 250_000])
@pytest.mark.parametrize(
    "place", ["data", "shape", "parameter", "tensor parameter", "unknown", "id", "inputs"]
)
def test_nesting_without_end_is_refused(system: System, place: str, depth: int) -> None:
    nested = "[" * depth + "]" * depth
    body = {
        "data": text(nested),
        "shape": text(shape=nested),
        "parameter": text(more=f', "parameters": {{"p": {nested}}}'),
        "tensor parameter": text(shape=f'[1, 2], "parameters": {{"p": {nested}}}'),
        "unknown": text(more=f', "extra": {nested}'),
        "id": text(more=f', "id": {nested}'),
        "inputs": f'{{"inputs": {nested}}}'.encode(),
    }[place]
    answer = infer(system.ports["ours"], body)
    if place == "unknown" and answer.status == 200:
        assert depth <= 1000, "what nobody reads may be nested, but not without end"
    else:
        answer.error("BAD_REQUEST")


def test_objects_without_end_are_refused(system: System) -> None:
    nested = '{"a":' * 100_000 + "1" + "}" * 100_000
    infer(system.ports["ours"], text(nested)).error("BAD_REQUEST")


# --- fields ------------------------------------------------------------------------------------------------


def _tensor(**members: Any) -> dict[str, Any]:
    return {"inputs": [{**document()["inputs"][0], **members}]}


def _without(member: str) -> dict[str, Any]:
    tensor = dict(document()["inputs"][0])
    del tensor[member]
    return {"inputs": [tensor]}


FIELDS: Sequence[tuple[dict[str, Any], str]] = [
    ({}, "inputs"),
    ({"inputs": None}, "inputs"),
    ({"inputs": {}}, "inputs"),
    ({"inputs": []}, "inputs"),
    ({"inputs": "x"}, "inputs"),
    ({"inputs": [None]}, "inputs[0]"),
    ({"inputs": [[]]}, "inputs[0]"),
    ({"inputs": [*document()["inputs"], 7]}, "inputs[1]"),
    ({"inputs": document()["inputs"] * 257}, "257"),
    *((_without(member), member) for member in ("name", "datatype", "shape", "data")),
    *((_tensor(**{member: None}), member) for member in ("name", "datatype", "shape", "data")),
    (_tensor(name=7), "name"),
    (_tensor(name=["x"]), "name"),
    (_tensor(datatype=64), "datatype"),
    (_tensor(datatype=["FP64"]), "datatype"),
    (_tensor(shape=2), "shape"),
    (_tensor(shape="12"), "shape"),
    (_tensor(shape={"0": 1}), "shape"),
    (_tensor(data=1.0), "data"),
    (_tensor(data="ab"), "data"),
    (_tensor(data={"0": 1.0}), "data"),
    (_tensor(parameters=[]), "parameters"),
    (_tensor(parameters={"p": []}), "'p'"),
    (_tensor(parameters={"binary_data_size": 16}), "both"),
    (document(parameters=[]), "parameters"),
    (document(parameters="p"), "parameters"),
    (document(parameters={"p": []}), "'p'"),
    (document(parameters={"p": {}}), "'p'"),
    (document(parameters={"binary_data_output": 1}), "binary_data_output"),
    (document(id=7), "id"),
    (document(id=True), "id"),
    (document(id={}), "id"),
    (document(id="é" * 32_769), "id"),
    (document(outputs={}), "outputs"),
    (document(outputs="y"), "outputs"),
    (document(outputs=False), "outputs"),
    (document(outputs=["y"]), "outputs[0]"),
    (document(outputs=[{}]), "outputs[0]"),
    (document(outputs=[{"name": None}]), "outputs[0]"),
    (document(outputs=[{"name": "y"}] * 257), "257"),
    (document(outputs=[{"name": "y", "parameters": 1}]), "parameters"),
    (document(outputs=[{"name": "y", "parameters": {"binary_data": 1}}]), "binary_data"),
]


@pytest.mark.parametrize(("fields", "word"), FIELDS, ids=range(len(FIELDS)))
def test_fields_of_the_wrong_type_are_refused(system: System, fields: dict[str, Any], word: str) -> None:
    assert word in infer(system.ports["ours"], orjson.dumps(fields)).error("BAD_REQUEST")


def _changed(change: Callable[[ModelInferRequest], object], typed: bool = False) -> ModelInferRequest:
    request = protobuf()
    if typed:
        request = grpc_message(Ask("doubler", [Given("FP64", [1, 2], [1.0, 0.5])]), raw=False)
    change(request)
    return request


MESSAGES: Mapping[str, tuple[ModelInferRequest, str]] = {
    "no inputs": (ModelInferRequest(model_name="doubler"), "x"),
    "no model": (_changed(lambda request: request.ClearField("model_name")), "model_name"),
    "an input without a name": (_changed(lambda request: request.inputs[0].ClearField("name")), "name"),
    "an input without a datatype": (_changed(lambda request: request.inputs[0].ClearField("datatype")), "x"),
    "an input without data": (_changed(lambda request: request.ClearField("raw_input_contents")), "x"),
    "257 inputs": (_changed(lambda request: request.inputs.extend([request.inputs[0]] * 256)), "257"),
    "257 outputs": (_changed(lambda request: [request.outputs.add(name="y") for _ in range(257)]), "257"),
    "a parameter without a value": (_changed(lambda request: request.parameters["p"].SetInParent()), "'p'"),
    "an output without a name": (_changed(lambda request: request.outputs.add()), "output"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_fields_missing_in_protobuf_are_refused(channel: Channel, name: str) -> None:
    request, word = MESSAGES[name]
    assert word in channel.refused(request).error("BAD_REQUEST")


def _both_forms(request: ModelInferRequest) -> None:
    request.inputs[0].contents.fp64_contents.extend([1.0, 0.5])


MIXED: Mapping[str, tuple[ModelInferRequest, str]] = {
    "raw and typed": (_changed(_both_forms), "raw_input_contents"),
    "a raw entry too many": (_changed(lambda request: request.raw_input_contents.append(b"")), "2"),
    "typed, and a raw entry": (
        _changed(lambda request: request.raw_input_contents.append(b""), typed=True),
        "raw_input_contents",
    ),
    "the field of another datatype": (
        _changed(lambda request: setattr(request.inputs[0], "datatype", "FP32"), typed=True),
        "fp32_contents",
    ),
    "two fields": (
        _changed(lambda request: request.inputs[0].contents.int_contents.append(1), typed=True),
        "int_contents",
    ),
    "FP16, typed": (
        _changed(lambda request: setattr(request.inputs[0], "datatype", "FP16"), typed=True),
        "FP16",
    ),
    "BF16, typed": (
        _changed(lambda request: setattr(request.inputs[0], "datatype", "BF16"), typed=True),
        "BF16",
    ),
}


@pytest.mark.parametrize("name", MIXED)
def test_mixed_tensor_forms_are_refused(channel: Channel, name: str) -> None:
    request, word = MIXED[name]
    assert word in channel.refused(request).error("BAD_REQUEST")


# --- tensors -----------------------------------------------------------------------------------------------

BAD = [case for case in CASES if isinstance(case.expect, Error)]
GOOD_CASE = next(case for case in CASES if case.name == "a model that computes")


@pytest.mark.parametrize("door", ["http-ours-json", "http-ours-binary", "grpc-raw", "grpc-typed"])
def test_bad_tensors_are_refused_and_the_next_good_request_is_answered(
    doors: Mapping[str, Door], door: str
) -> None:
    """Each bad request of the table in turn, with a good one behind it on the same connection."""
    entrance = doors[door]
    cases = [case for case in BAD if entrance.form not in case.cannot]
    assert len(cases) > 20
    for case in cases:
        assert isinstance(entrance.infer(case.ask), Refused), case.name
        assert not isinstance(entrance.infer(GOOD_CASE.ask), Refused), case.name


# --- binary tensor data ------------------------------------------------------------------------------------

PAIR = struct.pack("<2d", 1.0, 0.5)


def _binary(size: Any = 16, header: str | None = None, blob: bytes = PAIR) -> tuple[bytes, dict[str, str]]:
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 2], "parameters": {"binary_data_size": size}}
    start = orjson.dumps({"inputs": [tensor]})
    return start + blob, {LENGTH: str(len(start)) if header is None else header}


BINARY: Mapping[str, tuple[bytes, dict[str, str]]] = {
    **{
        f"header length {text!r}": _binary(header=text)
        for text in ("", "x", "-1", "+97", "1e2", "0x10", "97.0", "9" * 5000, "100000", "\xb2", "5, 5", "10")
    },
    **{
        f"binary_data_size {size!r}": _binary(size)
        for size in (0, 8, 15, 17, 24, -16, 2**63, 2**64 - 1, "16", 16.0, True, [16], {"size": 16})
    },
    "no bytes": _binary(blob=b""),
    "bytes left over": _binary(blob=PAIR + b"\0"),
    "no header": (_binary()[0], {}),
    "no header and no bytes": (_binary(blob=b"")[0], {}),
    "the header, and nothing else": (b"", {LENGTH: "0"}),
    "JSON, and bytes nobody asked for": (GOOD + PAIR, {LENGTH: str(len(GOOD))}),
}


@host
@pytest.mark.parametrize("name", BINARY)
def test_binary_data_that_lies_is_refused(system: System, host: str, name: str) -> None:
    body, headers = BINARY[name]
    with Connection(system.ports[host]) as connection:
        connection.ask(message("POST", INFER, body, headers)).error("BAD_REQUEST")
        assert connection.ask(message("POST", INFER, *_binary())).status == 200


def test_two_binary_tensors_cannot_share_their_bytes(system: System) -> None:
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 2], "parameters": {"binary_data_size": 16}}
    start = orjson.dumps({"inputs": [tensor, {**tensor, "name": "z"}]})
    answer = infer(system.ports["ours"], start + PAIR, {LENGTH: str(len(start))})
    assert "0 bytes" in answer.error("BAD_REQUEST")


def test_a_raw_binary_request_is_one_row_without_json(system: System) -> None:
    answer = infer(system.ports["ours"], PAIR, {LENGTH: "0"})
    assert answer.status == 200
    assert answer.body.endswith(struct.pack("<2d", 2.0, 1.0))
    assert "16 bytes" in infer(system.ports["ours"], PAIR * 2, {LENGTH: "0"}).error("BAD_REQUEST")
    assert "one input" in infer(system.ports["ours"], PAIR, {LENGTH: "0"}, model="several").error(
        "BAD_REQUEST"
    )


def test_an_output_that_json_cannot_carry_is_asked_for_in_binary(system: System) -> None:
    tensor = {"name": "x", "datatype": "BYTES", "shape": [1, 2], "parameters": {"binary_data_size": 10}}
    start = orjson.dumps({"inputs": [tensor]})
    body, headers = start + b"\1\0\0\0\xff\1\0\0\0\xfe", {LENGTH: str(len(start))}
    assert "binary_data" in infer(system.ports["ours"], body, headers, "echo-BYTES").error("BAD_REQUEST")


# --- bodies over the limit ---------------------------------------------------------------------------------


@host
@pytest.mark.parametrize("length", [MAX_JSON + 1, 10**12, 10**19])
def test_a_body_over_the_limit_is_refused_by_its_announcement(system: System, host: str, length: int) -> None:
    with Connection(system.ports[host]) as connection:
        answer = connection.ask(head("POST", INFER, {"Content-Length": str(length)}))
        answer.error("PAYLOAD_TOO_LARGE")
        assert answer.headers["connection"] == "close"
        assert connection.at_end()


@host
def test_a_body_over_the_limit_is_refused_when_its_chunks_are(system: System, host: str) -> None:
    start = head("POST", INFER, {"Transfer-Encoding": "chunked"})
    with Connection(system.ports[host]) as connection:
        answer = connection.ask(start + chunked([b" " * 65536] * (MAX_JSON // 65536 + 1)))
        assert str(MAX_JSON) in answer.error("PAYLOAD_TOO_LARGE")


@host
def test_tiny_chunks_are_put_together(system: System, host: str) -> None:
    pieces = [b" "] * 65_000 + [GOOD[position : position + 1] for position in range(len(GOOD))]
    start = head("POST", INFER, {"Transfer-Encoding": "chunked"})
    with Connection(system.ports[host]) as connection:
        answer = connection.ask(start + chunked(pieces))
        assert answer.json()["outputs"][0]["data"] == [2.0, 1.0]
        assert connection.ask(message("POST", INFER, GOOD)).status == 200


def test_the_limit_is_another_for_binary_data(system: System) -> None:
    start = orjson.dumps({"inputs": []})
    for size, code in ((MAX_JSON + 1, "BAD_REQUEST"), (MAX_BODY, "PAYLOAD_TOO_LARGE")):
        infer(system.ports["ours"], start + bytes(size), {LENGTH: str(len(start))}).error(code)
    spread = start + b" " * MAX_JSON
    answer = infer(system.ports["ours"], spread, {LENGTH: str(len(spread))})
    answer.error("PAYLOAD_TOO_LARGE")


def test_a_grpc_message_over_the_limit_is_refused(channel: Channel) -> None:
    request = protobuf()
    request.raw_input_contents[0] = bytes(MAX_BODY)
    assert failed(channel.infer(request)).code is grpc.StatusCode.RESOURCE_EXHAUSTED


# --- compressed bodies -------------------------------------------------------------------------------------

CODINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
coding = pytest.mark.parametrize("coding", CODINGS)


def _coded(system: System, body: bytes, coding: str, **headers: str) -> Answer:
    return infer(system.ports["ours"], body, {"Content-Encoding": coding, **headers})


@coding
def test_a_compressed_body_is_read(system: System, coding: str) -> None:
    for spelling in (coding, coding.upper(), f" {coding} "):
        assert _coded(system, CODINGS[coding](GOOD), spelling).status == 200
    body, headers = _binary()
    assert (
        infer(system.ports["ours"], CODINGS[coding](body), {"Content-Encoding": coding, **headers}).status
        == 200
    ), "the header counts the bytes before they were compressed"


def test_identity_is_no_coding(system: System) -> None:
    assert _coded(system, GOOD, "identity").status == 200


@coding
def test_a_compressed_body_that_explodes_is_refused(system: System, coding: str) -> None:
    bomb = CODINGS[coding](b" " * (64 * MAX_JSON))
    assert len(bomb) < MAX_JSON // 8
    assert str(MAX_JSON) in _coded(system, bomb, coding).error("PAYLOAD_TOO_LARGE")


@coding
def test_a_compressed_body_over_the_limit_by_a_byte_is_refused(system: System, coding: str) -> None:
    fits = GOOD + b" " * (MAX_JSON - len(GOOD))
    assert _coded(system, CODINGS[coding](fits), coding).status == 200
    _coded(system, CODINGS[coding](fits + b" "), coding).error("PAYLOAD_TOO_LARGE")


def test_many_small_members_explode_no_better(system: System) -> None:
    bomb = gzip.compress(b" " * 65536) * 64
    _coded(system, bomb, "gzip").error("BAD_REQUEST")


@coding
@pytest.mark.parametrize("cut", [0, 1, 5, -1, -4, -9])
def test_a_compressed_body_that_ends_early_is_refused(system: System, coding: str, cut: int) -> None:
    _coded(system, CODINGS[coding](GOOD)[:cut], coding).error("BAD_REQUEST")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_compressed_body_with_a_wrong_checksum_is_refused(system: System, coding: str) -> None:
    body = bytearray(CODINGS[coding](GOOD))
    body[-5 if coding == "gzip" else -1] ^= 1
    _coded(system, bytes(body), coding).error("BAD_REQUEST")


def test_a_zstd_body_with_a_wrong_checksum_is_refused(system: System) -> None:
    body = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(GOOD))
    assert _coded(system, bytes(body), "zstd").status == 200
    body[-1] ^= 1
    _coded(system, bytes(body), "zstd").error("BAD_REQUEST")


def test_a_zstd_window_of_gigabytes_is_refused(system: System) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=30)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    _coded(system, compressor.compress(GOOD) + compressor.flush(), "zstd").error("BAD_REQUEST")


@coding
@pytest.mark.parametrize("rest", [b"\0", b"more"])
def test_a_compressed_body_with_something_behind_it_is_refused(
    system: System, coding: str, rest: bytes
) -> None:
    _coded(system, CODINGS[coding](GOOD) + rest, coding).error("BAD_REQUEST")


@coding
@pytest.mark.parametrize("body", [b"", b"\0" * 100, GOOD], ids=["nothing", "zeros", "plain JSON"])
def test_a_body_that_is_not_compressed_at_all_is_refused(system: System, coding: str, body: bytes) -> None:
    _coded(system, body, coding).error("BAD_REQUEST")


@coding
def test_a_body_compressed_twice_is_not_json(system: System, coding: str) -> None:
    _coded(system, CODINGS[coding](CODINGS[coding](GOOD)), coding).error("BAD_REQUEST")


@host
@pytest.mark.parametrize(
    "name", ["br", "compress", "gzip, gzip", "gzip,deflate", "identity, gzip", "*", "x" * 200]
)
def test_a_coding_that_is_not_undone_here_is_refused_with_those_that_are(
    system: System, host: str, name: str
) -> None:
    answer = infer(system.ports[host], gzip.compress(GOOD), {"Content-Encoding": name})
    assert name[:100] in answer.error("UNSUPPORTED_MEDIA_TYPE")
    assert answer.headers["accept-encoding"] == "gzip, deflate, zstd"


def test_two_content_encodings_are_two_codings(system: System) -> None:
    headers = [("Content-Encoding", "gzip"), ("Content-Encoding", "identity")]
    body = gzip.compress(GOOD)
    with Connection(system.ports["ours"]) as connection:
        answer = connection.ask(head("POST", INFER, [*headers, ("Content-Length", str(len(body)))]) + body)
    assert answer.error("UNSUPPORTED_MEDIA_TYPE")


def test_a_compressed_grpc_message_is_read_but_not_a_bomb(system: System, channel: Channel) -> None:
    def send(request: bytes) -> Any:
        with grpc.insecure_channel(f"127.0.0.1:{system.ports['grpc']}") as opened:
            call = opened.unary_unary(f"/{SERVICE}/ModelInfer", None, None)
            return call(request, compression=grpc.Compression.Gzip, timeout=PATIENCE)

    assert send(protobuf().SerializeToString())
    with pytest.raises(grpc.RpcError) as raised:
        send(bytes(8 * MAX_BODY))
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


# --- protobuf ----------------------------------------------------------------------------------------------

NOT_PROTOBUF: Mapping[str, bytes] = {
    "a byte": b"\xff",
    "JSON": GOOD,
    "a pickle": pickle.dumps({"inputs": [1.0]}),
    "half a message": protobuf().SerializeToString()[:-3],
    "a length past the end": b"\x0a\xff\xff\xff\xff\x0f",
    "a wire type that is none": b"\x0f",
    "an endless varint": b"\x08" + b"\xff" * 20,
    "a name that is not UTF-8": b"\x0a\x02\xff\xfe",
    "groups without end": b"\x0b" * 5000,
    "large and broken": b"\x0a" * 200_000,
}


@pytest.mark.parametrize("name", NOT_PROTOBUF)
@pytest.mark.parametrize("rpc", ["ModelInfer", "ModelMetadata", "ModelReady"])
def test_what_is_not_protobuf_is_refused(channel: Channel, rpc: str, name: str) -> None:
    details = failed(channel.call(rpc, NOT_PROTOBUF[name])).error("BAD_REQUEST")
    assert "Error" not in details
    assert "google" not in details


def test_unknown_fields_are_ignored(channel: Channel) -> None:
    unknown = b"\xba\x3e\x05hello" + b"\xc0\x3e\x01"
    succeeded(channel.call("ModelInfer", protobuf().SerializeToString() + unknown))


def test_a_million_empty_inputs_do_not_grow(channel: Channel) -> None:
    failed(channel.call("ModelInfer", b"\x0a\x07doubler" + b"\x2a\x00" * 500_000)).error("BAD_REQUEST")


# --- names and ids -----------------------------------------------------------------------------------------

HOSTILE: Mapping[str, str] = {
    "traversal": "../../etc/passwd",
    "a dot": "..",
    "traversal backwards": "..\\..\\boot.ini",
    "an absolute path": "/etc/passwd",
    "encoded once more": "%2e%2e%2fetc%2fpasswd",
    "a null byte": "doubler\0.joblib",
    "CRLF": "doubler\r\nX-Injected: yes",
    "colours for the terminal": "\x1b[31mred\x1b[0m",
    "text backwards": "\u202edoubler",
    "a look-alike": "dоubler",  # the first o is Cyrillic
    "a blank": "doubler ",
    "a template": "{{7*7}}${jndi:ldap://x}",
    "SQL": "' OR 1=1 --",
    "a long one": "x" * 2000,
}


def _quoted(name: str) -> str:
    return "".join(f"%{byte:02x}" for byte in name.encode())


@host
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    ("method", "route"),
    [
        ("POST", "/v2/models/{}/infer"),
        ("POST", "/v2/models/doubler/versions/{}/infer"),
        ("GET", "/v2/models/{}"),
        ("GET", "/v2/models/{}/ready"),
        ("GET", "/v2/models/doubler/versions/{}"),
        ("GET", "/v2/models/doubler/versions/{}/ready"),
    ],
)
def test_a_hostile_name_is_not_found(system: System, host: str, name: str, method: str, route: str) -> None:
    target = route.format(_quoted(HOSTILE[name]))
    with Connection(system.ports[host]) as connection:
        answer = connection.ask(message(method, target, GOOD if method == "POST" else b""))
        answer.error("NOT_FOUND")
        assert "x-injected" not in answer.headers
        assert connection.ask(message("GET", "/v2/health/live")).status == 200


@pytest.mark.parametrize("path", ["/v2/models/../../etc/passwd", "/v2/../../x", "/v2/models//infer", "//v2"])
def test_a_path_is_never_walked(system: System, path: str) -> None:
    ask(system.ports["ours"], "GET", path).error("NOT_FOUND")


def test_a_percent_sign_that_encodes_nothing_is_only_a_name(system: System) -> None:
    for name in ("%", "%zz", "%ff%fe", "%c3%28"):
        ask(system.ports["ours"], "GET", f"/v2/models/{name}").error("NOT_FOUND")


@pytest.mark.parametrize("name", [*HOSTILE, "64 KiB"])
def test_a_hostile_name_in_protobuf_is_not_found_with_a_short_message(channel: Channel, name: str) -> None:
    given = HOSTILE.get(name, "\N{PILE OF POO}" * 16384)
    for request in (
        _changed(lambda request: setattr(request, "model_name", given)),
        _changed(lambda request: setattr(request, "model_version", given)),
    ):
        details = channel.refused(request).error("NOT_FOUND")
        assert details.isprintable()
        assert len(details) < 400
    metadata = ModelMetadataRequest(name=given).SerializeToString()
    failed(channel.call("ModelMetadata", metadata)).error("NOT_FOUND")
    ready = succeeded(channel.call("ModelReady", ModelReadyRequest(name=given).SerializeToString()))
    assert not ModelReadyResponse.FromString(ready).ready


@pytest.mark.parametrize("given", HOSTILE.values(), ids=HOSTILE)
def test_hostile_tensor_names_are_shortened_and_printable(
    system: System, channel: Channel, given: str
) -> None:
    fields = {"inputs": [{**document()["inputs"][0], "name": given, "datatype": given, "shape": [2]}]}
    told = infer(system.ports["ours"], orjson.dumps(fields)).error("BAD_REQUEST")
    request = _changed(lambda request: setattr(request.inputs[0], "datatype", given))
    for one in (told, channel.refused(request).error("BAD_REQUEST")):
        assert one.isprintable()
        assert "x" * 129 not in one


UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@host
@pytest.mark.parametrize(
    "given", ["", "a b", "<script>", "x" * 65, "id\x1b[31m", "ä", "a,b", "a;b=c", '"q"', "../x", "\x7f"]
)
def test_a_hostile_request_id_is_replaced(system: System, host: str, given: str) -> None:
    answers = [
        infer(system.ports[host], GOOD, {"X-Request-Id": given}),
        ask(system.ports[host], "GET", "/v2", headers={"X-Request-Id": given}),
        ask(system.ports[host], "GET", "/nowhere", headers={"X-Request-Id": given}),
    ]
    for answer in answers:
        if answer.status == 400:  # some parsers take no control characters in a header
            assert not given.isprintable()
        else:
            assert UUID.fullmatch(answer.headers["x-request-id"])


@host
@pytest.mark.parametrize("given", ["a", "A-1.b_2", "x" * 64])
def test_a_good_request_id_is_kept(system: System, host: str, given: str) -> None:
    for answer in (
        infer(system.ports[host], GOOD, {"X-Request-Id": given}),
        infer(system.ports[host], b"{", {"X-Request-Id": given}),
        ask(system.ports[host], "GET", "/v2/health/live", headers={"X-Request-Id": given}),
    ):
        assert answer.headers["x-request-id"] == given


@host
@pytest.mark.parametrize("given", ["täg \r\nX-Injected: yes", "\0\x1b[31m", "x" * 65536, "\u202e🌸"])
def test_an_id_in_the_body_is_echoed_in_the_body_alone(system: System, host: str, given: str) -> None:
    answer = infer(system.ports[host], orjson.dumps(document(id=given)))
    assert answer.json()["id"] == given
    assert UUID.fullmatch(answer.headers["x-request-id"])
    assert "x-injected" not in answer.headers


def test_request_ids_over_grpc_are_kept_or_replaced(channel: Channel) -> None:
    request = protobuf()
    request.id = "täg \r\n"
    for given, kept in (("A-1.b_2", True), ("a b", False), ("x" * 65, False)):
        call = channel.start("ModelInfer", request.SerializeToString(), [("x-request-id", given)])
        assert ModelInferResponse.FromString(call.result()).id == "täg \r\n"
        trailers = dict(call.trailing_metadata())
        assert (trailers["x-request-id"] == given) is kept
        assert kept or UUID.fullmatch(trailers["x-request-id"])


# --- HTTP itself -------------------------------------------------------------------------------------------

CHUNKED = head("POST", INFER, {"Transfer-Encoding": "chunked"})
SMUGGLED = message("GET", "/v2/health/live", headers={"X-Request-Id": "smuggled"})
AMBIGUOUS: Mapping[str, bytes] = {
    "a length beside chunks": head("POST", INFER, {"Content-Length": "5", "Transfer-Encoding": "chunked"})
    + b"0\r\n\r\n" + SMUGGLED,
    "chunks beside a length": head("POST", INFER, {"Transfer-Encoding": "chunked", "Content-Length": "5"})
    + b"0\r\n\r\n" + SMUGGLED,
    "two lengths": head("POST", INFER, [("Content-Length", "0"), ("Content-Length", "5")]) + SMUGGLED,
    "two equal lengths": head("POST", INFER, [("Content-Length", "5"), ("Content-Length", "5")]) + b"x" * 5,
    "a list of lengths": head("POST", INFER, {"Content-Length": "0, 5"}) + SMUGGLED,
    "a signed length": head("POST", INFER, {"Content-Length": "+5"}) + SMUGGLED,
    "a negative length": head("POST", INFER, {"Content-Length": "-5"}) + SMUGGLED,
    "a hexadecimal length": head("POST", INFER, {"Content-Length": "0x5"}) + SMUGGLED,
    "a length past 64 bits": head("POST", INFER, {"Content-Length": "9" * 25}) + SMUGGLED,
    "two hosts": head("GET", "/v2", {"Host": "other"}) + SMUGGLED,
    "no host": head("GET", "/v2", host=False) + SMUGGLED,
    "another coding": head("POST", INFER, {"Transfer-Encoding": "gzip, chunked"}) + b"0\r\n\r\n" + SMUGGLED,
    "chunked, not last": head("POST", INFER, {"Transfer-Encoding": "chunked, gzip"}) + SMUGGLED,
    "a coding that looks like one": head("POST", INFER, {"Transfer-Encoding": "xchunked"}) + SMUGGLED,
    "a chunk size that is none": CHUNKED + b"zz\r\n\r\n" + SMUGGLED,
    "a negative chunk": CHUNKED + b"-1\r\n\r\n" + SMUGGLED,
    "a chunk past 64 bits": CHUNKED + b"f" * 17 + b"\r\n" + SMUGGLED,
    "a chunk without its end": CHUNKED + b"1\r\nxy\r\n" + SMUGGLED,
    "a folded header": b"GET /v2 HTTP/1.1\r\nHost: test\r\nA: b\r\n c\r\n\r\n" + SMUGGLED,
    "a blank before the colon": b"GET /v2 HTTP/1.1\r\nHost: test\r\nContent-Length : 5\r\n\r\n" + SMUGGLED,
    "a null byte in a header": b"GET /v2 HTTP/1.1\r\nHost: test\r\nA: b\0c\r\n\r\n" + SMUGGLED,
    "a bare CR in a header": b"GET /v2 HTTP/1.1\r\nHost: test\r\nA: b\rc\r\n\r\n" + SMUGGLED,
    "a header without a colon": b"GET /v2 HTTP/1.1\r\nHost: test\r\nhello\r\n\r\n" + SMUGGLED,
    "a method that is none": b"HELLO /v2 HTTP/1.1\r\nHost: test\r\n\r\n" + SMUGGLED,
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP of another age": b"GET /v2 HTTP/0.9\r\n\r\n" + SMUGGLED,
    "a blank in the target": b"GET /v2 /x HTTP/1.1\r\nHost: test\r\n\r\n" + SMUGGLED,
}  # fmt: skip


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_ambiguous_http_is_refused_and_nothing_behind_it_is_run(system: System, name: str) -> None:
    with Connection(system.ports["ours"]) as connection:
        answer = connection.ask(AMBIGUOUS[name])
        answer.error("BAD_REQUEST")
        assert answer.headers["connection"] == "close"
        assert answer.headers["x-request-id"] != "smuggled"
        assert connection.at_end()


@pytest.mark.parametrize(
    ("code", "request_bytes"),
    [
        pytest.param("HEADERS_TOO_LARGE", head("GET", "/v2", {"A": "x" * 2**20}), id="a header of 1 MB"),
        pytest.param(
            "HEADERS_TOO_LARGE",
            head("GET", "/v2", [(f"A{n}", "b") for n in range(10_000)]),
            id="10 k headers",
        ),
        pytest.param("HEADERS_TOO_LARGE", head("GET", "/v2", {"A" * 70_000: "b"}), id="a long header name"),
        pytest.param("URI_TOO_LONG", head("GET", "/" + "x" * 2**20), id="a target of 1 MB"),
        pytest.param("URI_TOO_LONG", head("GET", f"/v2/models/{'x' * 65536}/ready"), id="a name of 64 KiB"),
        pytest.param("URI_TOO_LONG", head("GET", "/v2?" + "x" * 9000), id="a long query"),
    ],
)
def test_an_endless_head_is_refused(system: System, code: str, request_bytes: bytes) -> None:
    with Connection(system.ports["ours"]) as connection:
        answer = connection.ask(request_bytes)
        answer.error(code)
        assert answer.headers["connection"] == "close"


def test_pipelined_requests_are_answered_in_order_up_to_the_one_that_is_refused(system: System) -> None:
    good = [
        message("POST", INFER, orjson.dumps(document(float(number), id=str(number)))) for number in range(5)
    ]
    with Connection(system.ports["ours"]) as connection:
        connection.send(b"".join([*good, AMBIGUOUS["two lengths"], *good]))
        assert [connection.answer().json()["id"] for _ in good] == ["0", "1", "2", "3", "4"]
        connection.answer().error("BAD_REQUEST")
        assert connection.at_end()


def test_http_1_at_the_grpc_port_is_sent_away(system: System) -> None:
    with Connection(system.ports["grpc"]) as connection:
        connection.send(message("GET", "/v2/health/live"))
        assert b"HTTP/1" not in connection.rest(), "it closes, and says so in frames of HTTP/2 if at all"


def test_metadata_of_a_megabyte_is_refused_by_grpc(channel: Channel) -> None:
    status = failed(channel.call("ServerLive", b"", [("a", "x" * 2**20)]))
    assert status.code is grpc.StatusCode.RESOURCE_EXHAUSTED


# --- what is not for us ------------------------------------------------------------------------------------


class _Bomb:
    """Runs when it is unpickled."""

    exploded: Sequence[str] = ()

    def __reduce__(self) -> Any:
        return (setattr, (_Bomb, "exploded", ("boom",)))


@host
@pytest.mark.parametrize(
    "content_type",
    ["application/octet-stream", "application/x-python-pickle", "application/json", "text/html"],
)
def test_a_pickle_is_not_json(system: System, host: str, content_type: str) -> None:
    body = pickle.dumps(_Bomb())
    assert _Bomb.exploded == ()
    infer(system.ports[host], body, {"Content-Type": content_type}).error("BAD_REQUEST")
    infer(system.ports[host], body, {LENGTH: str(len(body))}).error("BAD_REQUEST")
    assert _Bomb.exploded == ()


@host
def test_a_form_is_refused_by_name(system: System, host: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="f"\r\n\r\n' + GOOD + b"\r\n--x--\r\n"
    answer = infer(system.ports[host], body, {"Content-Type": "multipart/form-data; boundary=x"})
    assert "multipart" in answer.error("UNSUPPORTED_MEDIA_TYPE")


@host
@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "nonsense", "a/b;c"]
)
def test_json_is_read_whatever_it_is_called(system: System, host: str, content_type: str) -> None:
    assert infer(system.ports[host], GOOD, {"Content-Type": content_type}).status == 200


# --- callers who leave -------------------------------------------------------------------------------------


@host
@pytest.mark.parametrize("start", [b"P", b"POST " + INFER.encode(), head("POST", INFER)[:-2]])
def test_a_caller_who_leaves_in_the_head_leaves_nothing(system: System, host: str, start: bytes) -> None:
    with Connection(system.ports[host]) as connection:
        connection.send(start)
    assert infer(system.ports[host], GOOD).status == 200
    system.wait_inside(0)


@host
@pytest.mark.parametrize("framing", [{"Content-Length": "100"}, {"Transfer-Encoding": "chunked"}])
def test_a_caller_who_leaves_in_the_body_frees_its_slot(
    system: System, host: str, framing: Mapping[str, str]
) -> None:
    system.wait_inside(0)
    system.journal.clear()
    with Connection(system.ports[host]) as connection:
        connection.send(head("POST", INFER, framing) + b'5\r\n{"inp')
        system.wait_inside(1)
    system.journal.wait_for(Ended("http", "doubler", "CANCELLED"))


def test_a_caller_who_leaves_in_the_queue_harms_no_neighbour(
    system: System, caller: Caller, gated: GatedModel
) -> None:
    first = caller.start("gated", 1.0)
    assert gated.entered.acquire(timeout=PATIENCE)
    leaving = caller.start("gated", 2.0)
    system.wait_queued("gated", 1)
    staying = caller.start("gated", 3.0)
    system.wait_queued("gated", 2)
    leaving.leave()
    system.wait_queued("gated", 1)
    gated.gate.set()
    assert [first.ended(), staying.ended()] == ["OK", "OK"]
    assert gated.calls == [1, 1], "the row of the one who left was not computed"
    system.journal.wait_for(Ended(caller.front, "gated", "CANCELLED"))


def test_a_caller_who_leaves_while_the_model_computes_harms_no_mate(
    system: System, caller: Caller, gated: GatedModel
) -> None:
    first = caller.start("gated", 1.0)
    assert gated.entered.acquire(timeout=PATIENCE)
    leaving, mate = caller.start("gated", 2.0), caller.start("gated", 3.0)
    system.wait_queued("gated", 2)
    gated.gate.set()
    assert first.ended() == "OK"
    gated.gate.clear()
    leaving.leave()
    gated.gate.set()
    assert mate.ended() == "OK"


def test_a_caller_who_closes_only_its_sending_side_is_a_caller_who_leaves(
    system: System, gated: GatedModel
) -> None:
    """A half-closed connection is no promise to read: proxies and load balancers drop it as well."""
    with Connection(system.ports["ours"]) as connection:
        connection.send(message("POST", "/v2/models/gated/infer", GOOD))
        assert gated.entered.acquire(timeout=PATIENCE)
        connection.sock.shutdown(socket.SHUT_WR)
        system.journal.wait_for(Ended("http", "gated", "CANCELLED"))
