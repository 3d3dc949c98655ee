"""The eight steps of the InferenceV2 Client's specification, in a real browser against a real server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.console.conftest import Visit, configured, python
from tests.console.steps import (
    IRIS,
    SETOSA,
    answer_of,
    body_of,
    rows,
    send,
    shown,
    upload_picture,
    wait_prefilled,
    write_body,
)
from tests.server_process import ServerProcess, lasting_port

Open = Callable[[str], Page]


def test_1_the_chips_are_green_on_opening(console: Open) -> None:
    page = console("")
    for chip in ("chip-ready", "chip-live"):
        expect(shown(page, chip)).to_have_attribute("data-state", "good")
        expect(page.get_by_test_id(f"{chip}-reason")).to_have_count(0)


def test_1_live_is_judged_by_itself_and_a_reason_is_given(visit: Visit, half_ready: ServerProcess) -> None:
    page = visit(half_ready).open()
    expect(shown(page, "chip-ready")).to_have_attribute("data-state", "bad")
    expect(shown(page, "chip-ready-reason")).to_contain_text("late")
    expect(shown(page, "chip-live")).to_have_attribute("data-state", "good")
    expect(page.get_by_test_id("chip-live-reason")).to_have_count(0)


def test_1_the_chips_are_kept_fresh(visit: Visit, tmp_path: Path) -> None:
    flags = configured(tmp_path, models=[python("shout")]), f"--http-port={lasting_port()}"
    first = ServerProcess(*flags).start()
    first.wait_ready()
    visiting = visit(first)
    page = visiting.context.new_page()
    page.clock.install()
    page.goto(f"{first.http_url}/console/")
    expect(shown(page, "chip-live")).to_have_attribute("data-state", "good")
    first.stop()
    page.clock.fast_forward(10_000)
    expect(shown(page, "chip-live")).to_have_attribute("data-state", "bad")
    expect(shown(page, "chip-ready")).to_have_attribute("data-state", "bad")
    expect(shown(page, "connection-lost")).to_contain_text("lost")
    with ServerProcess(*flags):
        page.clock.fast_forward(10_000)
        expect(shown(page, "chip-ready")).to_have_attribute("data-state", "good")
        expect(page.get_by_test_id("connection-lost")).to_have_count(0)
        page.close()


def test_2_services_have_states_urls_to_copy_and_a_client(console: Open, server: ServerProcess) -> None:
    page = console("")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    services = shown(page, "services").get_by_test_id("service")
    expect(services).to_have_count(5)
    iris = services.and_(page.locator("[data-model=iris]"))
    expect(iris.get_by_test_id("service-state")).to_have_text("READY")
    url = f"{server.http_url}/v2/models/iris/infer"
    expect(iris.get_by_test_id("service-url").first).to_have_text(url)
    iris.get_by_test_id("service-copy").first.click()
    page.wait_for_function("async url => (await navigator.clipboard.readText()) === url", arg=url)
    iris.get_by_test_id("service-client").first.click()
    expect(page).to_have_url(f"{server.http_url}/console/{IRIS}")


def test_2_a_client_is_active_when_the_model_is_ready(visit: Visit, half_ready: ServerProcess) -> None:
    page = visit(half_ready).open()
    for model, active in (("shout", True), ("late", False)):
        service = shown(page, "service").and_(page.locator(f"[data-model={model}]"))
        expect(service.get_by_test_id("service-client")).to_be_enabled(enabled=active)


def test_3_the_request_is_preconfigured_and_its_method_fixed(console: Open, server: ServerProcess) -> None:
    page = console(IRIS)
    wait_prefilled(page)
    expect(shown(page, "method")).to_have_text("POST")
    expect(shown(page, "url")).to_have_text(f"{server.http_url}/v2/models/iris/infer")
    for name in ("method", "url"):
        assert shown(page, name).evaluate(
            "element => !element.isContentEditable && !element.matches('input,select')"
        )
    asked: list[tuple[str, str]] = []
    page.on("request", lambda request: asked.append((request.method, request.url)))
    send(page)
    assert ("POST", f"{server.http_url}/v2/models/iris/infer") in asked


def test_4_the_editor_highlights_and_validates(console: Open) -> None:
    page = console(IRIS)
    wait_prefilled(page)
    write_body(page, '{"inputs": [1, "two"')
    colours = (
        shown(page, "editor")
        .locator(".cm-line span")
        .evaluate_all("spans => [...new Set(spans.map(span => getComputedStyle(span).color))]")
    )
    assert len(colours) >= 2
    expect(shown(page, "editor-error")).to_contain_text("Line 1")


@pytest.mark.parametrize("model", ["iris", "finder", "shout", "slow", "broken"])
def test_5_send_works_at_the_first_click(console: Open, model: str) -> None:
    page = console(f"#/models/{model}/inference")
    wait_prefilled(page)
    send(page)
    assert answer_of(page)["model_name"] == model


def test_5_what_is_written_is_what_is_sent(console: Open) -> None:
    page = console(IRIS)
    wait_prefilled(page)
    write_body(page, {**SETOSA, "id": "mine"})
    send(page)
    answer = answer_of(page)
    assert (answer["id"], answer["outputs"][0]["data"]) == ("mine", [0])


def test_6_the_response_is_shown_as_json_as_it_came_and_as_html(console: Open) -> None:
    page = console("#/models/shout/inference")
    wait_prefilled(page)
    write_body(page, {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["<b>hi</b>"]}]})
    response = send(page)
    expect(response.get_by_test_id("response-status")).to_have_text("200 OK")
    shown(page, "view-json").click()
    lines = response.locator(".cm-line")
    expect(lines.first).to_have_text("{")
    assert lines.count() > 5, "formatted"
    assert answer_of(page)["outputs"][0]["data"] == ["<B>HI</B>"]
    shown(page, "view-html").click()
    frame = shown(page, "response-html")
    expect(frame).to_have_attribute("sandbox", "")
    expect(frame.content_frame.locator("b")).to_have_text("HI")


def test_7_the_ten_most_recent_requests_are_kept_in_the_browser(console: Open) -> None:
    page = console("#/models/slow/inference")
    wait_prefilled(page)
    for number in range(12):
        write_body(page, rows(0, number))
        send(page)
        expect(shown(page, "history-item").first).to_contain_text(f"0, {number}")
    expect(shown(page, "history-item")).to_have_count(10)
    page.reload()
    wait_prefilled(page)
    items = shown(page, "history-item")
    expect(items).to_have_count(10)
    expect(items.last).to_contain_text("0, 2")


def test_7_a_request_is_opened_with_its_response_and_replayed(console: Open) -> None:
    page = console("#/models/slow/inference")
    wait_prefilled(page)
    for number in (1, 2):
        write_body(page, rows(0, number))
        send(page)
    expect(shown(page, "history-item")).to_have_count(2)
    shown(page, "history-open").last.click()
    assert json.loads(body_of(page)) == rows(0, 1)
    assert answer_of(page)["outputs"][0]["data"] == [0, 1]
    with page.expect_response("**/infer") as replayed:
        shown(page, "history-replay").first.click()
    assert replayed.value.request.post_data_json == rows(0, 2)
    expect(shown(page, "history-item")).to_have_count(3)


def test_8_metadata_are_shown(console: Open) -> None:
    page = console(IRIS)
    shown(page, "tab-metadata").click()
    expect(shown(page, "metadata-method")).to_have_text("GET")
    expect(shown(page, "metadata-name")).to_have_text("iris")
    expect(shown(page, "metadata-version")).to_have_text("1, 2")
    expect(shown(page, "metadata-platform")).to_have_text("sklearn")
    cells = ["input-0", "FP64", "[-1, 4]"]
    expect(shown(page, "metadata-input").locator("td").filter(has_text=cells[0])).to_have_count(1)
    assert shown(page, "metadata-input").locator("td").all_inner_texts()[:3] == cells
    assert shown(page, "metadata-output").first.locator("td").all_inner_texts()[:2] == ["predict", "INT64"]


def test_8_there_is_a_full_screen_mode(console: Open) -> None:
    page = console(IRIS)
    shown(page, "fullscreen-toggle").click()
    page.wait_for_function("document.fullscreenElement !== null")
    shown(page, "fullscreen-leave").click()
    page.wait_for_function("document.fullscreenElement === null")
    expect(page.get_by_test_id("fullscreen-leave")).to_have_count(0)


def test_all_steps_with_a_detector(console: Open) -> None:
    page = console("")
    shown(page, "service").and_(page.locator("[data-model=finder]")).get_by_test_id("service-client").click()
    wait_prefilled(page)
    expect(shown(page, "chip-ready")).to_have_attribute("data-state", "good")
    upload_picture(page)
    expect(shown(page, "tensor-preview")).to_be_visible()
    send(page)
    shown(page, "view-drawn").click()
    boxes = shown(page, "drawn-box")
    expect(boxes).to_have_count(3)
    assert boxes.evaluate_all("all => all.map(box => box.dataset.label)") == ["red", "green", "blue"]
    red = boxes.first.locator("rect").last
    place = [red.get_attribute(name) for name in ("x", "y", "width", "height")]
    assert place == ["10", "10", "30", "30"]
    picture_sent = (
        shown(page, "drawn-boxes")
        .locator("img")
        .evaluate("image => [image.naturalWidth, image.naturalHeight]")
    )
    assert picture_sent == [120, 80]
    expect(shown(page, "history-item")).to_have_count(1)
    shown(page, "tab-metadata").click()
    expect(shown(page, "metadata-output")).to_have_count(3)
