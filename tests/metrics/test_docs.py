"""docs/metrics.md is true: its commands run, and it names every metric that there is and no other."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_plain
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from oipserver.config.schema import SETTINGS
from oipserver.metrics.slo import BROKEN
from tests.server_process import ServerProcess

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/metrics.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("metrics")
    joblib.dump(LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True)), folder / "model.joblib")
    (text,) = (text for kind, text in BLOCKS if kind == "yaml")
    (folder / "promised.yaml").write_text(text)
    with ServerProcess("--config", str(folder / "promised.yaml")) as server:
        yield server


def test_nothing_stands_in_the_document_that_no_test_runs() -> None:
    assert [kind for kind, _ in BLOCKS] == ["sh", "yaml"]
    assert len(COMMANDS) == 2
    assert all(command.startswith("curl ") for command in COMMANDS)


def ask(command: str, server: ServerProcess) -> str:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    command = command.replace("http://localhost:8080", server.http_url)
    return subprocess.run(shlex.split(command), capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("command", "ends"), list(zip(COMMANDS, ("\n", "# EOF\n"), strict=True)))
def test_the_commands_are_answered(server: ServerProcess, command: str, ends: str) -> None:
    text = ask(command, server)
    assert 'oip_slo_target{model="iris",objective="latency",version="1"} 0.99\n' in text
    assert text.endswith(ends)


def test_it_names_every_metric_and_no_other(server: ServerProcess) -> None:
    found = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in parse_plain(ask(COMMANDS[0], server))
        if family.name.startswith(("oip_", "nv_"))
    }
    # A histogram has a line of its own in the text before it has seen anything.
    assert set(re.findall(r"`((?:oip|nv)_\w+)`", PAGE)) == found


def test_it_names_settings_codes_and_files_that_there_are() -> None:
    flags = set(re.findall(r"`--([\w-]+)", PAGE))
    assert flags <= {name.replace("_", "-") for name in SETTINGS}
    assert set(re.findall(r"`([A-Z_]{3,})`", PAGE)) == BROKEN
    files = re.findall(r"\]\(\.\./([^)]*)\)", PAGE)
    assert len(files) == 3
    assert all((ROOT / file).exists() for file in files)
