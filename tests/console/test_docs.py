"""docs/console.md is true as far as it can be looked up: its pictures, its addresses, its commands."""

from __future__ import annotations

import re
from pathlib import Path

from tests.console.test_views import VIEWS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "console.md").read_text()
COMMANDS = [line for text in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in text.splitlines()]


def test_every_view_has_its_pictures_and_every_picture_is_shown() -> None:
    linked = set(re.findall(r"\(console/([\w.-]+)\)", PAGE))
    views = [*(view.__name__ for view in VIEWS), "not-ready"]
    assert linked == {f"{view}-{kind}.png" for view in views for kind in ("light", "dark", "phone")}
    assert linked == {path.name for path in (ROOT / "docs" / "console").iterdir()}


def test_other_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^):]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link


def test_commands_are_those_that_there_are() -> None:
    demo, build, pictures = COMMANDS
    assert demo == "oipserver demo", "other tests run it"
    assert build == "make console"
    assert re.search(r"^console: ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert pictures.startswith("CONSOLE_PICTURES=docs/console ")
    assert (ROOT / pictures.split()[-1]).exists()
