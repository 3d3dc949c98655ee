"""Chromium for tests: a browser that tells of whatever a page complains of, and of each request elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# A container's user is often root, for whom the sandbox does not start; and nothing is to be asked for.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
MILLISECONDS = 15_000


def find_chromium() -> str | None:
    """Where a Chromium is installed; None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One for each module: as long as Playwright runs, its thread has an event loop."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium is installed, so that the console is not looked at")
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield running
        running.close()


class Watched:
    """A page in a context of its own, with nothing kept from before.

    Args:
        options: of Playwright's `new_context`.

    Attributes:
        wrong: what the page has complained of: exceptions, errors and warnings on its console.
        asked: the addresses that it has asked for.
    """

    def __init__(self, browser: Any, origin: str, **options: Any) -> None:
        self.origin = origin
        self.wrong: list[str] = []
        self.asked: set[str] = set()
        self.context = browser.new_context(**{"viewport": DESKTOP, **options})
        self.context.set_default_timeout(MILLISECONDS)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", self._on_console)
        self.context.on("request", lambda request: self.asked.add(request.url))

    def close(self) -> None:
        """Leave, and fail if anything was wrong."""
        self.context.close()
        assert self.wrong == []
        assert self.elsewhere() == set()

    def elsewhere(self) -> set[str]:
        """What was asked of anybody but the one server."""
        own = ("data", "blob")
        return {
            url
            for url in self.asked
            if urlsplit(url).scheme not in own and not url.startswith(f"{self.origin}/")
        }

    def _on_console(self, message: Any) -> None:
        # An answer of 400 and above, or none, is Chromium's own line and no complaint of the page.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.wrong.append(message.text)
