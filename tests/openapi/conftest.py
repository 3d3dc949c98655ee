"""One server process for all tests here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server_process import ServerProcess

NAMES = ("double", "limited", "say", "total", "half", "count")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Every model of `served.py`; "double" in two versions."""
    code = Path(__file__).parent / "served.py"
    models = [{"name": name, "runtime": "python", "model_uri": f"{code}:{name}"} for name in NAMES]
    models.append({**models[0], "version": "2"})
    config = tmp_path_factory.mktemp("openapi") / "server.json"
    config.write_text(json.dumps({"models": models}))
    with ServerProcess("--config", str(config)) as running:
        yield running
