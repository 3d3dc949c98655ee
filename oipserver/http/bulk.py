"""Large JSON bodies: the numbers of a tensor go straight into an array, without an object for each.

The text of the numbers is cut out of the body and read by simdjson, in pieces, so that what it allocates
stays in the cache; the small rest, with a hole in each place, is read by orjson as ever.

Rule: nothing is refused here.  Whatever is the least out of the ordinary (null, NaN, 1.0 for an integer, a
shape that does not fit, no simdjson yet) is None: the body is to be read in the ordinary way, which alone
decides what is wrong and how it is said.

Why the answer is the same: the rest is valid JSON with a hole, which no client can write, as the data of a
tensor; the text is a valid JSON value; so the body is that document with that value in the hole's place.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from oipserver.core.codec import cast_float, check_shape, infer_shape
from oipserver.core.datatypes import DATATYPES, FP32, FP64, UINT64, Datatype
from oipserver.core.errors import BadRequest
from oipserver.core.messages import Array

if TYPE_CHECKING:
    from simdjson import Parser

# Its wheels, one for each version of Python, come late.
AVAILABLE = find_spec("simdjson") is not None
# Bytes of a body, and of the text of one tensor, from which this pays.
LEAST = 8192
# Bytes that simdjson reads at a time; it allocates some ten times as much.
PIECE = 2**16
# Numbers in a row from which it is cheaper to look at the row than at its text.
LONG_ROW = 16
# Tensors that are looked for; a body that names more of them is mostly names.
MOST = 256

_DATA = b'"data":'
_BLANK = b" \t\r\n"
# All that a number and the space around it is made of.
_NUMERIC = b"0123456789+-.eE" + _BLANK
_HOLE = secrets.token_hex(16)
_WIDEST: Mapping[str, str] = {"d": "f8", "i": "i8", "u": "u8"}
# simdjson's class, and whether somebody is about to bring it.
_parser: type[Parser] | None = None
_is_loading = False


class Text(NamedTuple):
    """A list of numbers in a body, brackets and all; not a slice, which would be a copy."""

    body: bytes
    start: int
    end: int


def read_bulk(body: bytes) -> Mapping[str, Any] | None:
    """The document in a large body, with arrays of the declared datatype and shape as data.

    Returns:
        None when the body is to be read in the ordinary way.
    """
    if not AVAILABLE:
        return None
    rest, texts = _cut(body)
    if not texts:
        return None
    try:
        document = orjson.loads(rest)
    except orjson.JSONDecodeError:
        return None
    return document if _fill(document, texts) else None


# --- cutting -----------------------------------------------------------------------------------------------


def _cut(body: bytes) -> tuple[bytes, dict[object, Text]]:
    """The body with a hole in place of each long text of numbers, and these by their holes."""
    rest: list[bytes] = []
    texts: dict[object, Text] = {}
    taken = position = 0
    for number in range(MOST):
        position = body.find(_DATA, position) + len(_DATA)
        if position < len(_DATA):
            break
        end = _end(body, position)
        start = body.find(b"[", position, end)
        if start >= position and end - start >= LEAST and not body[position:start].strip(_BLANK):
            hole = f"{_HOLE}{number}"
            texts[hole] = Text(body, start, end)
            rest += (body[taken:position], b'"%s"' % hole.encode())
            taken = position = end
    rest.append(body[taken:])
    return b"".join(rest), texts


def _end(body: bytes, start: int) -> int:
    """Where the list of numbers from `start` on ends, if it is one: in it are neither quotes nor braces."""
    quote = body.find(b'"', start)
    brace = body.find(b"}", start, len(body) if quote < 0 else quote)
    return body.rfind(b"]", start, quote if brace < 0 else brace) + 1


def _fill(document: Any, texts: dict[object, Text]) -> bool:
    """Put arrays into the holes; False when one cannot be filled, or is not the data of a tensor."""
    inputs = document.get("inputs") if type(document) is dict else None
    for item in inputs if type(inputs) is list else ():
        data = item.get("data") if type(item) is dict else None
        text = texts.pop(data, None) if type(data) is str else None
        if text is not None:
            array = _array(text, item.get("datatype"), item.get("shape"))
            if array is None:
                return False
            item["data"] = array
    return not texts


# --- reading -----------------------------------------------------------------------------------------------


def _array(text: Text, name: object, shape: object) -> Array | None:
    """The numbers as the tensor that they are said to be; None when they are not, or it is doubtful."""
    datatype = DATATYPES.get(name) if type(name) is str else None
    if datatype is None or type(shape) is not list:
        return None
    try:
        known = check_shape(shape, "")
        count = text.body.count(b",", text.start, text.end) + 1 if -1 in shape else known
        resolved = infer_shape(shape, count, "")
        columns = _columns(text, resolved)
        values = _numbers(text, _kind(datatype), count, columns)
        if columns is None and not _is_nested(text, resolved):
            return None
        return _cast(values, datatype).reshape(resolved)
    except (BadRequest, RuntimeError, TypeError, ValueError):
        return None


def _kind(datatype: Datatype) -> str:
    """simdjson's letter for the widest numbers of the kind; TypeError for a datatype that is not numbers."""
    if datatype in (FP32, FP64):
        return "d"
    if datatype.kind not in "iu":
        raise TypeError
    return "u" if datatype is UINT64 else "i"


def _columns(text: Text, shape: Sequence[int]) -> int | None:
    """How long each row in a list is to be, 0 where it is flat; None when only the text can tell."""
    depth = _depth(text)
    if depth == 1:
        return 0
    return shape[1] if depth == len(shape) == 2 and shape[1] >= LONG_ROW else None


def _depth(text: Text) -> int:
    """How many lists open before the first number."""
    head = text.body[text.start : text.start + 64].translate(None, _BLANK)
    return len(head) - len(head.lstrip(b"["))


def _numbers(text: Text, kind: str, count: int, columns: int | None) -> Array:
    """All numbers in a list; TypeError or ValueError unless they are `count`, in rows of `columns`."""
    if 2 * count > text.end - text.start:  # digits and commas: nothing is allocated for what has not come
        raise ValueError
    parser = _new_parser()
    values: Array = np.empty(count, _WIDEST[kind])
    filled = 0
    for piece in _pieces(text):
        part = _read(parser, piece, kind, columns)
        values[filled : filled + len(part)] = part
        filled += len(part)
        if not len(part) or filled > count:
            raise ValueError
    if filled < count:
        raise ValueError
    return values


def load() -> None:
    """Have simdjson from now on; it takes milliseconds and a megabyte, so not every server shall have it."""
    global _parser
    from simdjson import Parser

    _parser = Parser


def _new_parser() -> Parser:
    """Of simdjson; ValueError for the first large bodies, until a thread has it loaded."""
    global _is_loading
    if _parser is not None:
        return _parser()
    if not _is_loading:
        _is_loading = True
        threading.Thread(target=load, name="simdjson", daemon=True).start()
    raise ValueError


def _read(parser: Parser, piece: bytes, kind: str, columns: int | None) -> Array:
    """The numbers in a piece, which is looked at while it is in the cache.

    A list in a list is one bracket more: when there are as many as rows, no row has another one in it.
    """
    found: Any = parser.parse(piece)
    if columns is not None and piece.count(b"[") != 1 + (len(found) if columns else 0):
        raise ValueError
    if columns and set(map(len, found)) != {columns}:
        raise ValueError
    return np.frombuffer(found.as_buffer(of_type=kind), _WIDEST[kind])


def _pieces(text: Text) -> Iterator[bytes]:
    """The list in `text` as several; none of them is cut inside a nested list.

    They are valid JSON, and none is empty, only if `text` is valid.
    """
    body, start, end = text
    boundary = b"]" * (_depth(text) - 1) + b","
    view = memoryview(body)
    start += 1
    while (cut := body.find(boundary, start + PIECE, end)) >= 0:
        comma = cut + len(boundary) - 1
        yield b"".join((b"[", view[start:comma], b"]"))
        start = comma + 1
    yield b"".join((b"[", view[start:end]))


def _is_nested(text: Text, shape: Sequence[int]) -> bool:
    """Whether the numbers in a valid list are nested exactly as `shape` says."""
    body, start, end = text
    pieces = (body[at : min(at + PIECE, end)] for at in range(start, end, PIECE))
    return b"".join([piece.translate(None, _NUMERIC) for piece in pieces]) == _skeleton(shape, end - start)


def _skeleton(shape: Sequence[int], most: int) -> bytes:
    """The brackets and commas of nested lists; nothing when that is longer than `most`."""
    text = b""
    for size in reversed(shape):
        if (len(text) + 1) * size > most:
            return b""
        text = b"[%b]" % ((text + b",") * size)[:-1]
    return text


def _cast(values: Array, datatype: Datatype) -> Array:
    """Numbers of the widest kind as the datatype; BadRequest or ValueError when one is out of its range."""
    if datatype.is_float:
        return cast_float(values, datatype, "")
    limits = np.iinfo(datatype.dtype)
    if values.min() < limits.min or values.max() > limits.max:
        raise ValueError
    return values.astype(datatype.dtype, copy=False)
