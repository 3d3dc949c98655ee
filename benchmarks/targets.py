"""What our server is to reach: each target as data, and whether a run reached it."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from benchmarks.cases import (
    BOTH_FRONTS,
    BOTH_MODELS,
    COMPILED,
    GRPC_AIO,
    HUNDRED_ROWS,
    LARGE_GRPC,
    LARGE_HTTP_BINARY,
    LARGE_HTTP_JSON,
    OURS,
    PREDICT,
    UVICORN,
    Case,
    grpc,
    http,
    in_process,
)
from benchmarks.models import CANCER, IRIS, MLP
from benchmarks.starts import IMPORT

TRITON, MLSERVER, MLSERVER_BATCHING = "Triton", "MLServer", "MLServer batching"
PYTHON_PEERS = (
    *(MLSERVER, MLSERVER_BATCHING, "KServe", "MLflow", "LitServe", "LitServe batching"),
    *("BentoML", "FastAPI"),
)
PEERS = (TRITON, *PYTHON_PEERS)

# What a figure is of: a case, or the start of what has this name.
Of = Case | str
Samples = Mapping[Of, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Figure:
    """One field of the samples of a case or a start."""

    of: Of
    field: str

    def rounds(self, samples: Samples) -> list[float]:
        """Its value in each round; empty where it was not measured."""
        values = [getattr(sample, self.field) for sample in samples.get(self.of, ())]
        return [math.nan if value is None else value for value in values]


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on one of our figures, alone or against others; of several others the best one counts.

    Attributes:
        text: the workload.
        against: what it is compared with, in words.
        bound: what the quotient, or the difference, has to reach (">=") or to keep (">=" or "<=").
    """

    text: str
    against: str
    ours: Figure
    others: tuple[Figure, ...]
    sign: Literal[">=", "<="]
    bound: float
    compare: Callable[[float, float], float] = operator.truediv
    unit: str = ""

    def measured(self, samples: Samples) -> float | None:
        """The median over the rounds; None where a side of it was not measured."""
        mine = self.ours.rounds(samples)
        if not self.others:
            return _middle(mine)
        worst = min if self.sign == ">=" else max
        pairs = [zip(mine, other.rounds(samples), strict=False) for other in self.others]
        found = [_middle([self.compare(one, two) for one, two in each if two]) for each in pairs]
        known = [value for value in found if value is not None]
        return worst(known) if known else None

    def reached(self, value: float) -> bool:
        """Whether a measured value is within the bound."""
        return value >= self.bound if self.sign == ">=" else value <= self.bound


def _middle(values: Sequence[float]) -> float | None:
    """The median of what is known.  A peer that failed has no value, or fewer."""
    known = [value for value in values if not math.isnan(value)]
    return median(known) if known else None


def rate(text: str, ours: Case, against: str, servers: Sequence[str], bound: float) -> Target:
    """Our throughput as a multiple of that of others with the same question."""
    others = tuple(Figure(ours.by(server), "rate") for server in servers)
    return Target(text, against, Figure(ours, "rate"), others, ">=", bound)


def _time(text: str, ours: Case, against: str, other: Case, bound: float) -> Target:
    return Target(text, against, Figure(ours, "p50_ms"), (Figure(other, "p50_ms"),), "<=", bound)


def _kept(text: str, ours: Case) -> Target:
    solo = Figure(ours.next_to(""), "rate")
    return Target(text, "itself alone", Figure(ours, "rate"), (solo,), ">=", 0.35)


def _tail(text: str, ours: Case) -> Target:
    return Target(text, "its own p50", Figure(ours, "p99_ms"), (Figure(ours, "p50_ms"),), "<=", 2.5)


def _start(
    text: str, field: str, compare: Callable[[float, float], float], bound: float, unit: str
) -> Target:
    return Target(text, IMPORT, Figure(OURS, field), (Figure(IMPORT, field),), "<=", bound, compare, unit)


def _one_row(model: str, front: str, callers: int) -> str:
    letter = {IRIS: "(a)", CANCER: "(b)", COMPILED: "(b) compiled"}[model]
    return f"{letter} 1 row {front}, {callers} caller{'s' if callers > 1 else ''}"


def _rates(model: str, against: str, servers: Sequence[str], bounds: Mapping[int, float]) -> list[Target]:
    return [
        rate(_one_row(model, "HTTP", callers), http(model, callers), against, servers, bound)
        for callers, bound in bounds.items()
    ]


TARGETS = (
    *_rates(IRIS, UVICORN, (UVICORN,), {64: 2.0, 8: 1.1, 1: 0.75}),
    *_rates(IRIS, TRITON, (TRITON,), {64: 4, 8: 3, 1: 2}),
    *_rates(IRIS, "best Python server", PYTHON_PEERS, {64: 15, 8: 7, 1: 3.5}),
    *_rates(CANCER, TRITON, (TRITON,), {64: 2, 8: 2}),
    *_rates(CANCER, MLSERVER_BATCHING, (MLSERVER_BATCHING,), {64: 5, 8: 2}),
    *(
        rate("(b) 100 rows HTTP, 8 callers", HUNDRED_ROWS, peer, (peer,), 1.8)
        for peer in (TRITON, MLSERVER_BATCHING)
    ),
    Target(
        _one_row(COMPILED, "HTTP", 1),
        "best peer",
        Figure(http(COMPILED, 1), "rate"),
        tuple(Figure(http(CANCER, 1).by(peer), "rate") for peer in PEERS),
        ">=",
        15,
    ),
    Target(
        _one_row(COMPILED, "HTTP", 64),
        UVICORN,
        Figure(http(COMPILED, 64), "rate"),
        (Figure(http(CANCER, 64).by(UVICORN), "rate"),),
        ">=",
        1.0,
    ),
    rate(_one_row(IRIS, "gRPC", 64), grpc(IRIS, 64), GRPC_AIO, (GRPC_AIO,), 1.2),
    rate(_one_row(IRIS, "gRPC", 64), grpc(IRIS, 64), "best Python server", PYTHON_PEERS, 2.3),
    rate(_one_row(CANCER, "gRPC", 64), grpc(CANCER, 64), "best Python server", PYTHON_PEERS, 3),
    _time("(c) 1000 rows HTTP binary, p50", LARGE_HTTP_BINARY, PREDICT, in_process(MLP, 1000), 1.25),
    _time("(c) 1000 rows gRPC raw, p50", LARGE_GRPC, PREDICT, in_process(MLP, 1000), 1.25),
    _time("(c) 1000 rows JSON, p50", LARGE_HTTP_JSON, MLSERVER, LARGE_HTTP_JSON.by(MLSERVER), 0.4),
    _kept("both fronts, 32 callers each: HTTP keeps", BOTH_FRONTS[0]),
    _kept("both fronts, 32 callers each: gRPC keeps", BOTH_FRONTS[1]),
    _kept("(a) beside (b), 8 callers each: (a) keeps", BOTH_MODELS[0]),
    Target(
        "(a) beside (b), 8 callers each: p99 of (a)",
        "-",
        Figure(BOTH_MODELS[0], "p99_ms"),
        (),
        "<=",
        15,
        unit="ms",
    ),
    _tail("p99 of (a) HTTP, 64 callers", http(IRIS, 64)),
    _tail("p99 of (b) HTTP, 64 callers", http(CANCER, 64)),
    _tail("p99 of (a) gRPC, 64 callers", grpc(IRIS, 64)),
    _start("iris, start to ready", "seconds", operator.truediv, 1.4, ""),
    _start("iris, idle memory above it", "rss_mb", operator.sub, 40, "MB"),
)
