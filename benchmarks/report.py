"""Samples as rows: medians over the rounds, ratios within a round; as a table and as JSON."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cases import IN_PROCESS, OURS, OWN_CLIENT, UVICORN, Case, Sample

# The share of a bare uvicorn echo's throughput that our server is to reach, one row over HTTP.
BAR_CASE = Case("iris", "HTTP", OURS, OWN_CLIENT, 64)
BAR = 0.6
# Above this share of its core the load client may have been what was measured.
BUSY = 0.9

_LIBRARIES = ("oipserver", "uvicorn", "uvloop", "httptools", "grpcio", "protobuf", "scikit-learn", "numpy")
_MARKED = re.compile(r"(?<=<!-- results -->\n).*(?=<!-- end of results -->)", re.DOTALL)

Samples = Mapping[Case, Sequence[Sample]]


@dataclass(frozen=True, slots=True)
class Row:
    """One case, over all rounds.

    Attributes:
        ratios: our throughput over that of each baseline, by the baseline's name.
    """

    case: Case
    rate: float
    p50_ms: float
    p99_ms: float
    errors: int
    client_busy: float
    server_us: float | None
    ratios: Mapping[str, float]


def rows_of(samples: Samples) -> list[Row]:
    """A row for each case, in the order of the cases."""
    return [_row(case, samples) for case in samples]


def _row(case: Case, samples: Samples) -> Row:
    mine = samples[case]

    def middle(value: Callable[[Sample], float]) -> float:
        return median(value(sample) for sample in mine)

    known = [sample.server_us for sample in mine if sample.server_us is not None]
    return Row(
        case,
        rate=middle(lambda sample: sample.rate),
        p50_ms=middle(lambda sample: sample.p50_ms),
        p99_ms=middle(lambda sample: sample.p99_ms),
        errors=sum(sample.errors for sample in mine),
        client_busy=middle(lambda sample: sample.client_busy),
        server_us=median(known) if known else None,
        ratios={base.server: _ratio(mine, samples[base]) for base in case.baselines if base in samples},
    )


def _ratio(ours: Sequence[Sample], theirs: Sequence[Sample]) -> float:
    """The median of the ratios within each round: both sides saw the same machine."""
    return median(
        one.rate / other.rate if other.rate else 0.0 for one, other in zip(ours, theirs, strict=True)
    )


def table(rows: Sequence[Row]) -> str:
    """A Markdown table, aligned to be read as it is."""
    head = (
        *("model", "front", "server", "client", "callers", "req/s", "p50 ms", "p99 ms"),
        *("server µs", "client busy", "throughput"),
    )
    cells = [head, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells
    ]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "".join(f"| {line} |\n" for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    case = row.case
    return (
        *(case.model, case.front, case.server, case.client, str(case.callers)),
        f"{row.rate:,.0f}".replace(",", " "),
        f"{row.p50_ms:.2f}",
        f"{row.p99_ms:.2f}",
        "-" if row.server_us is None else f"{row.server_us:.0f}",
        "-" if case.server == IN_PROCESS else f"{row.client_busy:.0%}",
        ", ".join(f"x{ratio:.2f} of {name}" for name, ratio in row.ratios.items()),
    )


def remarks(rows: Sequence[Row]) -> list[str]:
    """What the table does not say by itself: the bar, errors, and cases that the load client limited."""
    texts = []
    for row in rows:
        if row.case == BAR_CASE and UVICORN in row.ratios:
            reached = "reached" if row.ratios[UVICORN] >= BAR else "missed"
            texts.append(
                f"HTTP, one row, 64 callers: x{row.ratios[UVICORN]:.2f} of {UVICORN}, x{BAR} {reached}"
            )
        if row.errors:
            texts.append(f"{row.errors} errors: {_cells(row)[:5]}")
        if row.client_busy > BUSY and row.case.server != IN_PROCESS:
            texts.append(f"the client was busy {row.client_busy:.0%} of the time: {_cells(row)[:5]}")
    return texts


def machine() -> dict[str, Any]:
    """Where the figures come from."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _LIBRARIES},
    }


def _processor() -> str:
    try:
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor()


def document(rows: Sequence[Row], samples: Samples, about: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, for a JSON file; rounds are kept so that others can look at the spread."""
    return {
        **about,
        "machine": machine(),
        "rows": [{**asdict(row), "rounds": [asdict(sample) for sample in samples[row.case]]} for row in rows],
    }


def heading(about: Mapping[str, Any]) -> str:
    """When, where and how, in one paragraph."""
    place = about["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in place["versions"].items())
    return (
        f"{about['date']}, `{about['command']}`, {about['rounds']} rounds of {about['seconds']:g} s; "
        f"{place['processor']}, {place['cores']} cores, {place['system']}; "
        f"Python {place['python']}, {versions}."
    )


def write_readme(readme: Path, text: str) -> None:
    """Put the text where the README keeps its results."""
    readme.write_text(_MARKED.sub(lambda _: text, readme.read_text()))
