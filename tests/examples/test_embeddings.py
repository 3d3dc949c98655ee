"""The example embeddings does what its README says; its routes and the v2 API are one model."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.examples.walkthrough import Step, Walkthrough

EXAMPLE = "embeddings"
TEXTS = ["The cat sleeps in the tree.", "A dog barks in the garden.", "The bus to the airport is late."]


def test_readme(step: Step, walk: Walkthrough) -> None:
    walk.check(step)


def test_every_way_in_gives_the_same_vectors(walk: Walkthrough) -> None:
    one_by_one = [ask(walk, "/embed", {"text": text})["embedding"] for text in TEXTS]
    together = ask(walk, "/batch_embed", {"texts": TEXTS})["embeddings"]
    rows = {"name": "input-0", "shape": [3, 1], "datatype": "BYTES", "data": TEXTS}
    (output,) = ask(walk, "/v2/models/embedder/infer", {"inputs": [rows]})["outputs"]
    assert output["shape"] == [3, 8]
    assert output["data"] == [number for vector in together for number in vector]
    # How many rows go through BLAS together decides its last digits.
    assert [pytest.approx(vector, rel=1e-9, abs=1e-12) for vector in one_by_one] == together


def test_many_single_texts_are_few_calls_of_the_model(walk: Walkthrough) -> None:
    """In one round at least: on a busy machine the texts may come one by one."""
    calls_made: list[float] = []
    with ThreadPoolExecutor(32) as threads:
        while len(calls_made) < 10:
            calls_before, rows_before = batches(walk)
            list(threads.map(lambda number: ask(walk, "/embed", {"text": f"bus {number}"}), range(500)))
            calls, rows = batches(walk)
            assert rows - rows_before == 500
            calls_made.append(calls - calls_before)
            if calls_made[-1] < 400:
                return
    raise AssertionError(calls_made)


def ask(walk: Walkthrough, path: str, body: dict[str, Any]) -> dict[str, Any]:
    with urlopen(Request(walk.server.http_url + path, json.dumps(body).encode())) as answer:
        document: dict[str, Any] = json.load(answer)
        return document


def batches(walk: Walkthrough) -> tuple[float, float]:
    """Calls of the model, and the rows in all of them."""
    with urlopen(walk.server.http_url + "/metrics") as answer:
        text = answer.read().decode()
    calls, rows = (re.search(rf"^oip_batch_rows_{what}{{.*}} (.*)$", text, re.M) for what in ("count", "sum"))
    assert calls is not None
    assert rows is not None
    return float(calls[1]), float(rows[1])
