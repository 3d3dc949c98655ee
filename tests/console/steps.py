"""What people do in the console, and what they see."""

from __future__ import annotations

import io
import json
from typing import Any

from PIL import Image
from playwright.sync_api import FilePayload, Locator, Page, expect

IRIS = "#/models/iris/inference"
SETOSA = {"inputs": [{"name": "input-0", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]}


def shown(page: Page, name: str) -> Locator:
    """By test id, what can be seen of it: views that are left stay in the page."""
    return page.get_by_test_id(name).filter(visible=True)


def wait_prefilled(page: Page) -> None:
    """Return when the request is there."""
    expect(shown(page, "send")).to_be_enabled()
    expect(shown(page, "editor").locator(".cm-content")).to_contain_text("inputs")


def body_of(page: Page) -> str:
    """The text of the editor."""
    text: str = (
        shown(page, "editor")
        .locator(".cm-content")
        .evaluate(
            "content => [...content.querySelectorAll('.cm-line')].map(line => line.textContent).join('\\n')"
        )
    )
    return text


def write_body(page: Page, body: Any) -> None:
    """Replace the text of the editor, as by pasting."""
    text = body if isinstance(body, str) else json.dumps(body)
    shown(page, "editor").locator(".cm-content").click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(text)


def send(page: Page) -> Locator:
    """Press Send, and the response when it is there."""
    response = shown(page, "response")
    shown(page, "send").click()
    expect(shown(page, "send")).to_be_visible()
    expect(response).to_have_attribute("aria-busy", "false")
    expect(response).to_have_attribute("data-status", "200")
    return response


def refused(page: Page, status: str) -> str:
    """Press Send, and the words of the failure."""
    shown(page, "send").click()
    expect(shown(page, "response")).to_have_attribute("data-status", status)
    return shown(page, "response-error").inner_text()


def answer_of(page: Page) -> Any:
    """The answer that is shown."""
    shown(page, "view-raw").click()
    return json.loads(shown(page, "response-body").locator("pre").inner_text())


def upload(page: Page, name: str, kind: str, content: bytes) -> None:
    """Choose a file for the first tensor."""
    file: FilePayload = {"name": name, "mimeType": kind, "buffer": content}
    shown(page, "tensor-file").set_input_files(file)


def upload_picture(page: Page) -> None:
    """Choose a picture of three fields, and see it."""
    upload(page, "fields.png", "image/png", picture())
    expect(shown(page, "tensor-file-name")).to_contain_text("fields.png")


def rows(*values: float) -> dict[str, Any]:
    """A request of the slow, the broken, or another model that takes a list of numbers."""
    return {"inputs": [{"name": "x", "shape": [len(values)], "datatype": "FP64", "data": list(values)}]}


def picture() -> bytes:
    """A PNG file of a red, a green and a blue field."""
    image = Image.new("RGB", (120, 80), "white")
    for colour, place in (("red", (10, 10, 40, 40)), ("green", (60, 5, 110, 30)), ("blue", (50, 50, 70, 75))):
        image.paste(colour, place)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
