"""GET /v2/docs: a page that asks nobody but its own server, in a real browser where one is installed."""

from __future__ import annotations

import json
import shutil
import tomllib
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from oipserver.http import docs_page
from tests.server_process import ServerProcess

ROOT = Path(__file__).parents[2]
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
PAGE = "/v2/docs"
FILES = (PAGE, f"{PAGE}/page.css", f"{PAGE}/page.js")


def fetch(server: ServerProcess, path: str) -> tuple[Any, str]:
    """Headers and text."""
    with urllib.request.urlopen(server.http_url + path, timeout=30) as answer:
        return answer.headers, answer.read().decode()


class Elements(HTMLParser):
    """The elements of a page with their attributes, and whether a script or a style stands in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] in ("script", "style"):
            self.inline += data.strip()


@pytest.mark.parametrize("path", FILES)
def test_its_policy_allows_nothing_inline_and_nothing_from_elsewhere(
    server: ServerProcess, path: str
) -> None:
    headers, text = fetch(server, path)
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert "http://" not in text
    assert "https://" not in text


def test_it_has_nothing_inline_and_loads_its_own_files_alone(server: ServerProcess) -> None:
    headers, text = fetch(server, PAGE)
    assert headers.get_content_type() == "text/html"
    page = Elements(text)
    assert not page.inline
    attributes = [attribute for _, given in page.found for attribute in given]
    assert not [name for name in attributes if name == "style" or name.startswith("on")]
    loaded = {given.get("src") or given["href"] for tag, given in page.found if tag in ("script", "link")}
    assert loaded == {"docs/page.css", "docs/page.js", "data:,"}


def test_with_a_slash_it_leads_to_itself(server: ServerProcess) -> None:
    assert fetch(server, f"{PAGE}/")[1] == fetch(server, PAGE)[1]


def test_its_files_are_in_the_package() -> None:
    assert set(docs_page.FILES) == set(FILES)
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "http/docs_page/*" in setuptools["package-data"]["oipserver"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("no Chromium is installed")
    with api.sync_playwright() as playwright:
        # A container's user is often root, for whom the sandbox does not start.
        running = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield running
        running.close()


def is_complaint(message: Any) -> bool:
    """An error that is not just Chromium's word for an answer of 400 and above."""
    return message.type == "error" and "Failed to load resource" not in message.text


@pytest.fixture(params=["light", "dark"])
def page(browser: Any, request: pytest.FixtureRequest, server: ServerProcess) -> Iterator[Any]:
    """The page, loaded; whatever it complains of, and each request elsewhere, is an error."""
    wrong: list[str] = []
    opened = browser.new_page(color_scheme=request.param)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda message: wrong.append(message.text) if is_complaint(message) else None)
    asked: set[str] = set()
    opened.on("request", lambda one: asked.add(one.url))
    opened.goto(server.http_url + PAGE)
    opened.wait_for_selector("nav a")
    yield opened
    opened.close()
    elsewhere = {
        url for url in asked if urlsplit(url).scheme != "data" and not url.startswith(server.http_url)
    }
    assert (wrong, elsewhere) == ([], set())


def test_it_shows_a_model_and_sends_its_example(page: Any) -> None:
    assert page.inner_text("#state") == "ready"
    assert not page.is_visible("#access")
    page.click("nav >> text=limited")
    page.wait_for_selector("main td")
    cells = page.locator("main td").all_inner_texts()
    assert cells[:4] == ["x", "FP64", "[any, 2]", "at least 0.5, at most 10"]
    page.get_by_role("button", name="Send").first.click()
    page.wait_for_selector(".answer pre")
    assert page.inner_text(".answer p").startswith("200 OK")
    assert json.loads(page.inner_text(".answer pre"))["outputs"][0]["data"] == [2, 2]


def test_it_shows_what_is_wrong_and_takes_no_text_for_markup(page: Any) -> None:
    page.click("nav >> text=double")
    page.wait_for_selector("main textarea")
    page.fill("main textarea", '{"inputs": [{"name": "<img src=x>", "shape": [1], "datatype": "?"}]}')
    page.get_by_role("button", name="Send").first.click()
    page.wait_for_selector(".answer .bad")
    answer = json.loads(page.inner_text(".answer pre"))
    assert "<img src=x>" in answer["error"]
    assert page.locator("main img").count() == 0


def test_it_works_from_the_keyboard(page: Any) -> None:
    page.focus("nav a >> nth=1")
    page.keyboard.press("Enter")
    page.wait_for_selector("main textarea")
    page.focus("main textarea")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Send"
    page.keyboard.press("Enter")
    page.wait_for_selector(".answer pre")
    assert page.inner_text(".answer p").startswith("200 OK")
