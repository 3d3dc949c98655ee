"""tritonclient.grpc over ModelStreamInfer, against models that stream and models that do not."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.conftest import PATIENCE, SCRIPTS, Report, interpreter
from tests.grpc.running import Running
from tests.streaming import Counter
from tests.support import Doubler, until


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    running = Running({"count": Counter(), "double": Doubler()})
    yield running
    running.close()


@pytest.fixture(scope="module")
def report(running: Running) -> Report:
    """What the client's checks returned."""
    finished = subprocess.run(
        [interpreter("tritonclient_grpc"), SCRIPTS / "tritonclient_stream.py", running.address, Path()],
        env={**os.environ, "no_proxy": "127.0.0.1", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert finished.returncode == 0, finished.stderr
    return Report(json.loads(finished.stdout))


def test_100_requests_come_back_with_their_ids(report: Report) -> None:
    assert report["many"] == {str(number): 2.0 * number for number in range(100)}


def test_a_model_that_streams_says_which_answer_is_the_last(report: Report) -> None:
    assert report["decoupled"] == [
        ["mine", 0, False],
        ["mine", 1, False],
        ["mine", 2, False],
        ["mine", None, True],
    ]


def test_a_bad_request_leaves_the_stream_open(report: Report) -> None:
    assert report["mistakes"] == ["no model 'nobody'", 4.0]


def test_cancelling_frees_the_slot(running: Running, report: Report) -> None:
    assert report["cancelled"] == 0
    [count, _] = running.plane.registry.versions()
    assert count.streams is not None
    streams = count.streams
    running.run(until, lambda: not (running.plane.gate.in_flight or streams.running))
    running.run(until, lambda: ("count", "CANCELLED") in running.log.ended)
