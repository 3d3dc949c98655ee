"""The example object_detector does what its README says, and detects."""

from __future__ import annotations

import json
from urllib.request import Request, urlopen

from tests.examples.walkthrough import Step, Walkthrough

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


def overlap(a: list[float], b: list[float]) -> float:
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    areas = sum((right - left) * (bottom - top) for left, top, right, bottom in (a, b))
    return shared / (areas - shared)
