"""Chromium for tests: a browser that tells of whatever a page complains of, and of each request elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, ViewportSize, expect, sync_playwright

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
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}
MILLISECONDS = 30_000

expect.set_options(timeout=MILLISECONDS)


def find_chromium() -> str | None:
    """Where a Chromium is installed; None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for each module: as long as Playwright runs, its thread has an event loop."""
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium is installed, so that the console is not looked at")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield running
        running.close()


class Watched:
    """A page in a context of its own, with nothing kept from before.

    Args:
        options: of Playwright's `new_context`.

    Attributes:
        wrong: what the page has complained of: exceptions, errors and warnings on its console.
        asked: the addresses that it has asked for; without those that its own policy did not let it ask.
    """

    def __init__(self, browser: Browser, origin: str, **options: Any) -> None:
        self.origin = origin
        self.wrong: list[str] = []
        self.asked: set[str] = set()
        self.context = browser.new_context(**{"viewport": DESKTOP, **options})
        self.context.set_default_timeout(MILLISECONDS)
        self.context.on("weberror", lambda error: self.wrong.append(str(error.error)))
        self.context.on("console", self._on_console)
        self.context.on("request", lambda request: self.asked.add(request.url))
        self.context.on("requestfailed", self._on_failed)

    def open(self, place: str = "") -> Page:
        """The console in a new tab, at a place such as "#/server"."""
        page = self.context.new_page()
        page.goto(f"{self.origin}/console/{place}")
        return page

    def close(self) -> None:
        """Leave, and fail if anything was wrong."""
        self.context.close()
        assert not self.wrong, self.wrong
        assert not self.elsewhere(), self.elsewhere()

    def elsewhere(self) -> set[str]:
        """What was asked of anybody but the one server."""
        own = ("data", "blob")
        return {
            url
            for url in self.asked
            if urlsplit(url).scheme not in own and not url.startswith(f"{self.origin}/")
        }

    def _on_failed(self, request: Request) -> None:
        # Chromium announces some requests before it looks at the policy that forbids them.
        if request.failure == "csp":
            self.asked.discard(request.url)

    def _on_console(self, message: ConsoleMessage) -> None:
        # An answer of 400 and above, or none, is Chromium's own line and no complaint of the page.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.wrong.append(message.text)
