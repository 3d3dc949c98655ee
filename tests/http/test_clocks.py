"""The clocks of a connection, with a time that stands still until it is told to move."""

from __future__ import annotations

import asyncio

import pytest

from oipserver.core.errors import RequestTimeout
from oipserver.http.flow import Flow
from oipserver.http.limits import HttpLimits
from oipserver.http.patience import Patience

LIMITS = HttpLimits(header_timeout=10, body_timeout=30, min_body_rate=100)


class Pausable(asyncio.Transport):
    """A transport that can be paused; nothing comes through it."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Clock:
    """Seconds, moved by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def flow(clock: Clock) -> Flow:
    return Flow(Pausable(), clock)


def test_time_in_which_nobody_reads_does_not_count(clock: Clock, flow: Flow) -> None:
    before = flow.listened()
    flow.pause_reading()
    clock.now += 50
    assert flow.listened() == before
    flow.resume_reading()
    clock.now += 3
    assert flow.listened() == before + 3


def test_a_hold_is_not_lifted_by_who_wants_to_read(flow: Flow) -> None:
    flow.hold()
    flow.resume_reading()
    assert flow.read_paused
    flow.release()
    assert not flow.read_paused


def test_a_head_has_its_time_and_no_more(clock: Clock, flow: Flow) -> None:
    patience = Patience(flow, LIMITS)
    assert patience.begin(head=True) == 10
    clock.now += 9
    patience.received += 60_000
    assert patience.check(head=True) == pytest.approx(1)
    clock.now += 1
    with pytest.raises(RequestTimeout, match="headers"):
        patience.check(head=True)


def test_each_window_of_a_body_must_bring_its_share(clock: Clock, flow: Flow) -> None:
    patience = Patience(flow, LIMITS)
    patience.begin(head=False)
    for _ in range(3):
        patience.received += 3000
        clock.now += 30
        assert patience.check(head=False) == 30
    patience.received += 2999
    clock.now += 30
    with pytest.raises(RequestTimeout, match="body"):
        patience.check(head=False)


def test_a_pause_within_a_window_is_given_back(clock: Clock, flow: Flow) -> None:
    patience = Patience(flow, LIMITS)
    patience.begin(head=False)
    flow.pause_reading()
    clock.now += 100
    flow.resume_reading()
    clock.now += 10
    assert patience.check(head=False) == pytest.approx(20)
