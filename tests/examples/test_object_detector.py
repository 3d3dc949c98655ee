"""The example object_detector does what its README says, and detects."""

from __future__ import annotations

import json
from urllib.request import Request, urlopen

from playwright.sync_api import Browser, expect

from tests.browser import Watched, browser
from tests.console.steps import send, shown, wait_prefilled
from tests.examples.walkthrough import Step, Walkthrough

__all__ = ["browser"]

EXAMPLE = "object_detector"


def test_readme(step: Step, walk: Walkthrough) -> None:
    walk.check(step)


def test_every_shape_of_the_held_out_picture_is_found(walk: Walkthrough) -> None:
    truth = json.loads((walk.folder / "held_out.json").read_text())
    request = Request(
        f"{walk.server.http_url}/v2/models/detector/infer",
        (walk.folder / "held_out.bin").read_bytes(),
        {"Inference-Header-Content-Length": "128"},
    )
    with urlopen(request) as response:
        answer = {output["name"]: output["data"] for output in json.load(response)["outputs"]}
    boxes = [answer["boxes"][start : start + 4] for start in range(0, len(answer["boxes"]), 4)]
    found = list(zip(boxes, answer["labels"], strict=True))
    assert len(found) == len(truth) == 3
    assert answer["scores"] == sorted(answer["scores"], reverse=True)
    best_box, best_label = found[0]
    assert any(overlap(best_box, shape["box"]) > 0.5 and best_label == shape["label"] for shape in truth)
    for shape in truth:
        assert max(overlap(box, shape["box"]) for box, label in found if label == shape["label"]) > 0.5


def test_the_console_draws_what_it_finds_over_the_picture(walk: Walkthrough, browser: Browser) -> None:
    visit = Watched(browser, walk.server.http_url)
    page = visit.open("#/models/detector/inference")
    wait_prefilled(page)
    send(page)
    shown(page, "tensor-file").set_input_files(walk.folder / "held_out.png")
    expect(shown(page, "tensor-file-name")).to_contain_text("held_out.png")
    send(page)
    shown(page, "view-drawn").click()
    expect(shown(page, "drawn-box")).to_have_count(3)
    labels = shown(page, "drawn-box").evaluate_all("all => all.map(box => box.dataset.label).sort()")
    assert labels == ["circle", "square", "triangle"]
    visit.close()


def overlap(a: list[float], b: list[float]) -> float:
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    areas = sum((right - left) * (bottom - top) for left, top, right, bottom in (a, b))
    return shared / (areas - shared)
