"""What is inside a BYTES element: an image, a text, a JSON value.  Bad bytes are the caller's fault."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any, overload

import numpy as np

from oipserver import Array, InvalidInput

# As 8-bit RGB this takes 192 MB; Pillow's own limit (Image.MAX_IMAGE_PIXELS) holds besides.
MAX_PIXELS = 64 * 2**20
# No format that starts another program, as EPS does.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")


def image(data: bytes | Array, mode: str = "RGB", max_pixels: int = MAX_PIXELS) -> Array:
    """The first frame of an encoded image: uint8, [height, width, 3] for RGB, [height, width] for "L".

    Args:
        data: the file's bytes, or a BYTES tensor of one element.
        mode: as Pillow calls it: "RGB", "L", "RGBA", ...
        max_pixels: width times height, looked up before anything is decoded.

    Raises:
        ImportError: Pillow is not installed.
        InvalidInput: no image in a known format, a broken one, or too many pixels.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ModuleNotFoundError as error:
        raise ImportError("image() needs Pillow: pip install 'oipserver[python]'") from error
    content = _element(data)
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as opened:
            width, height = opened.size
            if width * height <= max_pixels:
                return np.array(opened.convert(mode))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InvalidInput(f"the image has too many pixels, expected at most {max_pixels}") from None
    except UnidentifiedImageError:
        raise InvalidInput(f"the bytes are no image: expected one of {', '.join(FORMATS)}") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ValueError and more
        raise InvalidInput(f"the image is broken: {type(error).__name__}") from error
    raise InvalidInput(f"the image has {width} x {height} pixels, expected at most {max_pixels} in all")


@overload
def text(data: bytes) -> str: ...
@overload
def text(data: Array) -> Array: ...
def text(data: bytes | Array) -> str | Array:
    """UTF-8 bytes as str: one element, or an object array of the same shape.

    Raises:
        InvalidInput: not UTF-8.
    """
    if isinstance(data, bytes):
        return _decoded(data)
    texts: Array = np.empty(data.shape, dtype=np.object_)
    texts.reshape(-1)[:] = [_decoded(element) for element in data.flat]
    return texts


def json_value(data: bytes | Array) -> Any:
    """The value of one element that is a JSON document.

    Raises:
        InvalidInput: not UTF-8, not JSON, or nested too deep.
    """
    document = _decoded(_element(data))
    try:
        return json.loads(document)
    except RecursionError:
        raise InvalidInput("the JSON text is nested too deep") from None
    except ValueError as error:
        raise InvalidInput(f"the text is not JSON: {error}") from None


def _decoded(element: bytes) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the text is not UTF-8: a wrong byte at {error.start}") from None


def _element(data: bytes | Array) -> bytes:
    if not isinstance(data, np.ndarray):
        return data
    if data.size != 1:
        raise InvalidInput(f"expected one element, got {data.size}")
    element: bytes = data.flat[0]
    return element
