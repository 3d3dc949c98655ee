"""Images, texts and JSON in BYTES elements: good ones, and what is done to a server."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from oipserver_python import image, json_value, text
from PIL import Image

from oipserver import InvalidInput

PIXELS = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


def encoded(kind: str, pixels: Any = PIXELS, **options: Any) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def element(content: bytes) -> Any:
    array = np.empty(1, dtype=np.object_)
    array[0] = content
    return array


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_pixels_come_back(kind: str) -> None:
    for given in (encoded(kind), element(encoded(kind))):
        found = image(given)
        assert found.dtype == np.uint8
        assert found.tolist() == PIXELS.tolist()
        found[0, 0] = 0  # it is the caller's own


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_lossy_formats_are_read(kind: str) -> None:
    assert image(encoded(kind)).shape == (5, 7, 3)


def test_modes() -> None:
    grey = encoded("PNG", PIXELS[:, :, 0])
    assert image(grey).shape == (5, 7, 3)
    assert image(encoded("PNG"), mode="L").shape == (5, 7)
    assert image(encoded("PNG"), mode="RGBA").shape == (5, 7, 4)


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header announces any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [9_000, 10_000, 60_000])
def test_a_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    with pytest.raises(InvalidInput, match="pixels, expected at most 67108864"):
        image(png_that_claims(side, side))


def test_the_limit_is_the_callers_to_choose() -> None:
    assert image(encoded("PNG"), max_pixels=35).shape == (5, 7, 3)
    with pytest.raises(InvalidInput, match="the image has 7 x 5 pixels, expected at most 34 in all"):
        image(encoded("PNG"), max_pixels=34)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"


@pytest.mark.parametrize("content", [b"", b"GIF", b"no image at all", EPS, b"\x00" * 1000])
def test_what_is_no_image_is_told(content: bytes) -> None:
    with pytest.raises(InvalidInput, match="the bytes are no image: expected one of BMP, GIF, JPEG, PNG"):
        image(content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_a_truncated_image_is_the_callers_fault_wherever_it_ends(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    whole = encoded(kind, noise)
    refused = 0
    for end in range(0, len(whole) - len(whole) // 8, max(1, len(whole) // 40)):
        try:
            image(whole[:end])
        except InvalidInput:
            refused += 1
    assert refused >= 30


def test_flipped_bytes_raise_nothing_but_invalid_input() -> None:
    whole = bytearray(encoded("PNG"))
    for at in range(len(whole)):
        broken = bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            assert image(broken).ndim == 3
        except InvalidInput:
            continue


def test_texts() -> None:
    words = np.array([["grüß".encode(), b"b"]], dtype=np.object_)
    assert text(words).tolist() == [["grüß", "b"]]
    assert text(b"one") == "one"
    with pytest.raises(InvalidInput, match="the text is not UTF-8: a wrong byte at 1"):
        text(np.array([b"a\xff"], dtype=np.object_))


def test_json_values() -> None:
    assert json_value(b'{"a": [1, null]}') == {"a": [1, None]}
    assert json_value(element(b"3")) == 3


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"{", "the text is not JSON"),
        (b"\xff", "the text is not UTF-8"),
        (b"[" * 200_000, "nested too deep"),
        (b"9" * 10_000, "the text is not JSON"),
    ],
)
def test_bad_json_is_the_callers_fault(content: bytes, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        json_value(content)


def test_one_element_is_one_element() -> None:
    for helper in (image, json_value):
        with pytest.raises(InvalidInput, match="expected one element, got 2"):
            helper(np.array([b"1", b"2"], dtype=np.object_))
