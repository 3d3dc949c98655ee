"""What is measured: which model, over which front, served by whom, asked by whom, by how many at a time."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from benchmarks.models import CANCER, IRIS, MLP

OURS = "oipserver"
UVICORN = "uvicorn echo"
GRPC_AIO = "grpc.aio echo"
GRPC_THREADS = "grpcio threads echo"
PREDICT = "predict in process"
COPY = "copy in memory"
LIMITS = (UVICORN, GRPC_AIO, GRPC_THREADS, PREDICT, COPY)

# The same forest, by our server's compiled execution.
COMPILED = "cancer-compiled"

OWN_CLIENT = "own"
WRK = "wrk"
GRPC_AIO_CLIENT = "grpc.aio"

CALLERS = (1, 8, 64)
# Besides those, for the curves of latency against load; with these peers.
CURVE = (2, 4, 16, 32, 128)
SHORT_CURVE = (32,)  # what both fronts at once are compared with
CURVED_PEERS = ("Triton", "MLServer", "FastAPI")
ECHOES = {"HTTP": (UVICORN,), "gRPC": (GRPC_AIO, GRPC_THREADS)}
LARGE = 1000


@dataclass(frozen=True, slots=True)
class Case:
    """One cell of the tables.

    Attributes:
        rows: in each request.
        form: of the tensors: "JSON", "binary" (the HTTP extension), "raw" (gRPC); "-" without a server.
        client: which load client asks.
        beside: what else the server has to do meanwhile: the front or the model of the case beside it.
    """

    model: str
    front: str
    server: str
    callers: int
    rows: int = 1
    form: str = "JSON"
    client: str = OWN_CLIENT
    beside: str = ""

    def by(self, server: str) -> Case:
        """The same, asked of another server."""
        return replace(self, server=server)

    def next_to(self, beside: str) -> Case:
        """The same, while the server does something else as well."""
        return replace(self, beside=beside)


# Cases that are loaded at the same time; nearly always a single one.
Turn = tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """One case in one round.

    Attributes:
        rate: right answers per second.
        p50_ms, p99_ms: latency.
        client_busy: the share of the time in which the load client computed; near 1 it was the limit.
        server_us: CPU time of the server's processes per answer; None where it is not known.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    errors: int
    client_busy: float
    server_us: float | None


@dataclass(frozen=True, slots=True)
class Scope:
    """Which part of everything is measured."""

    fronts: Collection[str]
    models: Collection[str]
    servers: Collection[str]

    def holds(self, turn: Turn) -> bool:
        """Whether all of a turn is to be measured."""
        return all(
            case.front in self.fronts
            and case.model.removesuffix("-compiled") in self.models
            and case.server in self.servers
            for case in turn
        )


def http(model: str, callers: int, rows: int = 1, form: str = "JSON") -> Case:
    """Our server, asked over HTTP."""
    return Case(model, "HTTP", OURS, callers, rows, form)


def grpc(model: str, callers: int, rows: int = 1) -> Case:
    """Our server, asked over gRPC."""
    return Case(model, "gRPC", OURS, callers, rows, "raw")


def in_process(model: str, rows: int, server: str = PREDICT) -> Case:
    """Without any server."""
    return Case(model, "-", server, 1, rows, "-", "-")


LARGE_HTTP_JSON = http(MLP, 1, LARGE)
LARGE_HTTP_BINARY = http(MLP, 1, LARGE, "binary")
LARGE_GRPC = grpc(MLP, 1, LARGE)
HUNDRED_ROWS = http(CANCER, 8, 100)
BOTH_FRONTS = (http(IRIS, 32).next_to("gRPC"), grpc(IRIS, 32).next_to("HTTP"))
BOTH_MODELS = (http(IRIS, 8).next_to(CANCER), http(CANCER, 8).next_to(IRIS))


def all_turns(
    http_peers: Sequence[str] = (), grpc_peers: Sequence[str] = (), curve: Sequence[int] = CURVE
) -> list[Turn]:
    """Every turn; cases that are compared stand side by side."""
    turns: list[Turn] = []

    def add(case: Case, *others: str) -> None:
        turns.extend((case.by(server),) for server in (OURS, *others))

    for callers in CALLERS:
        add(http(IRIS, callers), UVICORN, *http_peers)
    for callers in curve:
        add(http(IRIS, callers), UVICORN, *(peer for peer in CURVED_PEERS if peer in http_peers))
    for callers in CALLERS:
        # The echo sends the same few bytes for a row of the forest.
        add(http(CANCER, callers), UVICORN, *http_peers)
        add(http(COMPILED, callers))
    add(HUNDRED_ROWS, *http_peers)
    for callers in CALLERS:
        add(grpc(IRIS, callers), GRPC_AIO, GRPC_THREADS, *grpc_peers)
        add(grpc(CANCER, callers), *grpc_peers)
    add(BOTH_FRONTS[1].next_to(""))
    turns += [BOTH_FRONTS, BOTH_MODELS]
    add(LARGE_HTTP_JSON, UVICORN, *http_peers)
    add(LARGE_HTTP_BINARY)
    turns += [(in_process(MLP, LARGE),), (in_process(MLP, LARGE, COPY),)]
    add(LARGE_GRPC, GRPC_AIO, GRPC_THREADS, *grpc_peers)
    turns += [(LARGE_HTTP_BINARY.by(server),) for server in (UVICORN, *grpc_peers)]
    turns += [(in_process(IRIS, 1),), (in_process(CANCER, 1),), (in_process(CANCER, 100),)]
    return turns + [(replace(case, client=client),) for case, client in _cross_checks()]


def _cross_checks() -> Iterable[tuple[Case, str]]:
    """A few cases asked by clients that are not ours."""
    if shutil.which("wrk"):
        yield http(IRIS, 64), WRK
        yield http(IRIS, 64).by(UVICORN), WRK
    for server in (OURS, GRPC_AIO, GRPC_THREADS):
        yield grpc(IRIS, 64).by(server), GRPC_AIO_CLIENT


def in_round(turns: Sequence[Turn], number: int) -> list[Turn]:
    """The order of a round: another start each time, every other round backwards."""
    start = number * 5 % max(1, len(turns))
    order = [*turns[start:], *turns[:start]]
    return order[::-1] if number % 2 else order
