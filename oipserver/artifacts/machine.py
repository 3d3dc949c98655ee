"""What a pickle would do: its operations on a stack of stand-ins, so that no name can hide.

Names of modules and classes may come from the stack and the memo (STACK_GLOBAL), so these are kept as the
unpickler would keep them.  Whatever calls would return is unknown.
"""

from __future__ import annotations

import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np

from oipserver.artifacts.operations import MAX_BYTES, Reader, Unreadable

UNRESOLVED = "(computed while loading)"
_DTYPE = re.compile(r"[<>=|]?[?bBhHiIlLqQuefdgcFDGSUVmMO][0-9]{0,9}")
_VERSION_KEY = "_sklearn_version"


@dataclass(frozen=True, slots=True, order=True)
class Global:
    """A name that is imported while the pickle is loaded."""

    module: str
    name: str


@dataclass(slots=True)
class Built:
    """What a call of `callee` would return, and the state that it would be given."""

    callee: object
    arguments: object
    state: object = None


class Unknown:
    """Whatever is of no interest."""


_UNKNOWN = Unknown()
_MARK = Unknown()


@dataclass(slots=True)
class Findings:
    """What was seen of one pickle, or of several.

    Attributes:
        texts: constants that may be pickles themselves.
        joblib_arrays: some were passed over as joblib would read them.
    """

    globals: set[Global] = field(default_factory=set)
    sklearn_versions: set[str] = field(default_factory=set)
    texts: list[bytes] = field(default_factory=list)
    joblib_arrays: bool = False

    def add(self, other: Findings) -> None:
        """Take in what was found elsewhere."""
        self.globals |= other.globals
        self.sklearn_versions |= other.sklearn_versions


class Machine:
    """Goes through one pickle of a stream.

    Args:
        findings: to be filled; what stands in it is true also when the pickle cannot be read to its end.
        joblib: behind each array's description stand the array's bytes, which are no operations.
    """

    def __init__(self, reader: Reader, findings: Findings, joblib: bool) -> None:
        self._reader = reader
        self._findings = findings
        self._joblib = joblib
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}
        self._protocol = 0

    def run(self) -> None:
        """Go on to the STOP.

        Raises:
            Unreadable: there is none, or what stands before it makes no sense.
            ValueError: an argument is not well-formed.
        """
        for name, argument in self._reader.operations():
            handler = _HANDLERS.get(name)
            if handler is not None:
                handler(self, argument)
            elif name in _CONSTANTS:
                self._constant(argument)
            else:
                self._simple(name)

    # --- the stack -----------------------------------------------------------------------------------------

    def _pop(self) -> object:
        if not self._stack:
            raise Unreadable(f"an operation finds nothing on the stack at offset {self._reader.position}")
        return self._stack.pop()

    def _pop_to_mark(self) -> list[object]:
        for position in range(len(self._stack) - 1, -1, -1):
            if self._stack[position] is _MARK:
                items = self._stack[position + 1 :]
                del self._stack[position:]
                return items
        raise Unreadable(f"an operation finds no mark at offset {self._reader.position}")

    def _top(self) -> object:
        value = self._pop()
        self._stack.append(value)
        return value

    def _drop_to_mark(self) -> None:
        self._pop_to_mark()

    def _unknown_from_mark(self) -> None:
        self._pop_to_mark()
        self._stack.append(_UNKNOWN)

    def _constant(self, value: object) -> None:
        self._stack.append(value)
        if isinstance(value, str) and value.endswith("."):
            # Protocol 2 writes bytes as text of the same code points.
            self._findings.texts.append(value.encode("latin-1", "replace"))
        elif isinstance(value, bytes | bytearray) and value.endswith(b"."):
            self._findings.texts.append(bytes(value))

    def _simple(self, name: str) -> None:
        taken, pushed = _SIMPLE[name]
        for _ in range(taken):
            self._pop()
        if pushed:
            self._stack.append(_UNKNOWN)

    # --- containers ----------------------------------------------------------------------------------------

    def _tuple(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self._stack.append(tuple(reversed(items)))

    def _setitems(self, items: list[object]) -> None:
        target = self._top()
        for key, value in zip(items[::2], items[1::2], strict=False):
            if not isinstance(key, str):
                continue
            if isinstance(target, dict):
                target[key] = value
            if key == _VERSION_KEY and isinstance(value, str):
                self._findings.sklearn_versions.add(value)

    def _setitem(self) -> None:
        value, key = self._pop(), self._pop()
        self._setitems([key, value])

    def _dict(self) -> None:
        items = self._pop_to_mark()
        self._stack.append({})
        self._setitems(items)

    def _remember(self, key: object) -> None:
        if isinstance(key, int):
            self._memo[key] = self._top()

    def _recall(self, key: object) -> None:
        if not isinstance(key, int) or key not in self._memo:
            raise Unreadable(f"the memo has no entry {key} at offset {self._reader.position}")
        self._stack.append(self._memo[key])

    # --- names and calls -----------------------------------------------------------------------------------

    def _name(self, module: object, name: object) -> None:
        if isinstance(module, str) and isinstance(name, str):
            found = self._current(Global(module, name))
        else:
            found = Global(UNRESOLVED, name if isinstance(name, str) else UNRESOLVED)
        self._findings.globals.add(found)
        self._stack.append(found)

    def _current(self, named: Global) -> Global:
        """The name of today for one of Python 2, as the unpickler maps it."""
        if self._protocol >= 3:
            return named
        module, name = NAME_MAPPING.get((named.module, named.name), (named.module, named.name))
        return Global(IMPORT_MAPPING.get(module, module), name)

    def _written_name(self, argument: object) -> None:
        self._name(*str(argument).split(" ", 1))

    def _stack_name(self) -> None:
        name, module = self._pop(), self._pop()
        self._name(module, name)

    def _extension(self, code: object) -> None:
        self._name("copyreg", f"extension {code}")

    def _call(self) -> None:
        arguments, callee = self._pop(), self._pop()
        if callee == Global("copyreg", "_reconstructor") and isinstance(arguments, tuple) and arguments:
            callee, arguments = arguments[0], ()
        self._stack.append(Built(callee, arguments))

    def _call_with_keywords(self) -> None:
        self._pop()
        self._call()

    def _call_named(self, argument: object) -> None:
        items = self._pop_to_mark()
        self._written_name(argument)
        self._stack.append(Built(self._pop(), tuple(items)))

    def _call_marked(self) -> None:
        items = self._pop_to_mark()
        self._stack.append(Built(items[0] if items else _UNKNOWN, tuple(items[1:])))

    def _build(self) -> None:
        state, target = self._pop(), self._top()
        if not isinstance(target, Built):
            return
        target.state = state
        if self._joblib and target.callee == Global("joblib.numpy_pickle", "NumpyArrayWrapper"):
            self._pass_array(state)

    def _pass_array(self, described: object) -> None:
        """Pass over an array's bytes, which joblib writes behind the array's description."""
        self._findings.joblib_arrays = True
        description = described if isinstance(described, dict) else {}
        shape, dtype = description.get("shape"), description.get("dtype")
        itemsize = _itemsize(dtype)
        if not isinstance(shape, tuple) or itemsize is None:
            raise Unreadable(f"an array of unknown size at offset {self._reader.position}")
        if itemsize == _OBJECTS:
            Machine(self._reader, self._findings, joblib=False).run()
            return
        if description.get("numpy_array_alignment_bytes") is not None:
            self._reader.skip(int.from_bytes(self._reader.read(1), "little"))
        # Checked one by one: the product of long numbers would take forever.
        sizes = [size for size in shape if type(size) is int and 0 <= size <= MAX_BYTES]
        if len(sizes) != len(shape) or len(shape) > _MAX_RANK:
            raise Unreadable(f"an array of unknown size at offset {self._reader.position}")
        self._reader.skip(prod(sizes) * itemsize)


_OBJECTS = -1
_MAX_RANK = 64


def _itemsize(dtype: object) -> int | None:
    """Bytes per element; _OBJECTS for Python objects; None when it cannot be told."""
    if not isinstance(dtype, Built) or dtype.callee != Global("numpy", "dtype"):
        return None
    code = dtype.arguments[0] if isinstance(dtype.arguments, tuple) and dtype.arguments else None
    if not isinstance(code, str) or not _DTYPE.fullmatch(code):
        return None
    try:
        found = np.dtype(code)
    except TypeError:
        return None
    state = dtype.state
    flags = state[7] if isinstance(state, tuple) and len(state) > 7 else 0
    return _OBJECTS if found.hasobject or (isinstance(flags, int) and flags & 1) else found.itemsize


_CONSTANTS = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
    | {"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
)
# Values taken from the stack, and whether one of no interest is put on it.
_SIMPLE = {
    "NEWTRUE": (0, True),
    "NEWFALSE": (0, True),
    "EMPTY_LIST": (0, True),
    "EMPTY_SET": (0, True),
    "NEXT_BUFFER": (0, True),
    "READONLY_BUFFER": (0, False),
    "APPEND": (1, False),
    "PERSID": (0, True),
    "BINPERSID": (1, True),
    "FRAME": (0, False),
    "POP": (1, False),
    "STOP": (1, False),
}


def _set_protocol(machine: Machine, protocol: object) -> None:
    if isinstance(protocol, int):
        machine._protocol = protocol


_HANDLERS: Mapping[str, Callable[[Machine, object], None]] = {
    "PROTO": _set_protocol,
    "NONE": lambda machine, _: machine._stack.append(None),
    "MARK": lambda machine, _: machine._stack.append(_MARK),
    "POP_MARK": lambda machine, _: machine._drop_to_mark(),
    "DUP": lambda machine, _: machine._stack.append(machine._top()),
    "EMPTY_TUPLE": lambda machine, _: machine._tuple(0),
    "TUPLE1": lambda machine, _: machine._tuple(1),
    "TUPLE2": lambda machine, _: machine._tuple(2),
    "TUPLE3": lambda machine, _: machine._tuple(3),
    "TUPLE": lambda machine, _: machine._stack.append(tuple(machine._pop_to_mark())),
    "LIST": lambda machine, _: machine._unknown_from_mark(),
    "FROZENSET": lambda machine, _: machine._unknown_from_mark(),
    "APPENDS": lambda machine, _: machine._drop_to_mark(),
    "ADDITEMS": lambda machine, _: machine._drop_to_mark(),
    "EMPTY_DICT": lambda machine, _: machine._stack.append({}),
    "DICT": lambda machine, _: machine._dict(),
    "SETITEM": lambda machine, _: machine._setitem(),
    "SETITEMS": lambda machine, _: machine._setitems(machine._pop_to_mark()),
    "GET": Machine._recall,
    "BINGET": Machine._recall,
    "LONG_BINGET": Machine._recall,
    "PUT": Machine._remember,
    "BINPUT": Machine._remember,
    "LONG_BINPUT": Machine._remember,
    "MEMOIZE": lambda machine, _: machine._remember(len(machine._memo)),
    "GLOBAL": Machine._written_name,
    "STACK_GLOBAL": lambda machine, _: machine._stack_name(),
    "EXT1": Machine._extension,
    "EXT2": Machine._extension,
    "EXT4": Machine._extension,
    "INST": Machine._call_named,
    "OBJ": lambda machine, _: machine._call_marked(),
    "REDUCE": lambda machine, _: machine._call(),
    "NEWOBJ": lambda machine, _: machine._call(),
    "NEWOBJ_EX": lambda machine, _: machine._call_with_keywords(),
    "BUILD": lambda machine, _: machine._build(),
}
