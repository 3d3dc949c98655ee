"""docs/observability.md is true: its line has the members of a real one, its header is of the real form."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from oipserver.config.schema import SETTINGS
from oipserver.log import MAX_WAITING
from oipserver.requestlog import FAILURES
from tests.observability.served import Http, document, logged, serving
from tests.observability.test_timing import HEADER

TEXT = (Path(__file__).parents[2] / "docs/observability.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TEXT, re.DOTALL)


def test_the_line_and_the_header_are_as_written(tmp_path: Path) -> None:
    (line, header, commands) = [text for _, text in BLOCKS]
    with serving(tmp_path) as server, Http(server) as http:
        _, headers, _ = http.ask("POST", "/v2/models/double/infer", document(1.0), x_request_id="order-17")
        found = logged(server, "order-17")
    assert list(json.loads(line)) == list(found)
    assert HEADER.fullmatch(header.strip().partition(": ")[2])
    assert HEADER.fullmatch(headers["server-timing"])
    # That these are followed by spans is shown in test_tracing.
    first, second = map(shlex.split, commands.strip().splitlines())
    assert first == ["oipserver", "serve", *second[3:], "--tracing-endpoint", "http://collector:4318"]


def test_every_flag_and_figure_on_the_page_is_real() -> None:
    flags = {name[2:].replace("-", "_") for name in re.findall(r"--[a-z][a-z-]+", TEXT)}
    assert flags <= SETTINGS.keys()
    assert f"up to {MAX_WAITING // 2**20} MiB" in TEXT
    assert all(f"`{code}`" in TEXT for code in FAILURES)
