"""What the distribution brings along: few dependencies, and every file that it needs."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).parent.parent
MOST_DISTRIBUTIONS = 25


def closure(requirements: list[str]) -> set[NormalizedName]:
    """The distributions that the requirements bring into this environment, themselves included."""
    found: set[NormalizedName] = set()
    seen: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        if str(requirement) not in seen:
            seen.add(str(requirement))
            found.add(canonicalize_name(requirement.name))
            waiting.extend(needs_of(requirement))
    return found


def needs_of(requirement: Requirement) -> list[Requirement]:
    """What the installed distribution itself requires here, with the extras that are asked for."""
    needs = [Requirement(text) for text in metadata.requires(requirement.name) or ()]
    extras = requirement.extras or {""}
    return [
        need
        for need in needs
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras)
    ]


def test_the_server_needs_few_distributions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = closure(project["dependencies"])
    assert {"grpcio", "starlette", "anyio"} <= found, "the closure is not complete"
    assert len(found) <= MOST_DISTRIBUTIONS, f"{len(found)}: {', '.join(sorted(found))}"


def test_the_closure_honours_markers_and_extras() -> None:
    assert {"click", "h11"} <= closure(["uvicorn"])
    assert "colorama" not in closure(["pytest"]), "needed on Windows alone"
    assert "coverage" in closure(["pytest-cov"])
    assert "websockets" not in closure(["uvicorn"]), "uvicorn[standard] alone needs it"
