"""What is written to the log while a test runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest) -> Iterator[None]:
    """What a client does is no reason for a warning.  A failing model or bug is: `noisy` tests have one."""
    yield
    records = [*caplog.get_records("setup"), *caplog.get_records("call")]
    loud = [record.getMessage() for record in records if record.levelno > logging.INFO]
    assert bool(loud) == ("noisy" in request.fixturenames), loud


@pytest.fixture
def noisy() -> None:
    """The test provokes what is logged as a warning or worse."""
