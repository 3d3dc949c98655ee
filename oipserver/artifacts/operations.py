"""A pickle as the operations that it consists of.  Nothing is executed and nothing is imported."""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedIOBase, BytesIO

MAX_OPERATIONS = 10_000_000
MAX_BYTES = 4 * 2**30
# Larger arguments are the data of arrays: they are passed over.
MAX_ARGUMENT = 16 * 2**20
# Arguments are kept while a pickle is read, and a compressed one may hold any number of them: so much of
# the long ones, the rest is passed over, and so much of the others.
LONG = 2**16
MAX_LONG = 256 * 2**20
MAX_SHORT = 512 * 2**20
_CHUNK = 2**20

_CODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
# Bytes of the length in front of an argument.
_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}


class Unreadable(ValueError):
    """The bytes are no pickle, or not one to its end; the text says why."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """An argument too large to be looked at, of `size` bytes."""

    size: int


@dataclass(slots=True)
class Budget:
    """Operations that may still be read: of one file, with all that is within it."""

    operations: int = field(default_factory=lambda: MAX_OPERATIONS)

    def take(self) -> None:
        """One operation.

        Raises:
            Unreadable: there were too many.
        """
        self.operations -= 1
        if self.operations < 0:
            raise Unreadable(f"it has more than {MAX_OPERATIONS} operations")


class Reader:
    """A stream of bytes that ends: no more than MAX_BYTES are taken from it."""

    def __init__(self, stream: BufferedIOBase, budget: Budget) -> None:
        self._stream = stream
        self._budget = budget
        self._long = self._short = 0
        self.position = 0

    def read(self, size: int) -> bytes:
        """As a file's `read`: fewer bytes at the end."""
        self._advance(size)
        return self._stream.read(size)

    def readline(self) -> bytes:
        """As a file's `readline`, for lines of a bounded length."""
        line = self._stream.readline(MAX_ARGUMENT)
        self._advance(len(line))
        return line

    def skip(self, size: int) -> None:
        """Pass over bytes."""
        self._advance(size)
        if self._stream.seekable():
            self._stream.seek(size, 1)
            return
        while size > 0 and (chunk := self._stream.read(min(size, _CHUNK))):
            size -= len(chunk)

    def operations(self) -> Iterator[tuple[str, object]]:
        """Names (as in `pickletools`) and arguments of one pickle's operations, up to its STOP.

        The stream may be read between two of them.

        Raises:
            Unreadable: no pickle, or one that ends early or is longer than the bounds.
        """
        name = ""
        while name != "STOP":
            self._budget.take()
            code = self.read(1)
            opcode = _CODES.get(code)
            if opcode is None:
                what = f"byte {code.hex()} is no operation" if code else "it ends early"
                raise Unreadable(f"{what} at offset {self.position - 1}")
            name = opcode.name
            began = self.position
            argument = None if opcode.arg is None else self._argument(opcode.arg)
            self._weigh(self.position - began, argument)
            yield name, argument

    def _argument(self, kind: pickletools.ArgumentDescriptor) -> object:
        length = _LENGTHS.get(kind.n or 0)
        if length is None:
            return kind.reader(self)  # type: ignore[arg-type]  # it reads and reads lines, no more
        head = self.read(length)
        size = int.from_bytes(head, "little")
        if size > MAX_ARGUMENT or (size > LONG and self._long + size > MAX_LONG):
            self.skip(size)
            return Skipped(size)
        return kind.reader(BytesIO(head + self.read(size)))

    def _weigh(self, size: int, argument: object) -> None:
        if isinstance(argument, Skipped):
            return
        if size > LONG:
            self._long += size
            return
        self._short += size
        if self._short > MAX_SHORT:
            raise Unreadable(f"its texts and numbers are longer than {MAX_SHORT} bytes")

    def _advance(self, size: int) -> None:
        self.position += size
        if self.position > MAX_BYTES:
            raise Unreadable(f"it is longer than {MAX_BYTES} bytes")
