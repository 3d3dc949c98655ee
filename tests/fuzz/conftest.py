"""One server process for the fuzzers, and how long they go on.

pytest tests/fuzz --fuzz-seconds 600 --fuzz-seed 7
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
from sklearn.linear_model import LinearRegression

from tests.server_process import ServerProcess

SERVED = Path(__file__).parent.parent / "openapi" / "served.py"
# Small limits, so that what is over them costs little; short patience with what never comes.
LIMITS = ("--http-max-json-bytes=60000", "--http-max-body-bytes=120000", "--grpc-max-message-bytes=120000")
PATIENCE = ("--http-header-timeout=10", "--http-body-timeout=10", "--limits-default-timeout=30")
# Each fuzzer's, where nothing else is said.
SECONDS = 3.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-seconds", type=float, default=SECONDS, help="seconds for each fuzzer")
    parser.addoption("--fuzz-seed", type=int, default=None, help="of the first round; else by chance")


class Rounds:
    """Yields random generators until the time is over; what failed can be asked for again by its seed."""

    def __init__(self, seconds: float, seed: int | None) -> None:
        self._seconds = seconds
        self.seed = random.SystemRandom().randrange(2**32) if seed is None else seed
        self.done = 0

    def __iter__(self) -> Iterator[random.Random]:
        end = time.monotonic() + self._seconds
        while not self.done or time.monotonic() < end:
            yield random.Random(self.seed + self.done)
            self.done += 1

    @property
    def again(self) -> str:
        return f"--fuzz-seed {self.seed + self.done} --fuzz-seconds 0"


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Iterator[Rounds]:
    """Prints what to say to get the failing round again."""
    config = request.config
    made = Rounds(config.getoption("--fuzz-seconds", SECONDS), config.getoption("--fuzz-seed", None))
    yield made
    # Shown with a failure.
    print(f"{made.done} rounds; again: pytest {request.node.nodeid} {made.again}")  # noqa: T201


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A model on the event loop ("sum", of four numbers), and some on threads."""
    folder = tmp_path_factory.mktemp("fuzz")
    rows = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 1, 1, 1]]
    joblib.dump(LinearRegression().fit(rows, [1, 1, 1, 1, 4]), folder / "sum.joblib")
    models = [{"name": "sum", "runtime": "sklearn", "model_uri": str(folder / "sum.joblib")}]
    models += [
        {"name": name, "runtime": "python", "model_uri": f"{SERVED}:{name}"}
        for name in ("double", "say", "total", "half", "count")
    ]
    (folder / "server.json").write_text(json.dumps({"models": models}))
    with ServerProcess("--config", str(folder / "server.json"), *LIMITS, *PATIENCE) as running:
        yield running
    assert running.exit_code == 0, running.output
    # A traceback is a bug of ours, whatever was answered.
    assert "Traceback" not in running.output, running.output[-10_000:]
