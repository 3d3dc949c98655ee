"""docs/robustness.md is true of what it names: the tests are there, the codes are those of both fronts."""

from __future__ import annotations

import re
from pathlib import Path

from oipserver.config.schema import MODEL_LEAVES, SERVER_LEAVES
from oipserver.grpc import errors as grpc_errors
from oipserver.http import errors as http_errors

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/robustness.md").read_text()
CODES, *TABLES = PAGE.split("\n## ")[1:]


def rows(section: str) -> list[list[str]]:
    """The cells of each row of a table, without its head."""
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines][1:]


def test_the_codes_are_those_of_both_fronts() -> None:
    told: dict[str, tuple[int, str]] = {}
    for codes, _, statuses, grpc_status in rows(CODES):
        names = re.findall(r"`(\w+)`", codes)
        numbers = [int(number) for number in statuses.split(", ")]
        numbers = numbers * len(names) if len(numbers) == 1 else numbers
        told |= {name: (number, grpc_status) for name, number in zip(names, numbers, strict=True)}
    assert told == {
        code: (status, grpc_errors.STATUS[code].name) for code, status in http_errors.STATUS.items()
    }


def test_each_row_has_a_number_and_tests_that_are_there() -> None:
    numbers = []
    for number, *_, tests in (row for table in TABLES for row in rows(table)):
        numbers.append(int(number))
        files = re.findall(r"`([^`]+)`", tests)
        assert files, number
        for file in files:
            assert re.search(r"^(async )?def test_", (ROOT / "tests" / file).read_text(), re.MULTILINE), file
    assert numbers == [*range(1, 26), *range(1, 18)]


def test_the_settings_and_pages_are_there() -> None:
    files = set(re.findall(r"`([\w/]+\.py)`", PAGE))
    assert all((ROOT / "tests" / file).is_file() for file in files)
    settings = set(re.findall(r"`([a-z]+\.[a-z_]+)`", PAGE))
    assert settings <= SERVER_LEAVES.keys() | MODEL_LEAVES.keys()
    assert all((ROOT / "docs" / link).exists() for link in re.findall(r"\]\(([^)]+)\)", PAGE))
