"""The table: what is asked, and what must come of it behind every door.

A case runs through every door whose form can say it.  `cannot` names the forms that cannot, and why;
nothing else is left out.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from oipserver.core.datatypes import DATATYPES
from tests.conformance.doors import Ask, Form, Given, Output

NAN, INFINITY = math.nan, math.inf
Reasons = Mapping[Form, str]


@dataclass(frozen=True)
class Error:
    """The symbolic code, and words that must stand in the message."""

    code: str
    words: Sequence[str] = ()


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    ask: Ask
    expect: Sequence[Output] | Error
    cannot: Reasons = field(default_factory=dict)


def _all(reason: str, *forms: Form) -> Reasons:
    return dict.fromkeys(forms, reason)


RAW_ONLY = _all("FP16 and BF16 have no JSON and no typed form", Form.JSON, Form.TYPED)
NO_SHAPE_OF_ITS_OWN = _all("an array's shape is its own and always fits its elements", Form.ARRAYS)
READ_BY_THE_FRONTS = _all("the fronts read it, the data plane has no word for it", Form.ARRAYS)
NOT_UTF8 = _all("JSON strings are UTF-8", Form.JSON)
RANGE_OF_BYTES = _all(
    "bytes and arrays cannot hold a value outside their datatype", Form.ARRAYS, Form.BINARY, Form.RAW
)
ONLY_JSON_LISTS = _all(
    "only JSON lists hold elements of any kind or nesting", Form.ARRAYS, Form.BINARY, Form.RAW, Form.TYPED
)
ONLY_JSON_OBJECTS = _all("only JSON has members of any kind", Form.ARRAYS, Form.RAW, Form.TYPED)
ONLY_RAW_BYTES = _all("its elements are counted, not cut from bytes", Form.ARRAYS, Form.JSON, Form.TYPED)
INT64_DIMENSIONS = _all("protobuf's dimensions are 64-bit integers", Form.ARRAYS, Form.RAW, Form.TYPED)
NO_SUCH_DATATYPE = _all("a tensor in memory has a datatype of the table", Form.ARRAYS)
NO_TYPED_FIELD = _all("a datatype that does not exist has no field", Form.TYPED)
NO_INFINITY = _all("strict JSON has no word for infinity", Form.JSON)
NO_NULL = _all("null is JSON's", Form.ARRAYS, Form.BINARY, Form.RAW, Form.TYPED)


def single(value: float) -> float:
    """The FP32 nearest to a number."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


# --- good: every datatype, its ends and its oddities -------------------------------------------------------


def _limits(bits: int, signed: bool) -> list[int]:
    return (
        [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, -1, 0] if signed else [0, 1, 2**bits - 1, 2 ** (bits - 1)]
    )


VALUES: Mapping[str, Sequence[Any]] = {
    "BOOL": [True, False, False, True],
    **{f"UINT{bits}": _limits(bits, signed=False) for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": _limits(bits, signed=True) for bits in (8, 16, 32, 64)},
    "FP16": [65504.0, -0.5, 2.0**-24, 0.0],
    "BF16": [1.5, -2.0, 3.3895313892515355e38, 2.0**-126],
    "FP32": [single(3.4028234e38), single(1e-45), single(0.1), -0.0],
    "FP64": [1.7976931348623157e308, 5e-324, 0.1, -1 / 3],
    "BYTES": [b"", "ärger 日本 🌸".encode(), b'quote " and \\', b"line\nand\0nul"],
}

FLOATS: Mapping[str, Reasons] = {"FP16": RAW_ONLY, "BF16": RAW_ONLY, "FP32": {}, "FP64": {}}


def _echo(name: str, datatype: str, values: Sequence[Any], cannot: Reasons | None = None) -> Case:
    given = Given(datatype, [2, 2], values)
    return Case(
        name,
        Ask(f"echo-{datatype}", [given]),
        [Output("y", datatype, [2, 2], values)],
        cannot or (RAW_ONLY if datatype in ("FP16", "BF16") else {}),
    )


ECHOES = [_echo(f"{name} keeps its ends", name, values) for name, values in VALUES.items()] + [
    _echo("INT64 beyond a double's integers", "INT64", [2**53 + 1, -(2**53) - 1, 2**63 - 1, 7]),
    _echo("UINT64 beyond INT64", "UINT64", [2**63, 2**64 - 1, 2**53 + 1, 0]),
    _echo("BYTES that are not UTF-8", "BYTES", [b"\xff\xfe", b"\x00\x80", b"\xc3", b"ok"], NOT_UTF8),
    *(_echo(f"{name} keeps NaN", name, [NAN, 1.0, NAN, 0.5]) for name in FLOATS),
    *(
        _echo(f"{name} keeps infinities", name, [INFINITY, 1.0, -INFINITY, 0.5], {**NO_INFINITY, **forms})
        for name, forms in FLOATS.items()
    ),
]


def _cast(have: str, want: str, values: Sequence[Any], expected: Sequence[Any] | None = None) -> Case:
    return Case(
        f"{have} for an {want} model",
        Ask(f"echo-{want}", [Given(have, [1, 2], values)]),
        [Output("y", want, [1, 2], values if expected is None else expected)],
        RAW_ONLY if have in ("FP16", "BF16") else {},
    )


CASTS = [
    _cast("FP64", "FP32", [0.1, -2.5], [single(0.1), -2.5]),
    _cast("FP32", "FP64", [single(0.1), -2.5]),
    _cast("FP16", "FP32", [0.5, -2.0]),
    _cast("BF16", "FP64", [0.5, -2.0]),
    _cast("INT64", "FP64", [3, -4], [3.0, -4.0]),
    _cast("UINT8", "FP32", [3, 255], [3.0, 255.0]),
    _cast("INT64", "INT32", [2**31 - 1, -(2**31)]),
    _cast("INT8", "INT64", [127, -128]),
    _cast("UINT64", "INT64", [2**63 - 1, 0]),
]

# --- good: shapes, names, outputs, ids, parameters ---------------------------------------------------------

ROW = Given("FP64", [1, 2], [1.0, 2.0])
TWICE = [Output("y", "FP64", [1, 2], [1.0, 2.0])]
SEVERAL = (
    Given("INT64", [2, 1], [1, 2], "number"),
    Given("FP32", [2, 2], [1.0, 2.0, 3.0, 4.0], "pair"),
    Given("BYTES", [2, 1], [b"one", b"two"], "text"),
)
ANSWERS = {
    **{one.name: Output(one.name, one.datatype, one.shape, one.data) for one in SEVERAL},
    "half": Output("half", "FP64", [2, 1], [0.5, 1.0]),
}


def _several(name: str, outputs: Sequence[str], expect: Sequence[str] | Error, *inputs: Given) -> Case:
    expected = expect if isinstance(expect, Error) else [ANSWERS[one] for one in expect]
    return Case(name, Ask("several", inputs or SEVERAL, outputs), expected)


def _good(name: str, cannot: Reasons | None = None, **members: Any) -> Case:
    return Case(name, Ask(**{"model": "echo-FP64", "inputs": [ROW], **members}), TWICE, cannot or {})


def _shaped(name: str, model: str, shape: Sequence[int], expected: Sequence[int], cannot: Reasons) -> Case:
    values = [float(number) for number in range(max(1, math.prod(abs(size) for size in expected)))]
    ask = Ask(model, [Given("FP64", shape, values)])
    return Case(name, ask, [Output("y", "FP64", expected, values)], cannot)


SHAPES = [
    _shaped("one dimension is -1", "echo-FP64", [-1, 2], [3, 2], NO_SHAPE_OF_ITS_OWN),
    _shaped("the last dimension is -1", "echo-FP64", [3, -1], [3, 2], NO_SHAPE_OF_ITS_OWN),
    _shaped("a column as a vector", "column", [3], [3, 1], {}),
    _shaped("a trailing axis of one too many", "echo-FP64", [3, 2, 1], [3, 2], {}),
    _shaped("a scalar for a model without a batch", "scalar", [], [], {}),
    Case(
        "data nested exactly as the shape",
        Ask("echo-INT32", [Given("INT32", [2, 2], [[1, 2], [3, 4]])]),
        [Output("y", "INT32", [2, 2], [1, 2, 3, 4])],
    ),
    Case(
        "null is NaN in floating data",
        Ask("echo-FP32", [Given("FP32", [1, 2], [None, 1.0])]),
        [Output("y", "FP32", [1, 2], [NAN, 1.0])],
        NO_NULL,
    ),
    Case(
        "whole numbers in a floating tensor",
        Ask("echo-FP32", [Given("FP32", [1, 2], [1, -2])]),
        [Output("y", "FP32", [1, 2], [1.0, -2.0])],
    ),
    Case(
        "whole floats in an integer tensor",
        Ask("echo-INT32", [Given("INT32", [1, 2], [1.0, -2.0])]),
        [Output("y", "INT32", [1, 2], [1, -2])],
        ONLY_JSON_LISTS,
    ),
]
NAMES = [
    _good("any name for a single input", inputs=[Given("FP64", [1, 2], [1.0, 2.0], "input-0")]),
    _good("the version by name", version="1"),
    _good("an id with any text", id='täg 🌸 \r\n "x"'),
    _good("a long id", id="x" * 60_000),
    _good("outputs may be named", outputs=["y"]),
    _good(
        "unknown parameters are ignored", parameters={"flavour": "mint", "size": 3, "hot": False, "p": 0.5}
    ),
    _good(
        "reserved parameters of the right type",
        READ_BY_THE_FRONTS,
        parameters={"timeout": 30_000_000, "priority": 1, "sequence_id": "a", "sequence_start": True},
    ),
    _good("a timeout of 0 is none", READ_BY_THE_FRONTS, parameters={"timeout": 0}),
    _good("null members are absent members", ONLY_JSON_OBJECTS, document={"id": None, "outputs": None}),
    _good("empty outputs are all outputs", ONLY_JSON_OBJECTS, document={"outputs": []}),
    _good("unknown members are ignored", ONLY_JSON_OBJECTS, document={"model_name": "x", "extra": [{}]}),
    _several("default outputs, not the optional ones", (), ("number", "pair", "text")),
    _several("outputs in the order asked for", ("text", "number"), ("text", "number")),
    _several("an optional output by name", ("half",), ("half",)),
    _several("inputs in any order", (), ("number", "pair", "text"), SEVERAL[1], SEVERAL[2], SEVERAL[0]),
]

# --- bad: tensors that are not what they say ---------------------------------------------------------------


def _bad(
    name: str, given: Given, words: Sequence[str], cannot: Reasons | None = None, model: str = ""
) -> Case:
    ask = Ask(model or f"echo-{given.datatype}", [given])
    return Case(name, ask, Error("BAD_REQUEST", ("x", *words)), cannot or {})


def _shape(name: str, shape: Sequence[Any], words: Sequence[str], cannot: Reasons | None = None) -> Case:
    given = Given("FP64", shape, [1.0, 2.0])
    return _bad(f"shape: {name}", given, words, cannot or NO_SHAPE_OF_ITS_OWN)


BAD_SHAPES = [
    _shape("negative", [-2, 2], ["-2"]),
    _shape("two unknown dimensions", [-1, -1], ["-1"]),
    _shape("-1 that no size fits", [-1, 3], ["-1", "3"]),
    _shape("-1 beside 0", [-1, 0], ["-1"]),
    _shape("rank 33", [1] * 33, ["33", "32"]),
    _shape("a dimension over 2^31", [2**31 + 1, 0], [str(2**31 + 1)]),
    _shape("a product that overflows 64 bits", [2**31, 2**31, 2**31], ["elements"]),
    _shape("huge, with little data", [2**26 + 1], ["elements"]),
    _shape("large, with little data", [2**25, 2], ["2"]),
    _shape("a product of 2^64", [2**32, 2**32], [str(2**32)]),
    _shape("more than the data", [2, 2], ["[2, 2]"]),
    _shape("less than the data", [1, 1], ["[1, 1]"]),
    _shape("no dimension for two elements", [], ["[]"]),
    _shape("a fraction", [1.5, 2], ["1.5"], {**NO_SHAPE_OF_ITS_OWN, **INT64_DIMENSIONS}),
    _shape("a whole float", [1.0, 2], ["1.0"], {**NO_SHAPE_OF_ITS_OWN, **INT64_DIMENSIONS}),
    _shape("true", [True, 2], ["True"], {**NO_SHAPE_OF_ITS_OWN, **INT64_DIMENSIONS}),
    _shape("text", ["1", 2], ["1"], {**NO_SHAPE_OF_ITS_OWN, **INT64_DIMENSIONS}),
    _bad("not the model's columns", Given("FP64", [1, 3], [1.0, 2.0, 3.0]), ["[-1, 2]", "[1, 3]"]),
    _bad("not the model's rank", Given("FP64", [1, 1, 2, 1], [1.0, 2.0]), ["[-1, 2]", "[1, 1, 2, 1]"]),
    Case("no rows", Ask("echo-FP64", [Given("FP64", [0, 2])]), Error("BAD_REQUEST", ["no rows"])),
    Case(
        "inputs that differ in rows",
        Ask("several", [SEVERAL[0], SEVERAL[1], Given("BYTES", [1, 1], [b"one"], "text")]),
        Error("BAD_REQUEST", ["rows", "2", "1"]),
    ),
]


def _bytes(name: str, raw: bytes, *words: str, shape: Sequence[int] = (1, 2)) -> Case:
    return _bad(f"BYTES: {name}", Given("BYTES", shape, raw=raw), words, ONLY_RAW_BYTES)


BAD_BYTES = [
    _bytes("a length that lies", b"\xff\xff\xff\xffab", "4294967295"),
    _bytes("ends inside a length", b"\1\0\0\0a\1\0", "length prefix"),
    _bytes("ends inside an element", b"\1\0\0\0a\5\0\0\0ab", "5", "2"),
    _bytes("one element too many", b"\0\0\0\0" * 3, "2"),
    _bytes("one element too few", b"\0\0\0\0", "1", "2"),
    _bytes("nothing at all", b"", "0", "2"),
    _bad("FP32: half an element", Given("FP32", [1, 2], raw=b"\0" * 6), ["8", "6"], ONLY_RAW_BYTES),
    _bad("FP32: an element too many", Given("FP32", [1, 2], raw=b"\0" * 12), ["8", "12"], ONLY_RAW_BYTES),
    _bad("INT64: nothing at all", Given("INT64", [1, 2], raw=b""), ["16", "0"], ONLY_RAW_BYTES),
    _bad("BOOL: neither 0 nor 1", Given("BOOL", [1, 2], raw=b"\1\2"), ["BOOL"], ONLY_RAW_BYTES),
]


def _value(name: str, datatype: str, values: Sequence[Any], *words: str) -> Case:
    given = Given(datatype, [1, 2], values)
    return _bad(f"value: {name}", given, words, ONLY_JSON_LISTS)


BAD_VALUES = [
    _value("a string among numbers", "FP64", ["1", 2.0], "string"),
    _value("true among numbers", "FP64", [True, 2.0], "true or false"),
    _value("true among integers", "INT64", [True, 2], "true or false"),
    _value("1 among booleans", "BOOL", [1, True], "integer"),
    _value("a number among strings", "BYTES", ["a", 1], "integer"),
    _value("null among integers", "INT32", [None, 1], "null"),
    _value("null among strings", "BYTES", [None, "a"], "null"),
    _value("an object", "FP64", [{}, 1.0], "object"),
    _value("a fraction among integers", "INT32", [1.5, 2], "1.5"),
    _value("a float too large for an integer", "INT64", [1e300, 2], "INT64"),
    _value("too large for FP32", "FP32", [1e39, 2.0], "out of range", "FP32"),
    _value("too large for INT64", "INT64", [2**63, 2], str(2**63)),
    _value("too large for UINT64, as a float", "UINT64", [2.0**64, 2], "UINT64"),
    _value("negative for UINT64", "UINT64", [-1, 2], "-1"),
    _value("ragged", "FP64", [[1.0], [2.0, 3.0]], "nested"),
    _value("ragged, with the right number of elements", "FP64", [[[1.0], [2.0]]], "nested"),
    _value("nested deeper than the shape", "FP64", [[[1.0, 2.0]]], "nested"),
    _value("a list beside a number", "FP64", [1.0, [2.0]], "nested"),
    _value("too few elements", "FP64", [1.0], "[1, 2]", "1"),
    _value("too many elements", "FP64", [1.0, 2.0, 3.0], "[1, 2]", "3"),
    *(
        _bad(
            f"value: {worst} for {datatype}",
            Given(datatype, [1, 2], [worst, 0]),
            [str(worst)],
            RANGE_OF_BYTES,
        )
        for datatype, worst in (("UINT8", 256), ("INT8", -129), ("UINT16", 65536), ("INT16", 32768))
    ),
    *(
        _bad(
            f"value: {worst} for {datatype}",
            Given(datatype, [1, 2], [worst, 0]),
            [str(worst)],
            ONLY_JSON_LISTS,
        )
        for datatype, worst in (("UINT32", 2**32), ("INT32", 2**31), ("UINT32", -1))
    ),
    _bad("more than the model's integers", Given("INT64", [1, 2], [2**31, 0]), ["INT32"], model="echo-INT32"),
    _bad("more than the model's floats", Given("FP64", [1, 2], [1e39, 0.0]), ["FP32"], model="echo-FP32"),
    Case(
        "NaN where the model takes none",
        Ask("finite", [Given("FP64", [1, 2], [NAN, 1.0])]),
        Error("UNPROCESSABLE", ["x", "finite", "NaN"]),
    ),
    Case(
        "infinity where the model takes none",
        Ask("finite", [Given("FP64", [1, 2], [1.0, INFINITY])]),
        Error("UNPROCESSABLE", ["x", "finite", "infinity"]),
        NO_INFINITY,
    ),
]


def _type(have: str, want: str, values: Sequence[Any]) -> Case:
    given = Given(have, [1, 2], values)
    return _bad(f"{have} for an {want} model", given, ["x", have, want], model=f"echo-{want}")


BAD_DATATYPES = [
    _type("FP64", "INT64", [1.0, 2.0]),
    _type("FP32", "UINT8", [1.0, 2.0]),
    _type("INT64", "UINT8", [1, 2]),
    _type("BOOL", "INT8", [True, False]),
    _type("BOOL", "FP32", [True, False]),
    _type("INT8", "BOOL", [1, 0]),
    _type("BYTES", "FP64", [b"1", b"2"]),
    _type("INT64", "BYTES", [1, 2]),
    *(
        Case(
            f"datatype {text!r}",
            Ask("echo-FP32", [Given(text, [1, 2], [1.0, 2.0], raw=b"\0" * 8)]),
            Error("BAD_REQUEST", ["x", "FP32", text]),
            {**NO_SUCH_DATATYPE, **NO_TYPED_FIELD},
        )
        for text in ("fp32", "FLOAT", "FP128", "FP32 ", "")
    ),
    *(
        Case(
            f"{name} in JSON",
            Ask(f"echo-{name}", [Given(name, [1, 2], [1.0, 2.0])]),
            Error("BAD_REQUEST", ["x", name, "binary"]),
            _all("it has this form", *(form for form in Form if form is not Form.JSON)),
        )
        for name in ("FP16", "BF16")
    ),
]

# --- bad: names, versions, outputs, parameters -------------------------------------------------------------

UNKNOWN = Given("INT64", [2, 1], [1, 2], "pаir")  # the a is Cyrillic
BAD_NAMES = [
    Case("no such model", Ask("nobody", [ROW]), Error("NOT_FOUND", ["nobody"])),
    Case("names differ in case", Ask("Several", SEVERAL), Error("NOT_FOUND", ["Several"])),
    Case("no such version", Ask("several", SEVERAL, version="2"), Error("NOT_FOUND", ["several", "2", "1"])),
    Case("a version is a text", Ask("several", SEVERAL, version="01"), Error("NOT_FOUND", ["01"])),
    Case("a model that loads", Ask("loading", [ROW]), Error("NOT_READY", ["loading", "LOADING"])),
    Case("a model that failed to load", Ask("broken", [ROW]), Error("NOT_READY", ["broken", "FAILED"])),
    _several("an input is missing", (), Error("BAD_REQUEST", ["several", "text"]), *SEVERAL[:2]),
    _several("an input too many", (), Error("BAD_REQUEST", ["twice"]), *SEVERAL, SEVERAL[0]),
    _several("an unknown input", (), Error("BAD_REQUEST", ["no input", "pаir"]), *SEVERAL, UNKNOWN),
    _several("a look-alike name", (), Error("BAD_REQUEST", ["no input"]), SEVERAL[0], UNKNOWN, SEVERAL[2]),
    _several("several inputs are strict", (), Error("BAD_REQUEST", ["no input 'x'"]), ROW),
    _several("two inputs for one", (), Error("BAD_REQUEST", ["twice"]), SEVERAL[0], SEVERAL[0]),
    Case("two inputs where one is declared", Ask("echo-FP64", [ROW, ROW]), Error("BAD_REQUEST", ["twice"])),
    _several("an unknown output", ("number", "nothing"), Error("BAD_REQUEST", ["nothing", "half"])),
    _several("an output twice", ("number", "number"), Error("BAD_REQUEST", ["number", "twice"])),
    _several("ten thousand outputs", ("number",) * 10_000, Error("BAD_REQUEST", [])),
    Case(
        "more than 256 inputs",
        Ask("several", [ROW] * 257),
        Error("BAD_REQUEST", ["257", "256"]),
        READ_BY_THE_FRONTS,
    ),
]


def _parameter(name: str, value: Any, *words: str, code: str = "BAD_REQUEST") -> Case:
    ask = Ask("echo-FP64", [ROW], parameters={name: value})
    return Case(f"parameter {name} is {value!r}", ask, Error(code, [name, *words]), READ_BY_THE_FRONTS)


BAD_PARAMETERS = [
    _parameter("timeout", "1000", "unsigned integer", "1000"),
    _parameter("timeout", -1, "unsigned integer", "-1"),
    _parameter("timeout", True, "unsigned integer"),
    _parameter("timeout", 1.5, "unsigned integer"),
    _parameter("priority", "high", "high"),
    _parameter("sequence_id", True),
    _parameter("sequence_start", 1),
    _parameter("triton_final_response", True, "reserved"),
    Case(
        "an id over 64 KiB",
        Ask("echo-FP64", [ROW], id="x" * 65537),
        Error("BAD_REQUEST", ["id", "65536"]),
        READ_BY_THE_FRONTS,
    ),
]

# --- a model that refuses, fails or breaks its word --------------------------------------------------------

DOUBLED = Given("FP64", [1, 2], [21.0, 0.5])


def _doubler(name: str, value: float, error: Error, model: str = "doubler") -> Case:
    return Case(name, Ask(model, [Given("FP64", [1, 2], [value, 1.0])]), error)


FAULTS = [
    Case("a model that computes", Ask("doubler", [DOUBLED]), [Output("y", "FP64", [1, 2], [42.0, 1.0])]),
    _doubler("a model that raises", 13.0, Error("INFERENCE_FAILED", ["failed"])),
    _doubler("a model that wants to exit", 14.0, Error("INFERENCE_FAILED", ["failed"])),
    _doubler("a model that refuses the data", 15.0, Error("UNPROCESSABLE", ["as far as this model counts"])),
    _doubler("a model that forgets a row", 1.0, Error("INFERENCE_FAILED", ["announces"]), model="short"),
]

# --- a real model ------------------------------------------------------------------------------------------

FLOWERS = Given("FP64", [3, 4], [5.1, 3.5, 1.4, 0.2, 6.0, 2.9, 4.5, 1.5, 6.3, 3.3, 6.0, 2.5], "input-0")
WHOLE = Given("INT64", [1, 4], [5, 3, 1, 0], "anything")
IRIS = [
    Case("iris is told apart", Ask("iris", [FLOWERS]), [Output("predict", "INT64", [3, 1], [0, 1, 2])]),
    Case("iris from integers", Ask("iris", [WHOLE]), [Output("predict", "INT64", [1, 1], [0])]),
    Case(
        "iris with NaN",
        Ask("iris", [Given("FP64", [1, 4], [NAN, 1.0, 1.0, 1.0])]),
        Error("UNPROCESSABLE", ["x", "iris", "NaN"]),
    ),
    Case(
        "iris with three lengths",
        Ask("iris", [Given("FP64", [1, 3], [1.0, 1.0, 1.0])]),
        Error("BAD_REQUEST", ["x", "[-1, 4]", "[1, 3]"]),
    ),
    Case(
        "iris from text",
        Ask("iris", [Given("BYTES", [1, 4], [b"a"] * 4)]),
        Error("BAD_REQUEST", ["x", "FP64", "BYTES"]),
    ),
    Case(
        "iris asked for what it has not",
        Ask("iris", [FLOWERS], ["transform"]),
        Error("BAD_REQUEST", ["transform", "predict_proba"]),
    ),
]

CASES: Sequence[Case] = [
    *ECHOES, *CASTS, *SHAPES, *NAMES, *BAD_SHAPES, *BAD_BYTES, *BAD_VALUES, *BAD_DATATYPES, *BAD_NAMES,
    *BAD_PARAMETERS, *FAULTS, *IRIS,
]  # fmt: skip

assert VALUES.keys() == DATATYPES.keys()
