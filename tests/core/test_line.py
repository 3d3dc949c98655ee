"""The waiting line: order of arrival, turns, and who leaves when it is full."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oipserver.core.contract import Work
from oipserver.core.line import Lane, Line
from oipserver.core.messages import NO_PARAMETERS


@dataclass(eq=False)
class Person:
    """Somebody in the line."""

    name: str
    lane: Lane
    work: Work
    callers: int = 1
    turn: int = 0


def person(caller: str = "", rows: int = 1, priority: int = 0, callers: int = 1, name: str = "") -> Person:
    work = Work({}, (), NO_PARAMETERS, rows, 8 * rows, None)
    return Person(name or caller, Lane(priority, caller), work, callers)


def line_of(*people: Person) -> Line[Person]:
    line: Line[Person] = Line()
    for one in people:
        line.add(one)
    return line


def served(line: Line[Person], rows: int = 1) -> list[str]:
    """Everybody's name, as a model serves them that takes so many rows at a time."""
    names = []
    while line.everyone:
        taken: list[Person] = []
        for one in line.in_turn():
            if taken and sum(each.work.rows for each in (*taken, one)) > rows:
                break
            taken.append(one)
        for one in taken:
            line.remove(one)
        names += [one.name for one in taken]
    return names


def test_one_caller_is_served_in_the_order_of_arrival() -> None:
    assert served(line_of(*(person("a", rows=3 - n, name=str(n)) for n in range(3)))) == ["0", "1", "2"]


def test_callers_take_turns() -> None:
    crowd = [person("a") for _ in range(5)]
    assert "".join(served(line_of(*crowd, person("b"), person("b"), person("c")))) == "abcabaaa"


def test_turns_go_by_rows() -> None:
    large = [person("a", rows=4) for _ in range(3)]
    assert "".join(served(line_of(*large, *(person("b") for _ in range(9))))) == "abbbbabbbbab"


@pytest.mark.parametrize("rows", [1, 8])
def test_a_crowd_does_not_keep_a_newcomer_waiting(rows: int) -> None:
    """Also when it has been served for long, and while it goes on coming."""
    line = line_of(*(person("crowd") for _ in range(200)), person("other"))
    taken = 0
    while taken < 100:
        for one in list(line.in_turn())[:rows]:
            line.remove(one)
            line.add(person("crowd"))
            taken += 1
    line.add(person("late"))
    assert "late" in [one.name for one in line.in_turn()][:2]


def test_a_caller_who_comes_back_has_gained_nothing_by_it() -> None:
    """One asks again when it is answered, the other has many waiting: both get the same."""
    line = line_of(*(person("crowd") for _ in range(100)), person("one"))
    counts: Counter[str] = Counter()
    for _ in range(60):
        first = next(iter(line.in_turn()))
        line.remove(first)
        counts[first.name] += 1
        if first.name == "one":
            line.add(person("one"))
    assert abs(counts["one"] - counts["crowd"]) <= 1


def test_a_higher_priority_goes_first_whoever_asks() -> None:
    line = line_of(
        person("a", priority=2, name="a2"),
        person("b", priority=2, name="b2"),
        person("a", priority=1, name="a1"),
    )
    assert served(line) == ["a1", "a2", "b2"]


people = st.lists(
    st.tuples(
        st.sampled_from(["", "a", "b", "c"]),
        st.integers(1, 5),
        st.integers(0, 2),
        st.integers(1, 3),
        st.booleans(),
    )
)


@given(people)
def test_the_books_are_right_whatever_comes_and_goes(moves: list[tuple[str, int, int, int, bool]]) -> None:
    line: Line[Person] = Line()
    inside: list[Person] = []
    for caller, rows, priority, callers, leaves in moves:
        one = person(caller, rows, priority, callers)
        inside.append(one)
        line.add(one)
        if leaves:
            line.remove(inside.pop(len(inside) // 2))
        assert list(line.everyone) == inside
        assert (line.callers, line.rows, line.nbytes) == totals(inside)
        in_turn = list(line.in_turn())
        assert sorted(map(id, in_turn)) == sorted(map(id, inside))
        assert [each.lane.priority for each in in_turn] == sorted(each.lane.priority for each in inside)
        for lane in {each.lane for each in inside}:
            mine = [each for each in inside if each.lane == lane]
            assert [each for each in in_turn if each.lane == lane] == mine


def totals(inside: list[Person]) -> tuple[int, int, int]:
    return (
        sum(one.callers for one in inside),
        sum(one.work.rows for one in inside),
        sum(one.work.nbytes for one in inside),
    )


@given(people)
def test_nobody_counts_when_all_have_left(moves: list[Any]) -> None:
    line = line_of(*(person(*move[:4]) for move in moves))
    for one in [*line.everyone]:
        line.remove(one)
    assert (len(line.everyone), line.callers, line.rows, line.nbytes) == (0, 0, 0, 0)


# --- when it is full (Rule 3) ---


def test_among_themselves_nobody_makes_room() -> None:
    assert line_of(person("a"), person("a")).displaced_by(person("a")) is None
    assert line_of().displaced_by(person("a")) is None


def test_the_last_of_the_greediest_makes_room() -> None:
    crowd = [person("a") for _ in range(3)]
    assert line_of(*crowd).displaced_by(person("b")) is crowd[-1]
    assert line_of(*crowd, person("c")).displaced_by(person("b")) is crowd[-1]


def test_nobody_is_pushed_out_by_whom_has_as_much() -> None:
    people = [person("a"), person("b"), person("a"), person("b")]
    assert line_of(*people).displaced_by(person("a")) is None
    assert line_of(*people[:3]).displaced_by(person("b")) is None
    assert line_of(person("a", callers=64)).displaced_by(person("b", callers=64)) is None


def test_shares_are_counted_in_requests() -> None:
    convoy = person("a", callers=10)
    assert line_of(*(person("b") for _ in range(5)), convoy).displaced_by(person("c")) is convoy


def test_a_lower_priority_makes_room_first() -> None:
    low = [person("a", priority=2), person("a", priority=2)]
    line = line_of(person("b", priority=1), *low, person("b", priority=1), person("b", priority=1))
    assert line.displaced_by(person("b", priority=1)) is low[-1]
    assert line.displaced_by(person("b", priority=2)) is None
    assert line.displaced_by(person("c", priority=3)) is not None  # b has most, whatever its priority
