"""What goes wrong is told in words: which server, which field, what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.conformance.wires import ask
from tests.console.conftest import Visit, configured, python
from tests.console.steps import IRIS, SETOSA, refused, rows, send, shown, wait_prefilled, write_body
from tests.server_process import ServerProcess

Open = Callable[[str], Page]


# Of which the model wants four.
THREE = """{
  "inputs": [{
    "name": "input-0",
    "shape": [1, 3],
    "datatype": "FP64",
    "data": [1, 2, 3]
  }]
}"""


def enter_key(page: Page, key: str) -> None:
    shown(page, "api-key").fill(key)
    shown(page, "api-key").press("Enter")


def test_400_marks_the_line_and_names_the_field(console: Open) -> None:
    page = console(IRIS)
    wait_prefilled(page)
    write_body(page, THREE)
    words = refused(page, "400")
    assert "shape" in words
    error = shown(page, "editor-error")
    expect(error).to_contain_text("Line 4")
    expect(error).to_have_attribute("data-line", "4")
    expect(shown(page, "editor").locator(".cm-error-line")).to_have_text('    "shape": [1, 3],')
    write_body(page, SETOSA)
    expect(page.get_by_test_id("editor-error")).to_have_count(0)
    send(page)


def test_400_for_what_is_no_json(console: Open) -> None:
    page = console(IRIS)
    wait_prefilled(page)
    write_body(page, '{"inputs": [}')
    assert "JSON" in refused(page, "400")


def test_400_for_another_datatype_and_a_tensor_that_is_not_there(console: Open) -> None:
    page = console(IRIS)
    wait_prefilled(page)
    write_body(page, {"inputs": [{**SETOSA["inputs"][0], "datatype": "FLOAT"}]})
    assert "FLOAT" in refused(page, "400")
    write_body(page, {**SETOSA, "outputs": [{"name": "nothing"}]})
    assert "nothing" in refused(page, "400")


def test_500_tells_nothing_of_the_model_and_where_to_look(console: Open) -> None:
    page = console("#/models/broken/inference")
    wait_prefilled(page)
    write_body(page, rows(-1))
    words = refused(page, "500")
    assert "log" in words
    assert "secret" not in words
    expect(shown(page, "request-id")).not_to_be_empty()


def test_504_a_deadline_that_passed(console: Open) -> None:
    page = console("#/models/slow/inference")
    wait_prefilled(page)
    write_body(page, {**rows(0.5), "parameters": {"timeout": 50_000}})
    assert "deadline" in refused(page, "504")


def test_a_request_can_be_stopped(console: Open) -> None:
    page = console("#/models/slow/inference")
    wait_prefilled(page)
    page.route("**/infer", lambda _: None)  # it stays on its way for as long as it takes to stop it
    shown(page, "send").click()
    shown(page, "stop").click()
    expect(shown(page, "response-error")).to_contain_text("topped")
    expect(shown(page, "send")).to_be_enabled()


def test_503_a_model_that_is_not_ready(visit: Visit, half_ready: ServerProcess) -> None:
    page = visit(half_ready).open("#/models/late/inference")
    expect(page.get_by_text("Not ready").first).to_be_visible()
    expect(page.get_by_text("late").first).to_be_visible()
    page.goto(f"{half_ready.http_url}/console/#/client?method=POST&path=/v2/models/late/infer")
    shown(page, "http-body").fill('{"inputs": []}')
    shown(page, "http-send").click()
    expect(shown(page, "response")).to_have_attribute("data-status", "503")
    expect(shown(page, "response-error")).to_contain_text("Not ready")
    expect(shown(page, "response-error")).to_contain_text("Try again")


def test_404_a_model_that_is_not_there(console: Open) -> None:
    page = console("#/models/nobody/metadata")
    expect(shown(page, "metadata-error")).to_contain_text("nobody")


def test_401_until_a_key_is_entered_and_403_where_it_is_not_for(visit: Visit, keyed: ServerProcess) -> None:
    page = visit(keyed).open()
    expect(shown(page, "chip-live")).to_have_attribute("data-state", "good")
    expect(shown(page, "services-error")).to_contain_text("key")
    enter_key(page, "oip_wrong")
    expect(shown(page, "services-error")).to_contain_text("key")
    enter_key(page, "oip_shout_only")
    expect(shown(page, "service")).to_have_count(1)
    page.goto(f"{keyed.http_url}/console/#/models/iris/metadata")
    expect(shown(page, "metadata-error")).to_contain_text("This key may not do that")
    enter_key(page, "oip_everything")
    expect(shown(page, "metadata-name")).to_have_text("iris")


def test_the_key_is_of_this_tab_alone(visit: Visit, keyed: ServerProcess) -> None:
    visiting = visit(keyed)
    page = visiting.open()
    enter_key(page, "oip_everything")
    page.goto(f"{keyed.http_url}/console/#/models/iris/inference")
    wait_prefilled(page)
    send(page)
    page.reload()
    wait_prefilled(page)
    assert "oip_everything" not in page.evaluate("JSON.stringify({...localStorage})")
    with page.expect_download() as saved:
        shown(page, "history-export").click()
    assert "oip_everything" not in saved.value.path().read_text()
    shown(page, "export-open").click()
    expect(shown(page, "export-text")).not_to_contain_text("oip_everything")
    shown(page, "export-with-key").check()
    expect(shown(page, "export-text")).to_contain_text("oip_everything")
    other = visiting.open()
    expect(shown(other, "services-error")).to_contain_text("key")
    shown(page, "export-close").click()
    shown(page, "api-key-clear").click()
    assert "oip_" not in page.evaluate("JSON.stringify({...sessionStorage})")
    refused(page, "401")


def test_429_says_when_to_try_again(visit: Visit, keyed: ServerProcess) -> None:
    page = visit(keyed).open()
    enter_key(page, "oip_rarely")
    page.goto(f"{keyed.http_url}/console/#/models/shout/inference")
    wait_prefilled(page)
    exhaust(keyed, "oip_rarely")
    words = refused(page, "429")
    assert "Too many requests" in words
    assert "Try again in" in words


def exhaust(server: ServerProcess, key: str) -> None:
    """Ask until the key has no request left."""
    headers = {"Authorization": f"Bearer {key}"}
    while ask(server.http_port, "GET", "/v2", headers=headers).status == 200:
        pass


def test_a_connection_that_is_lost(visit: Visit, tmp_path: Path) -> None:
    with ServerProcess(configured(tmp_path, models=[python("shout")])) as server:
        page = visit(server).open("#/models/shout/inference")
        wait_prefilled(page)
        send(page)
    assert "No connection" in refused(page, "error")
    expect(shown(page, "history-item")).to_have_count(2)
    page.close()
