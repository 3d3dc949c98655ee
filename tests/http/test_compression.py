"""Bodies come back whole or not at all, and never larger than allowed."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from oipserver.core.errors import BadRequest, PayloadTooLarge, UnsupportedMediaType
from oipserver.http.compression import ENCODINGS, compress, decompress, negotiate

LIMIT = 1 << 20
MIB = 1 << 20
each_encoding = pytest.mark.parametrize("encoding", ENCODINGS)


@each_encoding
@given(body=st.binary(max_size=5000))
def test_round_trip(encoding: str, body: bytes) -> None:
    assert decompress(compress(body, encoding), encoding, LIMIT) == body


@each_encoding
@pytest.mark.parametrize("body", [b"", b"a", b"hello world" * 50, bytes(range(256)) * 3])
def test_a_truncated_body_is_refused_wherever_it_is_cut(encoding: str, body: bytes) -> None:
    whole = compress(body, encoding)
    for end in range(len(whole)):
        with pytest.raises(BadRequest):
            decompress(whole[:end], encoding, LIMIT)


@each_encoding
@pytest.mark.parametrize("rest", [b"\0", b"garbage", b"itself"])
def test_whatever_follows_is_refused(encoding: str, rest: bytes) -> None:
    whole = compress(b"hello", encoding)
    with pytest.raises(BadRequest):
        decompress(whole + (whole if rest == b"itself" else rest), encoding, LIMIT)


@pytest.mark.parametrize(
    ("encoding", "whole"),
    [
        ("gzip", gzip.compress(b"hello" * 99, mtime=0)),
        ("deflate", zlib.compress(b"hello" * 99)),
        ("zstd", zstandard.ZstdCompressor(write_checksum=True).compress(b"hello" * 99)),
    ],
)
def test_a_wrong_checksum_is_refused(encoding: str, whole: bytes) -> None:
    at = len(whole) - 5 if encoding == "gzip" else len(whole) - 1
    with pytest.raises(BadRequest):
        decompress(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], encoding, LIMIT)


@each_encoding
def test_the_limit_is_exact(encoding: str) -> None:
    assert len(decompress(compress(bytes(1000), encoding), encoding, 1000)) == 1000
    with pytest.raises(PayloadTooLarge):
        decompress(compress(bytes(1001), encoding), encoding, 1000)


@pytest.mark.parametrize(
    ("encoding", "squeeze"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstandard.ZstdCompressor().compress)],
)
def test_a_bomb_is_refused_in_little_memory(encoding: str, squeeze: Callable[[bytes], bytes]) -> None:
    bomb = squeeze(bytes(256 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLarge):
            decompress(bomb, encoding, LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 32 * MIB
    finally:
        tracemalloc.stop()


def test_gzip_in_gzip_is_data() -> None:
    inner = gzip.compress(b"hello")
    assert decompress(gzip.compress(inner), "gzip", LIMIT) == inner


def test_a_zstd_window_beyond_8_mib_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    whole = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(BadRequest):
        decompress(whole.compress(b"hello") + whole.flush(), "zstd", LIMIT)


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "gzip, deflate", "compress", "x\x1b[31m"])
def test_other_and_stacked_encodings_are_a_media_type_fault(encoding: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="gzip"):
        decompress(b"", encoding, LIMIT)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", None),
        ("gzip", "gzip"),
        ("gzip, deflate, br", "gzip"),
        ("br", None),
        ("gzip;q=0", None),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("deflate, gzip, zstd", "zstd"),
        ("*", "zstd"),
        ("*;q=0", None),
        ("*, zstd;q=0", "gzip"),
        ("gzip, *;q=0", "gzip"),
        ("GZIP ; Q=0.3", "gzip"),
        ("gzip;q=nan", None),
        ("gzip;q=2", None),
        ("gzip;q=0.5, identity", None),
        ("gzip;q=0.0", None),
    ],
)
def test_negotiation(accept: str, chosen: str | None) -> None:
    assert negotiate(accept) == chosen


@given(st.text(max_size=200))
def test_negotiation_survives_anything(accept: str) -> None:
    assert negotiate(accept) in (None, *ENCODINGS)
