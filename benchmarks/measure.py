"""One turn: the load on its cases, and what it took."""

from __future__ import annotations

import asyncio
import math
import resource
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from benchmarks.cases import COPY, GRPC_AIO_CLIENT, OWN_CLIENT, WRK, Case, Sample, Turn
from benchmarks.load import Caller, Span, Tally, run
from benchmarks.load_grpc import GrpcCaller
from benchmarks.load_grpc_aio import load_grpc_aio
from benchmarks.load_http import http_callers
from benchmarks.load_wrk import load_wrk
from benchmarks.processes import awake
from benchmarks.questions import GRPC_PATH, GrpcQuestion, HttpQuestion
from benchmarks.servers import Server, Worker


@dataclass(frozen=True, slots=True)
class Door:
    """Where a case is asked, and what.

    Attributes:
        sleeps: the server stands still outside its turns, because it computes while nobody asks.
    """

    server: Server
    question: HttpQuestion | GrpcQuestion
    sleeps: bool = False

    def callers(self, count: int, tally: Tally) -> list[tuple[int, Caller]]:
        """So many askers, each with its port."""
        if isinstance(self.question, HttpQuestion):
            return [(self.server.http_port, each) for each in http_callers(self.question, count, tally)]
        return [(self.server.grpc_port, GrpcCaller(GRPC_PATH, self.question, count, tally))]


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything that runs.

    Attributes:
        doors: by `door_of` a case.
        worker: None when no case needs it.
    """

    doors: Mapping[Case, Door]
    worker: Worker | None
    span: Span

    def measure(self, turn: Turn) -> Sequence[Sample]:
        """Load the servers of all cases of a turn at once; a sample for each case."""
        if turn[0].front == "-":
            return [self._in_process(turn[0])]
        doors = [self.doors[door_of(case)] for case in turn]
        with ExitStack() as stack:
            for pid in {door.server.pid for door in doors if door.sleeps}:
                stack.enter_context(awake(pid))
            return _CLIENTS[turn[0].client](turn, doors, self.span)

    def _in_process(self, case: Case) -> Sample:
        assert self.worker is not None
        answer = self.worker.ask(
            what="copy" if case.server == COPY else "predict",
            model=case.model,
            rows=case.rows,
            warm_up=self.span.warm_up,
            seconds=self.span.measured,
        )
        latencies = answer["latencies"]
        return _sample(latencies, len(latencies) / sum(latencies), 0, 0.0, None)


def door_of(case: Case) -> Case:
    """The case that stands for all with the same question to the same server."""
    return Case(case.model, case.front, case.server, 1, case.rows, case.form)


def _own(turn: Turn, doors: Sequence[Door], span: Span) -> list[Sample]:
    tallies = [Tally(span) for _ in turn]
    clock = _Clock(doors[0].server, resource.RUSAGE_SELF)
    callers: list[tuple[int, Caller]] = []
    for case, door, tally in zip(turn, doors, tallies, strict=True):
        callers += door.callers(case.callers, tally)
    run(callers, span)
    busy, server_us = clock.read(sum(tally.answers for tally in tallies))
    return [_tallied(tally, busy, server_us if len(turn) == 1 else None) for tally in tallies]


def _grpc_aio(turn: Turn, doors: Sequence[Door], span: Span) -> list[Sample]:
    (case,), (door,) = turn, doors
    assert isinstance(door.question, GrpcQuestion)
    clock = _Clock(door.server, resource.RUSAGE_SELF)
    tally = asyncio.run(load_grpc_aio(door.server.grpc_port, door.question, case.callers, span))
    return [_tallied(tally, *clock.read(tally.answers))]


def _wrk(turn: Turn, doors: Sequence[Door], span: Span) -> list[Sample]:
    (case,), (door,) = turn, doors
    assert isinstance(door.question, HttpQuestion)
    clock = _Clock(door.server, resource.RUSAGE_CHILDREN)
    found = load_wrk(door.server.http_port, door.question, case.callers, span.measured)
    rate = (found.answers - found.errors) / found.seconds
    busy, server_us = clock.read(found.answers)
    return [Sample(rate, found.p50 * 1e3, found.p99 * 1e3, found.errors, busy, server_us)]


_CLIENTS: Mapping[str, Callable[[Turn, Sequence[Door], Span], list[Sample]]] = {
    OWN_CLIENT: _own,
    GRPC_AIO_CLIENT: _grpc_aio,
    WRK: _wrk,
}


class _Clock:
    """CPU time from now on: of the load client and of a server."""

    def __init__(self, server: Server, client: int) -> None:
        self._client = client
        self._server = server
        cpu = server.cpu_seconds()
        self._before = (*self._own_times(), cpu)

    def read(self, answers: int) -> tuple[float, float | None]:
        """The client's share of the time, and the server's µs per answer."""
        (wall, client, server), (wall_now, client_now) = self._before, self._own_times()
        server_now = self._server.cpu_seconds()
        busy = (client_now - client) / (wall_now - wall)
        if server is None or server_now is None or not answers:
            return busy, None
        return busy, (server_now - server) / answers * 1e6

    def _own_times(self) -> tuple[float, float]:
        used = resource.getrusage(self._client)
        return perf_counter(), used.ru_utime + used.ru_stime


def _tallied(tally: Tally, busy: float, server_us: float | None) -> Sample:
    return _sample(tally.latencies, tally.rate, tally.errors, busy, server_us)


def _sample(
    latencies: Sequence[float], rate: float, errors: int, busy: float, server_us: float | None
) -> Sample:
    p50, p99 = np.percentile(latencies, (50, 99)) * 1e3 if latencies else (math.nan, math.nan)
    return Sample(rate, float(p50), float(p99), errors, busy, server_us)
