"""Content codings of bodies: gzip, deflate (zlib format, RFC 1950) and zstd, never inflated past a limit.

Rule: at no time does an inflated body hold more than the limit and one step, whatever it claims to be; and
only a stream that ends where its format says that it ends is a body.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Mapping

from oipserver.core.errors import BadRequest, PayloadTooLarge, printable
from oipserver.http.errors import UnsupportedEncoding

# In our order of preference where a client has none.
ENCODINGS = ("zstd", "gzip", "deflate")

_WINDOW_BITS: Mapping[str, int] = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
# RFC 8878, 3.1.1.1.2: decoders should support windows of at least 8 MB; more would be memory for the asking.
_ZSTD_WINDOW = 8 * 2**20
# A zstd block of 4 bytes can say 128 KiB, so this much input makes 8 MiB at most.
_ZSTD_STEP = 256
_LEVEL = 1


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """The plain body; takes its time, so not for the event loop.

    Args:
        encoding: the value of Content-Encoding, lower case.
        limit: bytes.

    Raises:
        BadRequest: corrupt, truncated, or followed by something else.
        PayloadTooLarge: more than `limit` bytes.
        UnsupportedEncoding: another coding, or several.
    """
    check_encoding(encoding)
    inflate = _inflate_zstd if encoding == "zstd" else _inflate_zlib
    plain, complete = inflate(body, encoding, limit)
    if len(plain) > limit:
        raise PayloadTooLarge(f"the body has more than {limit} bytes when it is inflated")
    if not complete:
        raise BadRequest(f"the body is not one whole {encoding} stream")
    return plain


def check_encoding(encoding: str) -> None:
    """UnsupportedEncoding when `encoding` cannot be undone here."""
    if encoding not in ENCODINGS:
        raise UnsupportedEncoding(
            f"Content-Encoding must be one of {', '.join(ENCODINGS)}, got '{printable(encoding)}'"
        )


def _inflate_zlib(body: bytes, encoding: str, limit: int) -> tuple[bytes, bool]:
    inflater = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        plain = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise _corrupt(encoding, error) from None
    return plain, inflater.eof and not inflater.unused_data


def _inflate_zstd(body: bytes, encoding: str, limit: int) -> tuple[bytes, bool]:
    import zstandard

    inflater = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
    pieces: list[bytes] = []
    size = 0
    for start in range(0, len(body), _ZSTD_STEP):
        try:
            pieces.append(inflater.decompress(body[start : start + _ZSTD_STEP]))
        except zstandard.ZstdError as error:
            raise _corrupt(encoding, error) from None
        size += len(pieces[-1])
        if size > limit:
            break
        if inflater.eof:
            whole = not inflater.unused_data and start + _ZSTD_STEP >= len(body)
            return b"".join(pieces), whole
    return b"".join(pieces), False


def _corrupt(encoding: str, error: Exception) -> BadRequest:
    return BadRequest(f"the body is not valid {encoding}: {error}")


def loaded(encoding: str) -> bool:
    """Whether nothing has to be imported for it any more, which is nothing for the event loop."""
    return encoding != "zstd" or "zstandard" in sys.modules


def compress(body: bytes, encoding: str, level: int = _LEVEL) -> bytes:
    """The body in one of `ENCODINGS`; unless told otherwise at the level that costs least time."""
    if encoding == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=level).compress(body)
    deflater = zlib.compressobj(level, wbits=_WINDOW_BITS[encoding])
    return deflater.compress(body) + deflater.flush()


def negotiate(accept_encoding: str) -> str | None:
    """The coding that an Accept-Encoding header likes best; None when identity is as good (RFC 9110, 12.5.3).

    Highest q wins, our order breaks ties; q=0 forbids, `*` stands for every coding that is not named.
    """
    wishes: dict[str, float] = {}
    for item in accept_encoding.lower().split(","):
        name, _, parameter = item.partition(";")
        wishes[name.strip()] = _quality(parameter)
    rest = wishes.get("*", 0.0)
    best = max(ENCODINGS, key=lambda encoding: wishes.get(encoding, rest))
    quality = wishes.get(best, rest)
    return best if quality > 0 and quality >= wishes.get("identity", 0.0) else None


def _quality(parameter: str) -> float:
    name, _, value = parameter.partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        quality = float(value)
    except ValueError:
        return 0.0
    return quality if 0.0 <= quality <= 1.0 else 0.0
