"""A bounded memory: the oldest leaves, and what never comes twice pushes out little."""

from __future__ import annotations

from oipserver.core.memory import Memory


def test_it_finds_what_was_added_and_nothing_else() -> None:
    memory: Memory[int] = Memory(2)
    memory.add(b"a", 1)
    assert (memory.get(b"a"), memory.get(b"b"), len(memory)) == (1, None, 1)


def test_the_oldest_leaves_when_it_is_full() -> None:
    memory: Memory[int] = Memory(2)
    for number, key in enumerate((b"a", b"b", b"c")):
        memory.add(key, number)
    assert [memory.get(key) for key in (b"a", b"b", b"c")] == [None, 1, 2]


def test_it_wants_everything_until_it_is_full_and_one_in_sixteen_then() -> None:
    memory: Memory[int] = Memory(3)
    for number in range(3):
        assert memory.wants_more()
        memory.add(b"%d" % number, number)
    assert [memory.wants_more() for _ in range(64)].count(True) == 4


def test_what_is_known_and_changes_pushes_nobody_out() -> None:
    memory: Memory[int] = Memory(2)
    for number, key in enumerate((b"a", b"b", b"a")):
        memory.add(key, number)
    assert [memory.get(key) for key in (b"a", b"b")] == [2, 1]
