"""Results as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median

from benchmarks.cases import (
    BOTH_FRONTS,
    BOTH_MODELS,
    CALLERS,
    COMPILED,
    HUNDRED_ROWS,
    LARGE_GRPC,
    LARGE_HTTP_BINARY,
    LARGE_HTTP_JSON,
    OURS,
    OWN_CLIENT,
    PREDICT,
    Case,
    grpc,
    http,
)
from benchmarks.measure import door_of
from benchmarks.models import CANCER, IRIS
from benchmarks.results import OURS_COMPILED, Results
from benchmarks.targets import TARGETS, Target

# Above this share of its core the load client may have been what was measured.
BUSY = 0.9

Column = tuple[str, Case]
HTTP_COLUMNS: tuple[Column, ...] = (
    *((f"(a) {callers}", http(IRIS, callers)) for callers in CALLERS),
    *((f"(b) {callers}", http(CANCER, callers)) for callers in CALLERS),
    ("(b) 100 rows, 8", HUNDRED_ROWS),
)
GRPC_COLUMNS: tuple[Column, ...] = (
    *((f"(a) {callers}", grpc(IRIS, callers)) for callers in CALLERS),
    *((f"(b) {callers}", grpc(CANCER, callers)) for callers in CALLERS),
)
LARGE_COLUMNS: tuple[Column, ...] = (
    ("HTTP JSON", LARGE_HTTP_JSON),
    ("HTTP binary", LARGE_HTTP_BINARY),
    ("gRPC raw", LARGE_GRPC),
)


def grid(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table, aligned to be read as it is."""
    cells = [list(head), *map(list, lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rows = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    rows.insert(1, " | ".join("-" * width for width in widths))
    return "".join(f"| {row} |\n" for row in rows)


def number(value: float) -> str:
    """As many digits as a figure is worth, thousands apart."""
    if value >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.095 else f"{value:.1g}"


def matrix(results: Results, columns: Sequence[Column], cell: Callable[[Case, Case], str]) -> str:
    """Servers as lines; `cell` gets our case and that of the line."""
    lines = []
    for server in results.servers:
        cells = [_cell(results, column, server, cell) for _, column in columns]
        if any(cells):
            lines.append([server, *cells])
    return grid(["", *(name for name, _ in columns)], lines) if lines else ""


def _cell(results: Results, column: Case, server: str, cell: Callable[[Case, Case], str]) -> str:
    case = results.case_of(column, server)
    if server == OURS_COMPILED and case.model != COMPILED:
        return ""
    if server == PREDICT and column.callers > 1 and column.rows == 1:
        return ""
    if case in results.samples:
        return cell(column, case)
    return results.failures.get(door_of(case), "").partition(":")[0]


def throughput(results: Results) -> Callable[[Case, Case], str]:
    """Requests per second, and how many times as many are ours."""

    def cell(ours: Case, case: Case) -> str:
        rate, ratio = results.middle(case, "rate"), results.ratio(ours, case)
        return _with_ratio(rate, ratio, case.server == OURS)

    return cell


def duration(results: Results) -> Callable[[Case, Case], str]:
    """Median latency in ms, and how many times as long as ours."""

    def cell(ours: Case, case: Case) -> str:
        return _with_ratio(
            results.middle(case, "p50_ms"), results.ratio(case, ours, "p50_ms"), case.server == OURS
        )

    return cell


def _with_ratio(value: float | None, ratio: float | None, alone: bool) -> str:
    if value is None:
        return "errors"
    return number(value) if alone or ratio is None else f"{number(value)} (x{number(ratio)})"


def latency(results: Results) -> Callable[[Case, Case], str]:
    """p50 / p99 in ms."""

    def cell(ours: Case, case: Case) -> str:
        return " / ".join(_or_dash(results.middle(case, name)) for name in ("p50_ms", "p99_ms"))

    return cell


def processor_time(results: Results) -> Callable[[Case, Case], str]:
    """Of the server, µs per answer."""

    def cell(ours: Case, case: Case) -> str:
        return _or_dash(results.middle(case, "server_us"))

    return cell


def _or_dash(value: float | None) -> str:
    return "-" if value is None else number(value)


def targets(results: Results) -> str:
    """Every target that this run measured."""
    lines = [_target(each, each.measured(results.figures)) for each in TARGETS]
    return grid(("workload", "against", "target", "measured", ""), lines)


def _target(target: Target, value: float | None) -> tuple[str, ...]:
    sign = {">=": "≥", "<=": "≤"}[target.sign]
    bound = f"{sign} {target.bound:g} {target.unit}".strip()
    if value is None:
        return target.text, target.against, bound, "-", "not measured"
    verdict = "reached" if target.reached(value) else "**not reached**"
    return target.text, target.against, bound, f"{number(value)} {target.unit}".strip(), verdict


def at_once(results: Results) -> str:
    """What each keeps of its throughput beside another load."""
    lines = []
    for case in (*BOTH_FRONTS, *BOTH_MODELS):
        alone = case.next_to("")
        kept = results.ratio(case, alone)
        if kept is not None:
            what = f"{case.model} over {case.front}, {case.callers} callers, beside {case.beside}"
            rates = (_or_dash(results.middle(each, "rate")) for each in (alone, case))
            lines.append((what, *rates, f"x{kept:.2f}", latency(results)(case, case)))
    return grid(("", "alone, req/s", "beside it", "keeps", "p50 / p99 ms"), lines) if lines else ""


def starts(results: Results) -> str:
    """Start and idle memory."""
    lines = [
        (name, *(f"{median(getattr(each, of) for each in found):.{digits}f}" for of, digits in _START_FIELDS))
        for name, found in results.starts.items()
    ]
    return grid(("", "ready after, s", "idle RSS, MB", "idle PSS, MB"), lines) if lines else ""


_START_FIELDS = (("seconds", 2), ("rss_mb", 0), ("pss_mb", 0))


def cross_checks(results: Results) -> str:
    """The same by clients that are not ours."""
    lines = []
    for case in results.samples:
        if case.client not in (OWN_CLIENT, "-"):
            own = Case(case.model, case.front, case.server, case.callers, case.rows, case.form)
            rates = (throughput(results)(each.by(OURS), each) for each in (case, own))
            busy = results.middle(case, "client_busy") or 0.0
            lines.append(
                (f"{case.server}, (a) {case.front} {case.callers}", case.client, *rates, f"{busy:.0%}")
            )
    return grid(("", "client", "req/s", "by our client", "client busy"), lines) if lines else ""


def remarks(results: Results) -> list[str]:
    """What the tables do not say by themselves: errors, and cases that the load client limited."""
    texts = list(results.notes)
    for case, found in results.samples.items():
        errors = sum(sample.errors for sample in found)
        if errors:
            texts.append(f"{errors} errors: {_told(case)}")
        busy = results.middle(case, "client_busy")
        if busy is not None and busy > BUSY:
            texts.append(f"the client was busy {busy:.0%} of the time: {_told(case)}")
    return texts


def _told(case: Case) -> str:
    asked = f"{case.model}, {case.rows} rows, {case.front} {case.form}"
    return f"{case.server}, {asked}, {case.callers} callers, client {case.client}"


def whole(results: Results) -> str:
    """All tables."""
    sections = {
        "Targets": targets(results),
        "One core over HTTP: requests per second (ours are so many times as many)": matrix(
            results, HTTP_COLUMNS, throughput(results)
        ),
        "HTTP: p50 / p99, ms": matrix(results, HTTP_COLUMNS, latency(results)),
        "HTTP: the server's CPU time, µs per answer": matrix(results, HTTP_COLUMNS, processor_time(results)),
        "One core over gRPC: requests per second (ours are so many times as many)": matrix(
            results, GRPC_COLUMNS, throughput(results)
        ),
        "gRPC: p50 / p99, ms": matrix(results, GRPC_COLUMNS, latency(results)),
        "gRPC: the server's CPU time, µs per answer": matrix(results, GRPC_COLUMNS, processor_time(results)),
        "(c) 1000 rows of 784 numbers, 1 caller: p50, ms (so many times as long as ours)": matrix(
            results, LARGE_COLUMNS, duration(results)
        ),
        "Two loads at once": at_once(results),
        "Start and idle memory": starts(results),
        "Cross-checks": cross_checks(results),
        "Remarks": "".join(f"- {text}\n" for text in remarks(results)),
    }
    return "\n".join(f"### {title}\n{text}" for title, text in sections.items() if text)
