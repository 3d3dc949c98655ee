"""Clocks that jump: durations are of monotonic clocks; wall time is asked only to be shown to somebody."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.observability.served import MODELS, Http, document, logged
from tests.server_process import QUICK, ServerProcess

ROOT = Path(__file__).parents[2]

# Who may ask for the time of day, and what for.
WALL_TIME = {
    "oipserver/requestlog.py": "the time of a line",
    "oipserver/tracing.py": "start and end of a span",
    "oipserver/http/server.py": "the header Date",
    "oipserver/metrics/histogram.py": "the timestamp of an exemplar",
    "oipserver/core/statistics.py": "Triton's last_inference, milliseconds since 1970",
}
OF_TIME = {"time", "time_ns", "localtime", "gmtime", "ctime", "strftime", "asctime"}
OF_DATETIME = {"now", "utcnow", "today"}


def wall_clocks(source: str) -> Iterator[int]:
    """The lines that name a clock which can be set."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            if OF_TIME & {alias.name for alias in node.names}:
                yield node.lineno
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if (owner == "time" and node.attr in OF_TIME) or (
                owner.split(".")[-1] in ("datetime", "date") and node.attr in OF_DATETIME
            ):
                yield node.lineno


def test_only_those_who_show_it_ask_for_the_time_of_day() -> None:
    files = [path for folder in ("oipserver", "runtimes") for path in (ROOT / folder).rglob("*.py")]
    found = {
        str(path.relative_to(ROOT)): lines for path in files if (lines := [*wall_clocks(path.read_text())])
    }
    assert found.keys() == WALL_TIME.keys(), found


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("import time\ntime.time()", [2]),
        ("import time\nclock = time.time_ns", [2]),
        ("from time import time", [1]),
        ("datetime.datetime.now()", [1]),
        ("date.today()", [1]),
        ("loop.time(); time.monotonic(); time.perf_counter(); datetime.fromtimestamp(1)", []),
    ],
)
def test_the_search_finds_what_it_should(source: str, lines: list[int]) -> None:
    assert [*wall_clocks(source)] == lines


JUMPING = """
import itertools, sys, time
seconds, nanoseconds, jumps = time.time, time.time_ns, itertools.cycle((0, 86400, -86400, 3, -10**8))
time.time = lambda: seconds() + next(jumps)
time.time_ns = lambda: nanoseconds() + next(jumps) * 10**9
from oipserver.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_clock_that_jumps_by_days_changes_no_answer(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(MODELS)
    model = ("--runtime=python", f"--model-uri={tmp_path}/models.py:double", "--model-name=double")
    environ = {"OIPSERVER_LOG_FORMAT": "json", "OIPSERVER_LOG_REQUESTS": "1"}
    # grpcio reckons with wall time itself, where ours has no say.
    program = ["-c", JUMPING, "serve", *QUICK, "--grpc-port=off", *model]
    with ServerProcess(program=program, environ=environ) as server, Http(server) as http:
        for number in range(50):
            body = document(float(number), parameters={"timeout": 20_000_000})
            status, headers, answer = http.ask("POST", "/v2/models/double/infer", body)
            assert (status, json.loads(answer)["outputs"][0]["data"]) == (200, [number * 2])
            assert 0 <= logged(server, headers["x-request-id"])["seconds"] < 20
        days = {line.split('"time":"')[1][:10] for line in server.output.splitlines()}
    assert len(days) > 2  # it did jump
    assert server.exit_code == 0
