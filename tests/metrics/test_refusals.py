"""Who is refused at the door is counted by the code alone: no key, name or address of theirs is shown."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from oipserver.config import AccessConfig
from tests.access.running import KeyedServer, entry, key
from tests.grpc.running import failure, raw_request

BODY = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [1.0, 2.0]}]}
INFER = "/v2/models/m/infer"


@pytest.fixture(scope="module")
def server() -> Iterator[KeyedServer]:
    keys = [
        entry("slow", roles=["infer"], rate=0.001, burst=1),
        entry("other", roles=["infer"], models=["o*"]),
    ]
    with KeyedServer(AccessConfig(keys=json.dumps(keys))) as server:
        yield server


def counts(server: KeyedServer) -> dict[tuple[str, str, str], float]:
    """Requests by front, model and code."""
    text = server.ask("GET", "/metrics").body.decode()
    return {
        (sample.labels["front"], sample.labels["model"], sample.labels["code"]): sample.value
        for family in parse_plain(text)
        for sample in family.samples
        if sample.name == "oip_requests_total"
    }


def grown(
    server: KeyedServer, before: dict[tuple[str, str, str], float]
) -> dict[tuple[str, str, str], float]:
    return {
        name: count - before.get(name, 0)
        for name, count in counts(server).items()
        if count != before.get(name)
    }


@pytest.mark.parametrize("front", ["http", "grpc"])
def test_strangers_are_counted_without_a_name(server: KeyedServer, front: str) -> None:
    numbers = random.Random(front)

    def refused() -> None:
        stranger = "".join(numbers.choices("abcdef", k=12))
        if front == "http":
            server.ask("POST", f"/v2/models/{stranger}/infer", BODY, x_api_key=stranger).error("UNAUTHORIZED")
            return
        message = raw_request(1.0, model=stranger).SerializeToString()
        code, *_ = failure(lambda: server.call("ModelInfer", message, x_api_key=stranger))
        assert code is grpc.StatusCode.UNAUTHENTICATED

    before = counts(server)
    for _ in range(5):
        refused()
    assert grown(server, before) == {(front, "", "UNAUTHORIZED"): 5}


def test_who_may_not_and_who_asks_too_often_are_counted(server: KeyedServer) -> None:
    before = counts(server)
    server.ask("POST", INFER, BODY, x_api_key=key("other")).error("FORBIDDEN")
    assert server.ask("POST", INFER, BODY, x_api_key=key("slow")).status == 200
    server.ask("POST", INFER, BODY, x_api_key=key("slow")).error("RATE_LIMIT")
    found = grown(server, before)
    assert {(front, code): count for (front, _, code), count in found.items()} == {
        ("http", "FORBIDDEN"): 1,
        ("http", "OK"): 1,
        ("http", "RATE_LIMIT"): 1,
    }
    assert {model for _, model, _ in found} <= {"", "m"}
