"""What the console does beyond its specification: forms, pictures, exports, comparison, load, figures."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from google.protobuf import json_format
from playwright.sync_api import Page, expect

from oipserver.grpc._generated import open_inference_pb2 as pb
from tests.console.conftest import Visit
from tests.console.steps import (
    IRIS,
    SETOSA,
    answer_of,
    body_of,
    rows,
    send,
    shown,
    upload,
    upload_picture,
    wait_prefilled,
    write_body,
)
from tests.server_process import ServerProcess
from tests.support import PATIENCE

Open = Callable[[str], Page]
TRITON = Path(__file__).parents[2] / ".envs" / "tritonclient" / "bin" / "python"
PROBABILITIES = {**SETOSA, "outputs": [{"name": "predict"}, {"name": "predict_proba"}]}


@pytest.fixture
def iris(console: Open) -> Page:
    """The request for one iris, not sent yet."""
    page = console(IRIS)
    wait_prefilled(page)
    write_body(page, SETOSA)
    return page


def data_of(page: Page) -> Any:
    """The first input of the JSON, in one list."""
    flat: list[Any] = []
    waiting = [json.loads(body_of(page))["inputs"][0]["data"]]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, list):
            waiting[:0] = one
        else:
            flat.append(one)
    return flat


# --- the form beside the JSON ------------------------------------------------------------------------------


def test_a_cell_writes_the_json_and_the_json_the_cell(iris: Page) -> None:
    cells = shown(iris, "cell")
    expect(cells).to_have_count(4)
    cells.nth(1).fill("9.25")
    assert data_of(iris) == [5.1, 9.25, 1.4, 0.2]
    write_body(iris, {"inputs": [{**SETOSA["inputs"][0], "data": [1, 2, 3, 4]}]})
    expect(cells.nth(3)).to_have_value("4")
    cells.nth(0).fill("many")
    expect(cells.nth(0)).to_have_attribute("aria-invalid", "true")
    assert data_of(iris) == [1, 2, 3, 4]


def test_rows_are_added(iris: Page) -> None:
    shown(iris, "row-add").click()
    expect(shown(iris, "cell")).to_have_count(8)
    send(iris)
    assert answer_of(iris)["outputs"][0]["shape"] == [2, 1]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_is_pasted(iris: Page, separator: str) -> None:
    iris.get_by_text("Paste a table").click()
    lines = [(5.1, 3.5, 1.4, 0.2), (6.2, 3.4, 5.4, 2.3), (5.9, 3.0, 4.2, 1.5)]
    shown(iris, "tensor-csv").fill("\n".join(separator.join(map(str, line)) for line in lines))
    shown(iris, "tensor-csv-apply").click()
    assert data_of(iris) == [value for line in lines for value in line]
    send(iris)
    assert answer_of(iris)["outputs"][0]["data"] == [0, 2, 1]


def test_a_table_that_does_not_fit_is_told_so(iris: Page) -> None:
    iris.get_by_text("Paste a table").click()
    shown(iris, "tensor-csv").fill("1,2,3,4\n5,6")
    shown(iris, "tensor-csv-apply").click()
    expect(iris.get_by_text("Line 2")).to_be_visible()
    assert data_of(iris) == SETOSA["inputs"][0]["data"]


def test_a_csv_file_is_taken(iris: Page) -> None:
    upload(iris, "rows.csv", "text/csv", b"6.2,3.4,5.4,2.3\n5.1,3.5,1.4,0.2\n")
    expect(shown(iris, "cell")).to_have_count(8)
    send(iris)
    assert answer_of(iris)["outputs"][0]["data"] == [2, 0]


def test_text_is_written_in_a_field(console: Open) -> None:
    page = console("#/models/shout/inference")
    wait_prefilled(page)
    shown(page, "cell").first.fill('a "quoted" line\nand Ä')
    send(page)
    assert answer_of(page)["outputs"][0]["data"] == ['A "QUOTED" LINE\nAND Ä']


def test_a_picture_goes_back_to_json(console: Open) -> None:
    page = console("#/models/finder/inference")
    wait_prefilled(page)
    upload_picture(page)
    shown(page, "tensor-file-remove").click()
    expect(page.get_by_test_id("tensor-preview")).to_have_count(0)
    assert data_of(page) == [""]


# --- what is kept and chosen -------------------------------------------------------------------------------


def test_switching_loses_nothing(console: Open) -> None:
    page = console("#/models/finder/inference")
    wait_prefilled(page)
    upload_picture(page)
    send(page)
    before = body_of(page)
    for name in ("tab-metadata", "nav-services", "nav-server", "nav-client"):
        shown(page, name).click()
    page.goto(page.url.split("#")[0] + "#/models/finder/inference")
    assert body_of(page) == before
    expect(shown(page, "tensor-file-name")).to_contain_text("fields.png")
    expect(shown(page, "response")).to_have_attribute("data-status", "200")


def test_a_version_is_picked(iris: Page) -> None:
    send(iris)
    assert answer_of(iris)["model_version"] == "2", "the latest one"
    pick_version(iris, "1")
    assert json.loads(body_of(iris)) == SETOSA, "the request is kept"
    send(iris)
    assert answer_of(iris)["model_version"] == "1"


def pick_version(page: Page, version: str) -> None:
    shown(page, "version-picker").select_option(version)
    expect(shown(page, "url")).to_contain_text(f"/v2/models/iris/versions/{version}/infer")


def test_where_the_time_went_and_how_it_was(iris: Page) -> None:
    for _ in range(3):
        send(iris)
    for name in ("timing-queue", "timing-compute"):
        assert float(shown(iris, name).get_attribute("data-value") or "nan") >= 0
    expect(shown(iris, "timing-batch")).to_have_text("1 row")
    expect(shown(iris, "response-latency")).to_contain_text("ms")
    assert len((shown(iris, "sparkline").locator("polyline").get_attribute("points") or "").split()) == 3


def test_history_is_searched_pinned_and_exported(console: Open) -> None:
    page = console("#/models/slow/inference")
    wait_prefilled(page)
    write_body(page, rows(0, 777777))
    send(page)
    shown(page, "history-pin").click()
    for number in range(11):
        write_body(page, rows(0, number))
        send(page)
        expect(shown(page, "history-item").first).to_contain_text(f"0, {number}")
    expect(shown(page, "history-item")).to_have_count(11)
    expect(shown(page, "history-item").last).to_have_attribute("data-pinned", "true")
    shown(page, "history-search").fill("777777")
    expect(shown(page, "history-item")).to_have_count(1)
    with page.expect_download() as saved:
        shown(page, "history-export").click()
    kept = json.loads(saved.value.path().read_text())
    assert (kept["model"], len(kept["entries"])) == ("slow", 11)
    shown(page, "history-search").fill("")
    shown(page, "history-clear").click()
    expect(shown(page, "history-item")).to_have_count(1)


# --- what came back ----------------------------------------------------------------------------------------


def test_probabilities_are_bars(iris: Page) -> None:
    shown(iris, "requested-output").and_(iris.locator("[data-output=predict_proba]")).check()
    assert {one["name"] for one in json.loads(body_of(iris))["outputs"]} == {"predict", "predict_proba"}
    send(iris)
    shown(iris, "view-drawn").click()
    bars = (
        shown(iris, "drawn-bars")
        .and_(iris.locator("[data-output=predict_proba]"))
        .get_by_test_id("drawn-bar")
    )
    expect(bars).to_have_count(3)
    widths = bars.locator(".bar > span").evaluate_all("all => all.map(bar => parseFloat(bar.style.width))")
    assert sum(widths) == pytest.approx(100, abs=0.1)
    assert widths[0] == max(widths)
    expect(shown(iris, "drawn-table").and_(iris.locator("[data-output=predict]"))).to_be_visible()


def test_many_numbers_are_a_histogram(console: Open) -> None:
    page = console("#/models/slow/inference")
    wait_prefilled(page)
    write_body(page, rows(0, *range(50)))
    send(page)
    shown(page, "view-drawn").click()
    expect(shown(page, "drawn-histogram")).to_be_visible()


def test_two_answers_are_compared(iris: Page) -> None:
    write_body(iris, PROBABILITIES)
    send(iris)
    pick_version(iris, "1")
    send(iris)
    expect(shown(iris, "history-item")).to_have_count(2)
    for item in shown(iris, "history-item").all():
        item.get_by_test_id("history-compare").click()
    shown(iris, "tab-compare").click()
    difference = shown(iris, "compare-diff")
    expect(difference).to_have_attribute("data-differences", re.compile("[1-9]"))
    expect(difference).to_contain_text("predict_proba")
    same = shown(iris, "compare-left").input_value()
    shown(iris, "compare-right").select_option(same)
    expect(difference).to_have_attribute("data-differences", "0")


# --- the same from elsewhere -------------------------------------------------------------------------------


@pytest.fixture(params=["iris", "finder"])
def exported(console: Open, request: pytest.FixtureRequest) -> Callable[[str], tuple[str, Any]]:
    """The text of an export, and the answer that the page got to the same request."""
    page = console(f"#/models/{request.param}/inference")
    wait_prefilled(page)
    if request.param == "finder":
        upload_picture(page)
    else:
        write_body(page, PROBABILITIES)
    send(page)
    answer = answer_of(page)

    def export(way: str) -> tuple[str, Any]:
        shown(page, "export-open").click()
        shown(page, f"export-{way}").click()
        return shown(page, "export-text").inner_text(), answer["outputs"]

    return export


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_asks_the_same(exported: Callable[[str], tuple[str, Any]]) -> None:
    text, outputs = exported("curl")
    command = text.replace("curl ", "curl --noproxy '*' ", 1)
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
    assert json.loads(done.stdout)["outputs"] == outputs


@pytest.mark.skipif(not TRITON.exists(), reason="no environment with tritonclient: run 'make test'")
def test_python_asks_the_same(exported: Callable[[str], tuple[str, Any]]) -> None:
    text, outputs = exported("python")
    done = subprocess.run([TRITON, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(output["name"] in done.stdout for output in outputs)


def test_grpcurl_would_ask_the_same(
    exported: Callable[[str], tuple[str, Any]], server: ServerProcess
) -> None:
    """grpcurl is not at hand; what it would read is the request in protobuf's own JSON."""
    text, outputs = exported("grpcurl")
    assert "inference.GRPCInferenceService/ModelInfer" in text
    script = f"grpcurl() {{ cat; }}\n{text}"
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    request = json_format.Parse(said, pb.ModelInferRequest())
    with grpc.insecure_channel(server.grpc_target) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        response = infer(request)
    assert [one.name for one in response.outputs] == [one["name"] for one in outputs]


# --- load, and the server's figures ------------------------------------------------------------------------


def test_a_load_run_has_percentiles_and_a_chart(iris: Page) -> None:
    shown(iris, "tab-load").click()
    shown(iris, "load-requests").fill("40")
    shown(iris, "load-concurrency").fill("4")
    shown(iris, "load-start").click()
    expect(shown(iris, "load-result")).to_have_attribute("data-state", "done")
    expect(shown(iris, "load-result")).to_contain_text("40 / 40")
    expect(shown(iris, "load-errors")).to_have_text("0")
    p50, p95 = (float(shown(iris, name).inner_text().split()[0]) for name in ("load-p50", "load-p95"))
    assert p50 > 0
    assert p95 > 0
    expect(shown(iris, "load-chart").locator("canvas, svg").first).to_be_visible()


def test_a_load_run_is_stopped(console: Open) -> None:
    page = console("#/models/slow/inference")
    wait_prefilled(page)
    write_body(page, rows(0.1))
    shown(page, "tab-load").click()
    shown(page, "load-requests").fill("1000")
    shown(page, "load-start").click()
    shown(page, "load-stop").click()
    expect(shown(page, "load-result")).to_have_attribute("data-state", "done")


def test_the_server_panel_lives(console: Open, server: ServerProcess) -> None:
    page = console("")
    body = json.dumps(SETOSA).encode()
    with page.expect_response("**/metrics"):
        shown(page, "nav-server").click()

    def figures() -> list[float]:
        names = ("panel-throughput", "panel-latency", "panel-batch")
        return [float(shown(page, name).get_attribute("data-value") or "0") for name in names]

    end = time.monotonic() + PATIENCE
    while min(figures()) <= 0:  # they are those between two looks
        assert time.monotonic() < end
        with page.expect_response("**/metrics"):
            for _ in range(20):
                urlopen(f"{server.http_url}/v2/models/iris/infer", body).close()
    expect(shown(page, "panel-queue")).to_have_attribute("data-value", "0")


# --- anything else that the server serves ------------------------------------------------------------------


def test_custom_routes_open_a_plain_client(console: Open, server: ServerProcess) -> None:
    page = console("")
    route = shown(page, "custom-route").and_(page.locator("[data-path='/score']"))
    expect(route).to_contain_text("The class of each iris.")
    route.get_by_test_id("service-client").click()
    expect(shown(page, "http-method")).to_have_value("POST")
    expect(shown(page, "http-url")).to_have_value("/score")
    shown(page, "http-body").fill('{"rows": [[5.1, 3.5, 1.4, 0.2]]}')
    shown(page, "http-send").click()
    expect(shown(page, "response")).to_have_attribute("data-status", "200")
    assert answer_of(page) == {"classes": [[0]]}
    shown(page, "http-method").select_option("DELETE")
    shown(page, "http-url").fill("/echo")
    shown(page, "http-headers").fill("X-Note: by hand")
    shown(page, "http-body").fill("text")
    shown(page, "http-send").click()
    expect(shown(page, "history-item")).to_have_count(2)
    assert answer_of(page) == {"method": "DELETE", "note": "by hand", "body": "text"}


def test_a_python_function_has_a_plain_client_beside_its_own(console: Open) -> None:
    page = console("")
    service = shown(page, "service").and_(page.locator("[data-model=shout]"))
    service.get_by_test_id("service-http").click()
    expect(shown(page, "http-url")).to_have_value("/v2/models/shout/infer")
    expect(shown(page, "http-body")).to_have_value(re.compile('"inputs"'))
    shown(page, "http-send").click()
    expect(shown(page, "response")).to_have_attribute("data-status", "200")


def test_html_of_a_route_runs_nothing_and_loads_nothing(visit: Visit, server: ServerProcess) -> None:
    visiting = visit(server)
    page = visiting.open("#/client?method=GET&path=/page")
    title = page.title()
    shown(page, "http-send").click()
    shown(page, "view-html").click()
    frame = shown(page, "response-html").content_frame
    expect(frame.locator("h1")).to_have_text("An answer in HTML")
    assert page.title() == title
    # That nothing was asked elsewhere is seen when it closes.
    script, image = visiting.wrong
    assert "Blocked script execution" in script
    assert "spy.png' violates" in image
    visiting.wrong.clear()


def test_the_client_asks_this_server_alone(console: Open) -> None:
    page = console("#/client")
    shown(page, "http-url").fill("http://192.0.2.1/")
    shown(page, "http-send").click()
    expect(shown(page, "response-error")).to_contain_text("this server alone")


# --- keys and themes ---------------------------------------------------------------------------------------


def test_it_works_from_the_keyboard(iris: Page) -> None:
    iris.locator("body").press("?")
    expect(shown(iris, "help-dialog")).to_be_visible()
    iris.keyboard.press("Escape")
    expect(iris.get_by_test_id("help-dialog")).to_have_count(0)
    shown(iris, "editor").locator(".cm-content").click()
    iris.keyboard.press("ControlOrMeta+Enter")
    expect(shown(iris, "response")).to_have_attribute("data-status", "200")
    iris.keyboard.press("Alt+2")
    expect(shown(iris, "metadata-name")).to_have_text("iris")
    shown(iris, "tab-metadata").focus()
    iris.keyboard.press("ArrowLeft")
    expect(shown(iris, "tab-inference")).to_be_focused()


def test_focus_is_seen_wherever_tab_leads(iris: Page) -> None:
    iris.locator("body").press("Tab")
    for _ in range(12):
        outline = iris.evaluate(
            """() => {
              let at = document.activeElement;
              while (at.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
              const style = getComputedStyle(at);
              return at === document.body || style.outlineStyle !== "none" || style.boxShadow !== "none"
                ? "" : at.outerHTML.slice(0, 200);
            }"""
        )
        assert outline == ""
        iris.keyboard.press("Tab")


def test_a_theme_is_chosen_and_kept(iris: Page) -> None:
    iris.emulate_media(color_scheme="light")
    paper = iris.evaluate("getComputedStyle(document.body).backgroundColor")
    shown(iris, "theme-toggle").click()
    expect(iris.locator("html")).to_have_attribute("data-theme", "dark")
    assert iris.evaluate("getComputedStyle(document.body).backgroundColor") != paper
    iris.reload()
    expect(iris.locator("html")).to_have_attribute("data-theme", "dark")
