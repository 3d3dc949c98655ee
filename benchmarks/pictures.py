"""The pictures of a run: throughput, time for large tensors, latency against load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.cases import (
    CALLERS,
    CURVE,
    CURVED_PEERS,
    HUNDRED_ROWS,
    LARGE_GRPC,
    LARGE_HTTP_BINARY,
    LARGE_HTTP_JSON,
    LIMITS,
    OURS,
    UVICORN,
    Case,
    grpc,
    http,
)
from benchmarks.models import CANCER, IRIS
from benchmarks.results import OURS_COMPILED, Results
from benchmarks.svg import Bar, Curve, bars, curves
from benchmarks.tables import number

BLUE, LIGHT_BLUE, AMBER, GREY = "#2f81f7", "#79b8ff", "#d29922", "#8b949e"
CURVE_COLOURS = {OURS: BLUE, UVICORN: GREY} | dict(
    zip(CURVED_PEERS, ("#3fb950", "#db6d28", "#a371f7"), strict=True)
)

THROUGHPUT: Mapping[str, Mapping[str, Case]] = {
    "HTTP": {
        "(a) logistic regression, 1 row, 64 callers": http(IRIS, 64),
        "(b) forest of 100 trees, 1 row, 64 callers": http(CANCER, 64),
        "(b) forest of 100 trees, 100 rows, 8 callers": HUNDRED_ROWS,
    },
    "gRPC": {
        "(a) logistic regression, 1 row, 64 callers": grpc(IRIS, 64),
        "(b) forest of 100 trees, 1 row, 64 callers": grpc(CANCER, 64),
    },
}
LARGE = {
    "JSON over HTTP": LARGE_HTTP_JSON,
    "binary over HTTP": LARGE_HTTP_BINARY,
    "raw over gRPC": LARGE_GRPC,
}


def draw(results: Results, directory: Path) -> list[Path]:
    """Write the pictures that these results are enough for."""
    directory.mkdir(exist_ok=True)
    drawn = {}
    for front, panels in THROUGHPUT.items():
        if found := _panels(results, panels, "rate", more_is_better=True):
            title = f"{front}: requests per second on one core (longer is better)"
            drawn[f"throughput-{front.lower()}"] = bars(title, found)
    if found := _panels(results, LARGE, "p50_ms", more_is_better=False):
        title = "(c) 1000 rows of 784 numbers, 1 caller: ms per request (shorter is better)"
        drawn["large-tensors"] = bars(title, found)
    if OURS in {case.server for case in results.samples if case.model == IRIS and case.front == "HTTP"}:
        drawn["latency"] = _latency(results)
    paths = []
    for name, content in drawn.items():
        paths.append(directory / f"{name}.svg")
        paths[-1].write_text(content)
    return paths


def _panels(
    results: Results, panels: Mapping[str, Case], name: str, more_is_better: bool
) -> dict[str, list[Bar]]:
    found = {}
    for title, case in panels.items():
        figures = {server: results.middle(results.case_of(case, server), name) for server in results.servers}
        known = {server: value for server, value in figures.items() if value}
        if len(known) > 1:
            found[title] = _bars(known, more_is_better)
    return found


def _bars(figures: Mapping[str, float], more_is_better: bool) -> list[Bar]:
    order = sorted(figures.items(), key=lambda item: item[1], reverse=more_is_better)
    return [Bar(server, value, number(value), _colour(server)) for server, value in order]


def _colour(server: str) -> str:
    return {OURS: BLUE, OURS_COMPILED: LIGHT_BLUE}.get(server, GREY if server in LIMITS else AMBER)


def _latency(results: Results) -> str:
    panels = {"p50": _curves(results, "p50_ms"), "p99": _curves(results, "p99_ms")}
    return curves("(a) over HTTP: latency in ms against the number of callers", panels, "callers", "ms")


def _curves(results: Results, name: str) -> Sequence[Curve]:
    found = []
    for server, colour in CURVE_COLOURS.items():
        points = [
            (callers, value)
            for callers in sorted((*CALLERS, *CURVE))
            if (value := results.middle(http(IRIS, callers).by(server), name))
        ]
        if points:
            found.append(Curve(server, points, colour, dashed=server in LIMITS))
    return found
