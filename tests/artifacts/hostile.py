"""Pickles that make a directory when they are loaded, in every form that an attacker may give them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np


def imported() -> set[str]:
    """The modules imported so far, but for Python's own text codecs."""
    return {name for name in sys.modules if not name.startswith("encodings.")}


class Bomb:
    """Its pickle calls `os.mkdir` when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self._marker = str(marker)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (self._marker,)


class Packed:
    """Its pickle holds another pickle, and loads it."""

    def __init__(self, inner: bytes) -> None:
        self._inner = inner

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return pickle.loads, (self._inner,)


def _text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def _call(name: bytes, marker: Path) -> bytes:
    """Operations that call what `name` puts on the stack."""
    return name + b"X" + len(str(marker)).to_bytes(4, "little") + str(marker).encode() + b"\x85R"


def stack_global(marker: Path) -> bytes:
    name = _text("posix") + _text("mkdir") + b"\x93"
    return b"\x80\x04" + _call(name, marker) + b"."


def from_memo(marker: Path) -> bytes:
    """The names come from the memo, in which harmless ones stood before."""
    remembered = _text("math") + b"q\x00" + _text("floor") + b"q\x01" + b"00"
    overwritten = _text("posix") + b"q\x00" + _text("mkdir") + b"r\x01\x00\x00\x00" + b"00"
    return b"\x80\x04" + remembered + overwritten + _call(b"h\x00j\x01\x00\x00\x00\x93", marker) + b"."


def from_text_memo(marker: Path) -> bytes:
    return b"Vposix\np0\n0Vmkdir\np1\n0" + b"\x80\x04" + _call(b"g0\ng1\n\x93", marker) + b"."


def behind_marks(marker: Path) -> bytes:
    """Names reach the stack by ways around."""
    name = b"(" + _text("harmless") + b"1" + _text("posix") + b"20" + _text("mkdir") + b"\x93"
    return b"\x80\x04" + _call(name, marker) + b"."


def inst(marker: Path) -> bytes:
    return b"(V" + str(marker).encode() + b"\niposix\nmkdir\n."


def obj(marker: Path) -> bytes:
    return b"(cposix\nmkdir\nV" + str(marker).encode() + b"\no."


def python2_name(marker: Path) -> bytes:
    code = f"__import__('os').mkdir({str(marker)!r})"
    return b"c__builtin__\neval\n(V" + code.encode() + b"\ntR."


def dotted(marker: Path) -> bytes:
    name = _text("joblib.disk") + _text("os.mkdir") + b"\x93"
    return b"\x80\x04" + _call(name, marker) + b"."


def computed(marker: Path) -> bytes:
    """The module's name is what a harmless function returns."""
    module = _text("builtins") + _text("str") + b"\x93" + _text("posix") + b"\x85R"
    return b"\x80\x04" + _call(module + _text("mkdir") + b"\x93", marker) + b"."


def nested(marker: Path) -> bytes:
    return pickle.dumps(Packed(pickle.dumps(Bomb(marker))))


def nested_in_protocol_2(marker: Path) -> bytes:
    return pickle.dumps(Packed(pickle.dumps(Bomb(marker), 0)), 2)


def without_end(marker: Path) -> bytes:
    """It fails when it is loaded, but not before it has run."""
    return stack_global(marker)[:-1]


def before_nonsense(marker: Path) -> bytes:
    return stack_global(marker)[:-1] + b"\xff\xff"


def behind_a_list(marker: Path) -> bytes:
    return pickle.dumps([np.arange(3.0), {"a": 1}, Bomb(marker)])


def _joblib(value: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    joblib.dump(value, file, **options)
    return file.getvalue()


def joblib_arrays(marker: Path) -> bytes:
    return _joblib({"a": np.arange(1000.0), "b": Bomb(marker), "c": np.arange(7, dtype="u1")})


def joblib_behind_arrays(marker: Path) -> bytes:
    fields = np.zeros(5, dtype=[("x", "f8"), ("y", "u1")])
    return _joblib(
        [np.arange(6.0).reshape(2, 3).T, fields, np.array(["ab", "c"]), np.float32(1), Bomb(marker)]
    )


def joblib_object_array(marker: Path) -> bytes:
    return _joblib(np.array([1, Bomb(marker)], dtype=object))


def joblib_compressed(marker: Path) -> bytes:
    return _joblib([np.arange(100.0), Bomb(marker)], compress=3)


PICKLES: dict[str, Callable[[Path], bytes]] = {
    **{
        f"protocol_{protocol}": lambda marker, protocol=protocol: pickle.dumps([1, Bomb(marker)], protocol)  # type: ignore[misc]
        for protocol in range(6)
    },
    **{
        function.__name__: function
        for function in (
            stack_global, from_memo, from_text_memo, behind_marks, inst, obj, python2_name, dotted, computed,
            nested, nested_in_protocol_2, without_end, before_nonsense, behind_a_list,
        )
    },
}  # fmt: skip
JOBLIB: dict[str, Callable[[Path], bytes]] = {
    function.__name__: function
    for function in (joblib_arrays, joblib_behind_arrays, joblib_object_array, joblib_compressed)
}
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "zlib": zlib.compress,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
}


def torch_archive(marker: Path) -> bytes:
    """As torch saves: a zip with a pickle and the tensors' bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/data.pkl", stack_global(marker))
        archive.writestr("model/data/0", b"\x00" * 64)
    return file.getvalue()


def numpy_file(marker: Path) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Bomb(marker)], dtype=object))
    return file.getvalue()
