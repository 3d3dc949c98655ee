"""How to make something slightly wrong out of what is right: documents, texts, bytes, messages."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 255, 256, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1),
    *(10**30, 0.5, -0.0, 1e308, 5e-324, "", "x", "1", "NaN", "é", "\x00", "\u202e", "\r\nX-Evil: 1"),
    *("FP64", "FP32", "FP16", "BF16", "INT8", "INT64", "UINT64", "BOOL", "BYTES", "fp64"),
    *("../../etc/passwd", "%s%n{0}", "a" * 300, [], {}, [[]], [None], [1, [2]], {"a": 1}, [[1.5, 2.5]]),
    *([-1, 2], [0, 2], [2**40, 2**40], [1] * 33),
)
NAMES = (
    *("inputs", "outputs", "parameters", "id", "name", "shape", "datatype", "data", "binary_data_size"),
    *("binary_data", "binary_data_output", "timeout", "priority", "sequence_id", "classification"),
    *("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"),
    *("triton_enable_empty_final_response", "text_input", "x", "y", "predict", "__class__", ""),
)
TEXTS = (
    *(
        b"NaN",
        b"-Infinity",
        b"Infinity",
        b"1e400",
        b"-1e-400",
        b"1" * 400,
        b"00",
        b"1.",
        b".5",
        b"+1",
        b"0x10",
    ),
    *(b'"\\ud800"', b'"\\u0000"', b"\xef\xbb\xbf", b"\xff", b"\x00", b"[" * 3000, b'{"a":' * 500, b"/**/"),
    *(b",", b"}", b"]", b'"', b"\\", b"true", b"nul", b"'a'", b"\xed\xa0\x80", b"\t\r\n "),
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a document with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


def document(value: Any, chance: random.Random) -> Any:
    """A copy with one thing changed."""
    changed = copy.deepcopy(value)
    container, key = chance.choice([*places(changed)] or [([None], 0)])
    kind = chance.randrange(7)
    if kind == 0:
        del container[key]
    elif kind == 1:
        container[key] = [container[key]]
    elif kind == 2 and isinstance(container, list):
        container.insert(key, copy.deepcopy(container[key]))
    elif kind == 3 and isinstance(container, list):
        container.extend(copy.deepcopy(container[key]) for _ in range(chance.choice((1, 7, 300))))
    elif kind == 4 and isinstance(container, dict):
        container[chance.choice(NAMES)] = container.pop(key)
    elif kind == 5 and isinstance(container, dict):
        container[chance.choice(NAMES)] = copy.deepcopy(chance.choice(ODD))
    else:
        container[key] = copy.deepcopy(chance.choice(ODD))
    return changed


def written(value: Any, chance: random.Random) -> bytes:
    """As JSON: compact, spaced or escaped."""
    separators = chance.choice(((",", ":"), (", ", ": "), (" ,\n", "\t: ")))
    text = json.dumps(value, separators=separators, ensure_ascii=chance.random() < 0.5)
    return text.encode("utf-8", "surrogatepass")


def scrambled(data: bytes, chance: random.Random) -> bytes:
    """Bytes with something flipped, cut, doubled or put in."""
    at, other = chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)
    kind = chance.randrange(6)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes(chance.randrange(256) for _ in range(chance.randrange(1, 9))) + data[at:]
    if kind == 2:
        return data[:at] + chance.choice(TEXTS) + data[at:]
    if kind == 3:
        return data[:at] + chance.choice(TEXTS) + data[max(at, other) :]
    if kind == 4:
        return data[: min(at, other)] + data[max(at, other) :]
    if not data:
        return b"\x00"
    flipped = bytearray(data)
    flipped[at % len(data)] ^= 1 << chance.randrange(8)
    return bytes(flipped)


_NUMBERS = (0, 1, -1, 2, 127, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1)
_STRINGS = (
    "",
    "x",
    "FP64",
    "FP32",
    "FP16",
    "BF16",
    "INT32",
    "BYTES",
    "BOOL",
    "fp64",
    "é",
    "\x00",
    "\n",
    "a" * 300,
)


def message(made: Message, chance: random.Random) -> None:
    """Change one thing in it, at any depth."""
    if not made.DESCRIPTOR.fields:
        return
    target = chance.choice([each for each in messages(made) if each.DESCRIPTOR.fields])
    field: Any = chance.choice(target.DESCRIPTOR.fields)
    kind = chance.randrange(5)
    if kind == 0:
        target.ClearField(field.name)
    elif field.is_repeated:
        _repeated(target, field, chance)
    elif field.message_type is not None:
        getattr(target, field.name).SetInParent()
    else:
        _set(target, field, chance)


def messages(made: Message) -> Iterator[Message]:
    """It and every message in it."""
    yield made
    for field, value in made.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for inner in value if field.is_repeated else [value]:
            yield from messages(inner)


def _repeated(target: Any, field: FieldDescriptor, chance: random.Random) -> None:
    values = getattr(target, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        parameter = values[chance.choice(NAMES)]
        _set(parameter, chance.choice(parameter.DESCRIPTOR.fields), chance)
    elif values and chance.random() < 0.5:
        del values[chance.randrange(len(values))]
    elif field.message_type is not None:
        values.add().CopyFrom(values[0]) if values and chance.random() < 0.8 else values.add()
    else:
        values.extend([_value(field, chance)] * chance.choice((1, 2, 300)))


def _set(target: Any, field: FieldDescriptor, chance: random.Random) -> None:
    setattr(target, field.name, _value(field, chance))


def _value(field: FieldDescriptor, chance: random.Random) -> Any:
    kinds = FieldDescriptor
    if field.cpp_type == kinds.CPPTYPE_BOOL:
        return chance.random() < 0.5
    if field.cpp_type in (kinds.CPPTYPE_DOUBLE, kinds.CPPTYPE_FLOAT):
        return chance.choice((0.0, -1.5, float("nan"), float("inf"), 3e38))
    if field.type == kinds.TYPE_BYTES:
        return chance.choice(
            (b"", b"\x00", b"\xff\xff\xff\xff", b"\x01\x00\x00\x00a", bytes(8), bytes(32), bytes(999))
        )
    if field.cpp_type == kinds.CPPTYPE_STRING:
        return chance.choice((*_STRINGS, *NAMES))
    signed = field.cpp_type in (kinds.CPPTYPE_INT32, kinds.CPPTYPE_INT64)
    bits = 32 if field.cpp_type in (kinds.CPPTYPE_INT32, kinds.CPPTYPE_UINT32) else 64
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return chance.choice([number for number in _NUMBERS if low <= number <= high])
