"""A little of what came before, so that what comes again need not be read again."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

V = TypeVar("V")

# When full, one newcomer in so many is taken: what never comes twice costs little, and pushes out little.
_TAKE_ONE_IN = 16


class Memory(Generic[V]):
    """Up to `size` values by the bytes that they were read from; the oldest leaves first.

    Attributes:
        get: the value for some bytes, or None.
        recent: for who uses it, to keep what the last ones had in common.
    """

    __slots__ = ("_known", "_newcomers", "_size", "get", "recent")

    def __init__(self, size: int) -> None:
        self._size = size
        self._newcomers = 0
        self._known: dict[bytes, V] = {}
        self.get = self._known.get
        self.recent: tuple[Any, ...] = ()

    def __len__(self) -> int:
        return len(self._known)

    def wants_more(self) -> bool:
        """Whether a value that is not known should be added; asked once for each."""
        self._newcomers += 1
        return len(self._known) < self._size or self._newcomers % _TAKE_ONE_IN == 0

    def add(self, key: bytes, value: V) -> None:
        """Remember a value."""
        if len(self._known) >= self._size and key not in self._known:
            del self._known[next(iter(self._known))]
        self._known[key] = value
