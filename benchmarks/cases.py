"""What is measured: which model, over which front, served by whom, asked by whom, by how many at a time."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace

OURS = "oipserver"
UVICORN = "uvicorn echo"
GRPC_AIO = "grpc.aio echo"
GRPC_THREADS = "grpcio threads echo"
IN_PROCESS = "predict in process"

OWN_CLIENT = "own"
WRK = "wrk"
GRPC_AIO_CLIENT = "grpc.aio"

CALLERS = (1, 8, 64)
ECHOES = {"HTTP": (UVICORN,), "gRPC": (GRPC_AIO, GRPC_THREADS)}


@dataclass(frozen=True, slots=True)
class Case:
    """One cell of the table."""

    model: str
    front: str
    server: str
    client: str
    callers: int

    @property
    def baselines(self) -> tuple[Case, ...]:
        """What our server is compared with: bare echoes of the same bytes, or the model alone."""
        if self.server != OURS:
            return ()
        if self.model == "iris":
            return tuple(replace(self, server=echo) for echo in ECHOES[self.front])
        return (in_process(self.model),)


@dataclass(frozen=True, slots=True)
class Sample:
    """One case in one round.

    Attributes:
        rate: right answers per second.
        p50_ms, p99_ms: latency.
        client_busy: the share of the time in which the load client computed; near 1 it was the limit.
        server_us: CPU time of the server per answer; None where it is not known.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    errors: int
    client_busy: float
    server_us: float | None


def in_process(model: str) -> Case:
    """The model called without any server, row by row."""
    return Case(model, "-", IN_PROCESS, "-", 1)


def all_cases(fronts: tuple[str, ...]) -> list[Case]:
    """Every case; those that are compared stand side by side."""
    cases: list[Case] = []
    for front in fronts:
        clients = [(OWN_CLIENT, callers) for callers in CALLERS]
        if front == "gRPC":
            clients.append((GRPC_AIO_CLIENT, CALLERS[-1]))
        elif shutil.which("wrk"):
            clients.append((WRK, CALLERS[-1]))
        for client, callers in clients:
            ours = Case("iris", front, OURS, client, callers)
            cases += (ours, *ours.baselines)
        cases += (Case("cancer", front, OURS, OWN_CLIENT, callers) for callers in CALLERS)
    return [*cases, in_process("cancer")]


def in_round(cases: list[Case], number: int) -> list[Case]:
    """The order of a round: another start each time, every other round backwards."""
    start = number * 5 % len(cases)
    order = cases[start:] + cases[:start]
    return order[::-1] if number % 2 else order
