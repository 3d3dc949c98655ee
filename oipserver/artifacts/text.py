"""The report, for people and for machines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from oipserver.artifacts.inspection import Library, Report
from oipserver.artifacts.pickles import PickleReport
from oipserver.artifacts.skops_file import SkopsReport
from oipserver.artifacts.verdicts import DANGEROUS, HARMLESS, UNKNOWN, verdict
from oipserver.core.errors import printable

_WIDTH = 1024


def as_text(report: Report) -> str:
    """A page of plain text.  What comes from the files themselves is printable and of bounded length."""
    return "\n".join(_lines(report)) + "\n"


def as_json(report: Report) -> str:
    """The report as a JSON document."""
    return json.dumps(report.as_dict(), indent=2, default=str) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield printable(report.path, _WIDTH)
    runtime = report.runtime or "cannot be told: name it with --runtime"
    files = f" in {report.files} files" if report.files != 1 else ""
    facts = [("runtime", runtime), ("size", f"{report.size:,} bytes{files}"), ("sha256", report.sha256)]
    if report.pin and report.pin != report.sha256:
        facts.append(("pin", f"{report.pin} (of the download)"))
    yield from _table(facts)
    yield from _metadata(report.metadata)
    if report.libraries:
        yield ""
        yield from _table([("library", "saved with", "installed"), *map(_library, report.libraries)])
    for skops in report.skops:
        yield from _skops(skops)
    for pickle in report.pickles:
        yield from _pickle(pickle)
    if report.code:
        yield ""
        yield f"Python files, which run when the model is loaded or asked: {_listed(report.code)}"
    for note in report.notes:
        yield ""
        yield f"note: {printable(note, _WIDTH)}"
    if report.pickles:
        yield ""
        yield "Nothing was loaded. This is a report, no permission: a hostile pickle can deceive its reader."


def _metadata(metadata: Mapping[str, object]) -> Iterator[str]:
    for topic, content in metadata.items():
        yield ""
        yield f"{topic}:"
        entries = content.items() if isinstance(content, Mapping) else [("", content)]
        for name, value in entries:
            for item in value if isinstance(value, list) else [value]:
                text = item if isinstance(item, str) else json.dumps(item, default=str)
                yield f"  {printable(name)}{': ' if name else ''}{printable(text, _WIDTH)}"


def _library(library: Library) -> tuple[str, str, str]:
    installed = library.installed or "not installed"
    differs = "" if installed == library.recorded else "   differs"
    return printable(library.name), printable(library.recorded), installed + differs


def _skops(report: SkopsReport) -> Iterator[str]:
    yield ""
    yield f"skops file {printable(report.file, _WIDTH)}"
    if report.problem:
        yield f"  {report.problem}"
    if report.untrusted is None:
        if not report.problem:
            yield f"  skops is not installed, so what it trusts cannot be told: {_listed(report.types)}"
        return
    yield f"  untrusted  {_listed(report.untrusted) or 'none'}"
    trusted = [name for name in report.types if name not in report.untrusted]
    yield f"  trusted    {_listed(trusted) or 'none'}"


def _pickle(report: PickleReport) -> Iterator[str]:
    yield ""
    nested = f", with {report.nested} pickles within" if report.nested else ""
    yield f"pickle {printable(report.file, _WIDTH)}{nested}: runs code when it is loaded"
    if report.problem:
        yield f"  {report.problem}"
    for kind in (DANGEROUS, UNKNOWN, HARMLESS):
        names = [f"{one.module}.{one.name}" for one in report.names if verdict(one.module, one.name) == kind]
        if kind == HARMLESS:
            if names:
                yield f"  {kind:10} {_listed(names)}"
        else:
            yield from (
                f"  {kind.upper() if kind == DANGEROUS else kind:10} {printable(name)}" for name in names
            )
    if not report.names and not report.problem:
        yield "  it imports nothing"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(printable(name) for name in names)


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  " + "  ".join(cells).rstrip()
