"""schemathesis against the served document: it makes requests from the schemas, good and bad, and compares
the answers with what the document says of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.server_process import ServerProcess

# A deadline of a microsecond, which the schema allows, passes at once.
CONFIG = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", "504"]
"""
# Of a request it knows each number, but not that there must be as many as the shape says: what it takes for
# right is often refused.  Examples are held to it.
UNSAID = "negative_data_rejection,positive_data_acceptance"


@pytest.fixture(scope="module")
def document(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The document, less the sizes of each dimension in answers: the tool (4.32) misreads those."""
    with urllib.request.urlopen(f"{server.http_url}/v2/openapi.json", timeout=30) as answer:
        text = json.load(answer)
    for name, schema in text["components"]["schemas"].items():
        if name.endswith(".response"):
            forget_sizes(schema)
    folder = tmp_path_factory.mktemp("schemathesis")
    (folder / "schemathesis.toml").write_text(CONFIG)
    path = folder / "openapi.json"
    path.write_text(json.dumps(text))
    return path


def forget_sizes(schema: Any) -> None:
    if isinstance(schema, dict):
        schema.pop("prefixItems", None)
    for inner in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(inner, dict | list):
            forget_sizes(inner)


@pytest.mark.parametrize(
    ("phases", "routes", "unchecked", "least"),
    [
        ("examples", ".*", "negative_data_rejection", 15),
        ("coverage,fuzzing", r"^/v2/models/(say|double)(/infer|/generate|/ready)?$", UNSAID, 500),
        ("coverage,fuzzing", r"^(?!/v2/models/[a-z]+(/|$)).*", UNSAID, 100),
    ],
    ids=["examples", "models", "server"],
)
def test_answers_conform(
    server: ServerProcess, document: Path, phases: str, routes: str, unchecked: str, least: int
) -> None:
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", str(document), f"--url={server.http_url}"),
        *("--phases", phases, "--include-path-regex", routes, "--exclude-checks", unchecked),
        *("--seed=1", "--max-examples=10", "--request-timeout=60", "--no-shrink", "--warnings=off"),
        *("--suppress-health-check=all", "--continue-on-failure"),
    ]
    done = subprocess.run(command, cwd=document.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    made = re.search(r"(\d+) generated", done.stdout)
    assert made, done.stdout
    assert int(made[1]) >= least
