"""Every view, in both themes, on a desktop and on a phone: accessible, no wider than the screen.

With CONSOLE_PICTURES=docs/console in the environment the pictures of the documentation are taken, too.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser import DESKTOP, PHONE
from tests.console.conftest import Visit
from tests.console.steps import (
    SETOSA,
    refused,
    send,
    shown,
    upload_picture,
    wait_prefilled,
    write_body,
)
from tests.server_process import ServerProcess

PICTURES = os.environ.get("CONSOLE_PICTURES", "")
COLOURS = 128
# A picture of two is rather empty.
READINGS = 12 if PICTURES else 2
VIRGINICA = [6.2, 3.4, 5.4, 2.3]
TWO = {**SETOSA, "outputs": [{"name": "predict"}, {"name": "predict_proba"}]}

Open = Callable[[str], Page]


def model(open_page: Open, name: str) -> Page:
    page = open_page(f"#/models/{name}/inference")
    wait_prefilled(page)
    return page


def services(open_page: Open) -> Page:
    page = open_page("")
    expect(shown(page, "service").first).to_be_visible()
    return page


def inference(open_page: Open) -> Page:
    page = model(open_page, "iris")
    for data in (SETOSA["inputs"][0]["data"], VIRGINICA):
        write_body(page, {**TWO, "inputs": [{**SETOSA["inputs"][0], "data": data}]})
        shown(page, "format").click()
        send(page)
    shown(page, "view-drawn").click()
    return page


def detector(open_page: Open) -> Page:
    page = model(open_page, "finder")
    upload_picture(page)
    send(page)
    shown(page, "view-drawn").click()
    expect(shown(page, "drawn-box")).to_have_count(3)
    return page


def refusal(open_page: Open) -> Page:
    page = model(open_page, "iris")
    write_body(page, {"inputs": [{**SETOSA["inputs"][0], "shape": [1, 3], "data": [5.1, 3.5, 1.4]}]})
    shown(page, "format").click()
    refused(page, "400")
    return page


def metadata(open_page: Open) -> Page:
    page = open_page("#/models/finder/metadata")
    expect(shown(page, "metadata-name")).to_be_visible()
    return page


def compare(open_page: Open) -> Page:
    page = inference(open_page)
    shown(page, "tab-compare").click()
    expect(shown(page, "compare-diff")).to_be_visible()
    return page


def load(open_page: Open) -> Page:
    page = model(open_page, "iris")
    shown(page, "tab-load").click()
    shown(page, "load-start").click()
    expect(shown(page, "load-result")).to_have_attribute("data-state", "done")
    return page


def panel(open_page: Open) -> Page:
    page = open_page("#/server")
    url = page.url.replace("/console/#/server", "/v2/models/iris/infer")
    for reading in range(READINGS):
        with page.expect_response("**/metrics"):
            for _ in range(20 + 10 * reading):
                page.request.post(url, data=TWO)
    expect(shown(page, "panel-queue")).not_to_have_attribute("data-value", "")
    return page


def client(open_page: Open) -> Page:
    page = open_page("#/client?method=GET&path=/greet/you")
    shown(page, "http-send").click()
    expect(shown(page, "response")).to_have_attribute("data-status", "200")
    return page


def export(open_page: Open) -> Page:
    page = model(open_page, "iris")
    shown(page, "export-open").click()
    shown(page, "export-python").click()
    return page


def keys(open_page: Open) -> Page:
    page = services(open_page)
    shown(page, "help-open").click()
    expect(shown(page, "help-dialog")).to_be_visible()
    return page


VIEWS = (services, inference, detector, refusal, metadata, compare, load, panel, client, export, keys)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_a_view(console: Open, view: Callable[[Open], Page]) -> None:
    look_at(view(console), view.__name__)


def test_a_server_that_is_not_ready(visit: Visit, half_ready: ServerProcess) -> None:
    page = visit(half_ready).open()
    expect(shown(page, "chip-ready-reason")).to_be_visible()
    look_at(page, "not-ready")


def look_at(page: Page, name: str) -> None:
    """The view in both themes and both sizes."""
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    take_picture(page, f"{name}-dark")
    assert_accessible(page)
    page.emulate_media(color_scheme="light")
    take_picture(page, f"{name}-light")
    assert_fits(page, DESKTOP["width"])
    page.set_viewport_size(PHONE)
    take_picture(page, f"{name}-phone")
    assert_accessible(page)
    assert_fits(page, PHONE["width"])


def assert_fits(page: Page, width: int) -> None:
    """Nobody has to scroll sideways, but in what scrolls by itself."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def assert_accessible(page: Page) -> None:
    """axe-core finds nothing that it calls serious or critical."""
    found = Axe().run(page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    said = [f"{one['id']}: {one['help']}: {node['html'][:200]}" for one in serious for node in one["nodes"]]
    assert said == []


def take_picture(page: Page, name: str) -> None:
    """For the documentation, and only when it is asked for."""
    if PICTURES:
        image = Image.open(io.BytesIO(page.screenshot(animations="disabled")))
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        image.convert("RGB").quantize(COLOURS).save(Path(PICTURES) / f"{name}.png", optimize=True)
