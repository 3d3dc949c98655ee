"""Results as a JSON document, and the pages that show them."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.results import Results
from benchmarks.targets import TARGETS

_LIBRARIES = ("oipserver", "uvicorn", "uvloop", "httptools", "grpcio", "protobuf", "scikit-learn", "numpy")


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


def document(results: Results) -> dict[str, Any]:
    """Everything, for a JSON file; rounds are kept so that others can look at the spread."""
    return {
        **results.about,
        "machine": machine(),
        "targets": [
            {"workload": each.text, "against": each.against, "sign": each.sign, "bound": each.bound}
            | {"measured": value, "reached": None if value is None else each.reached(value)}
            for each in TARGETS
            for value in [each.measured(results.figures)]
        ],
        "cases": [
            {"case": asdict(case), "rounds": [asdict(sample) for sample in samples]}
            for case, samples in results.samples.items()
        ],
        "starts": {name: [asdict(each) for each in found] for name, found in results.starts.items()},
        "failures": [{"case": asdict(case), "text": text} for case, text in results.failures.items()],
        "notes": list(results.notes),
    }


def heading(document: Mapping[str, Any]) -> str:
    """When, where and how, in one paragraph."""
    place = document["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in place["versions"].items())
    return (
        f"{document['date']}, `{document['command']}`, "
        f"{document['rounds']} rounds of {document['seconds']:g} s; "
        f"{place['processor']}, {place['cores']} cores, {place['system']}; "
        f"Python {place['python']}, {versions}."
    )


def write_between(page: Path, mark: str, text: str) -> None:
    """Put the text where a page keeps it: between `<!-- MARK -->` and `<!-- end of MARK -->`."""
    marked = re.compile(rf"(?<=<!-- {mark} -->\n).*(?=<!-- end of {mark} -->)", re.DOTALL)
    page.write_text(marked.sub(lambda _: text, page.read_text()))
