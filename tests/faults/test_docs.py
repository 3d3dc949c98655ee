"""docs/overload.md is true: its configuration is read, and its command is run by a test of its own."""

from __future__ import annotations

import re
from pathlib import Path

from oipserver.config import load_config
from tests.benchmarks import test_overload

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "overload.md").read_text()


def block(language: str) -> str:
    [text] = re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    return str(text)


def test_the_configuration_says_what_its_comments_say(tmp_path: Path) -> None:
    (tmp_path / "model.py").touch()
    (tmp_path / "server.yaml").write_text(block("yaml"))
    config = load_config({"config": str(tmp_path / "server.yaml")}, {})
    limits, batching = config.limits, config.models[0].dynamic_batching
    assert (limits.default_timeout, limits.max_queue_size) == (60.0, 8192)
    assert (limits.hang_timeout, limits.exit_on_hang) == (300.0, False)
    assert (batching.max_queue_size, batching.priority_levels) == (256, 3)
    assert batching.default_priority_level == 2


def test_the_command_is_the_one_that_is_tested() -> None:
    assert ROOT / block("sh").split()[1] == test_overload.SCRIPT
