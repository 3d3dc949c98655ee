"""Compressed answers: only successful inferences of a kilobyte and more, as the caller takes them."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable, Mapping

import orjson
import pytest
import zstandard

from tests.conformance.callers import document, infer
from tests.conformance.system import System
from tests.conformance.wires import Answer, ask

LENGTH = "inference-header-content-length"

DECODERS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "zstd": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
}
host = pytest.mark.parametrize("host", ["ours", "h11", "httptools"])


def wide(
    system: System, accept: str | None, rows: int = 1, host: str = "ours", binary: bool = False
) -> Answer:
    """A thousand numbers a row."""
    tensor = {"name": "x", "datatype": "FP64", "shape": [rows, 1], "data": [0.25] * rows}
    fields = {"inputs": [tensor], "parameters": {"binary_data_output": binary}}
    headers = {} if accept is None else {"Accept-Encoding": accept}
    return infer(system.ports[host], orjson.dumps(fields), headers, "wide")


def numbers(answer: Answer, body: bytes) -> list[float]:
    """The numbers in an answer."""
    if LENGTH not in answer.headers:
        data: list[float] = orjson.loads(body)["outputs"][0]["data"]
        return data
    start = int(answer.headers[LENGTH])
    size = orjson.loads(body[:start])["outputs"][0]["parameters"]["binary_data_size"]
    assert start + size == len(body)
    return list(struct.unpack(f"<{size // 8}d", body[start:]))


@host
@pytest.mark.parametrize("rows", [1, 20], ids=["small", "large"])
@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
@pytest.mark.parametrize("coding", DECODERS)
def test_an_answer_is_compressed_as_its_caller_takes_it(
    system: System, host: str, coding: str, binary: bool, rows: int
) -> None:
    answer = wide(system, coding, rows, host, binary)
    assert answer.status == 200
    assert answer.headers["content-encoding"] == coding
    assert answer.headers["content-type"] == ("application/octet-stream" if binary else "application/json")
    assert "accept-encoding" in answer.headers["vary"].lower()
    assert (LENGTH in answer.headers) is binary
    assert len(answer.body) < 1000 * rows
    assert numbers(answer, DECODERS[coding](answer.body)) == [0.25] * 1000 * rows


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("br", None),
        ("br, compress", None),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("gzip, deflate, br", "gzip"),
        ("deflate", "deflate"),
        ("gzip;q=0", None),
        ("gzip;q=0.0, deflate;q=0.000, zstd;q=0", None),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip;q=0.2, deflate;q=0.8", "deflate"),
        ("gzip;q=0.8, deflate;q=0.2", "gzip"),
        ("gzip ; q=0.5 , deflate ; q=0.4", "gzip"),
        ("zstd;q=0.1, br;q=1", "zstd"),
        ("*;q=0", None),
        ("identity;q=1, *;q=0", None),
        ("*;q=0, gzip", "gzip"),
        ("gzip;q=nonsense", None),
        ("gzip;q=-1", None),
        (",,;;q=,", None),
        ("x" * 4000, None),
    ],
)
def test_what_a_caller_accepts_is_weighed(system: System, accept: str | None, expected: str | None) -> None:
    answer = wide(system, accept)
    assert answer.headers.get("content-encoding") == expected
    body = answer.body if expected is None else DECODERS[expected](answer.body)
    assert numbers(answer, body) == [0.25] * 1000


def test_any_coding_will_do_for_a_star(system: System) -> None:
    answer = wide(system, "gzip;q=0, *")
    assert answer.headers["content-encoding"] in ("deflate", "zstd")
    assert wide(system, "*").headers["content-encoding"] in DECODERS


def test_a_coding_that_is_liked_less_than_none_is_not_used(system: System) -> None:
    assert "content-encoding" not in wide(system, "gzip;q=0.5, identity").headers


def test_two_headers_are_one_list(system: System) -> None:
    assert wide(system, "br\r\nAccept-Encoding: gzip").headers["content-encoding"] == "gzip"


def test_a_small_answer_is_not_compressed(system: System) -> None:
    for size, compressed in ((700, False), (1100, True)):
        answer = infer(
            system.ports["ours"], orjson.dumps(document(id="x" * size)), {"Accept-Encoding": "gzip"}
        )
        body = gzip.decompress(answer.body) if compressed else answer.body
        assert ("content-encoding" in answer.headers) is compressed
        assert (len(body) >= 1024) is compressed
        assert orjson.loads(body)["id"] == "x" * size


@host
@pytest.mark.parametrize(
    "target",
    ["/v2", "/v2/models", "/v2/models/iris", "/v2/models/several", "/v2/models/iris/ready", "/metrics"],
)
def test_nothing_but_an_inference_is_compressed(system: System, host: str, target: str) -> None:
    answer = ask(system.ports[host], "GET", target, headers={"Accept-Encoding": "gzip, deflate, zstd"})
    assert answer.status == 200
    assert "content-encoding" not in answer.headers


@host
def test_an_error_is_never_compressed_however_long(system: System, host: str) -> None:
    fields = {"inputs": [{"name": "x" * 5000, "datatype": "y" * 5000, "shape": [1], "data": [1]}]}
    answer = infer(system.ports[host], orjson.dumps(fields), {"Accept-Encoding": "gzip, deflate, zstd"})
    answer.error("BAD_REQUEST")
