"""One sample of one case."""

from __future__ import annotations

import asyncio
import math
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from benchmarks.cases import GRPC_AIO_CLIENT, IN_PROCESS, WRK, Case, Sample
from benchmarks.load import Span, Tally
from benchmarks.load_grpc import load_grpc, load_grpc_aio
from benchmarks.load_http import load_http
from benchmarks.load_wrk import load_wrk
from benchmarks.questions import GRPC_PATH, Question
from benchmarks.servers import Cores, Server, pin


@dataclass(frozen=True, slots=True)
class Answers:
    """The right answers to one question, byte by byte."""

    http_headers: Sequence[tuple[str, str]]
    http_body: bytes
    grpc_message: bytes


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything that runs.

    Attributes:
        servers: by the name that cases give them.
    """

    questions: Mapping[str, Question]
    answers: Mapping[str, Answers]
    servers: Mapping[str, Server]
    cores: Cores
    span: Span
    runner: asyncio.Runner

    def measure(self, case: Case) -> Sample:
        """Load the server of a case for the span."""
        if case.server == IN_PROCESS:
            return self._predict(self.questions[case.model])
        server = self.servers[case.server]
        if case.client == WRK:
            return self._wrk(case, server)
        clock = _Clock(server, resource.RUSAGE_SELF)
        tally = self.runner.run(self._load(case, server))
        return _sample(tally.latencies, self.span.measured, tally.errors, *clock.read(tally.answers))

    async def _load(self, case: Case, server: Server) -> Tally:
        question, answers = self.questions[case.model], self.answers[case.model]
        if case.front == "HTTP":
            return await load_http(
                server.http_port, question.http_request, answers.http_body, case.callers, self.span
            )
        load = load_grpc_aio if case.client == GRPC_AIO_CLIENT else load_grpc
        message, answer = question.grpc_message, answers.grpc_message
        return await load(server.grpc_port, GRPC_PATH, message, answer, case.callers, self.span)

    def _wrk(self, case: Case, server: Server) -> Sample:
        question = self.questions[case.model]
        clock = _Clock(server, resource.RUSAGE_CHILDREN)
        found = load_wrk(
            server.http_port, question.http_path, question.http_body, case.callers, self.span.measured
        )
        busy, server_us = clock.read(found.answers)
        rate = (found.answers - found.errors) / found.seconds
        return Sample(rate, found.p50 * 1e3, found.p99 * 1e3, found.errors, busy, server_us)

    def _predict(self, question: Question) -> Sample:
        """The model alone, on the servers' core."""
        tally = Tally(self.span)
        pin(0, self.cores.server)
        try:
            again = True
            while again:
                asked = perf_counter()
                again = tally.count(asked, int(question.model.predict(question.row)[0]) == question.label)
        finally:
            pin(0, self.cores.client)
        return _sample(tally.latencies, self.span.measured, tally.errors, 1.0, None)


class _Clock:
    """CPU time from now on: of the load client and of a server."""

    def __init__(self, server: Server, client: int) -> None:
        self._client = client
        self._server = server
        self._before = self._times()

    def read(self, answers: int) -> tuple[float, float | None]:
        """The client's share of the time, and the server's µs per answer."""
        (wall, client, server), (wall_now, client_now, server_now) = self._before, self._times()
        busy = (client_now - client) / (wall_now - wall)
        if server is None or server_now is None or not answers:
            return busy, None
        return busy, (server_now - server) / answers * 1e6

    def _times(self) -> tuple[float, float, float | None]:
        used = resource.getrusage(self._client)
        return perf_counter(), used.ru_utime + used.ru_stime, self._server.cpu_seconds()


def _sample(
    latencies: Sequence[float], seconds: float, errors: int, busy: float, server_us: float | None
) -> Sample:
    p50, p99 = np.percentile(latencies, (50, 99)) * 1e3 if latencies else (math.nan, math.nan)
    return Sample(len(latencies) / seconds, float(p50), float(p99), errors, busy, server_us)
