"""The scoring paths of a model with a protocol of its own, without MLflow: who may ask, what travels, what is
refused, and that rows are computed with everybody's."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from oipserver import Arrays, BadRequest, Model, Parameters
from oipserver.core.observer import Ended, SilentObserver
from oipserver.http.app import create_app
from oipserver.http.door import InferSettings
from tests.support import Doubler, GatedModel, Plane, entered, run, until

SETTINGS = InferSettings(max_json_bytes=4096, max_body_bytes=8192, default_timeout=10.0)


class Lines:
    """Two numbers a line in, as many out."""

    media_types: Sequence[str] = ("text/csv", "application/json")
    outputs: Sequence[str] = ()
    version = "7.1"

    def read(self, body: bytes, media_type: str) -> tuple[Arrays, Parameters]:
        try:
            rows = json.loads(body) if media_type == "application/json" else _lines(body)
            return {"x": np.array(rows, dtype=np.float64)}, {}
        except ValueError as error:
            raise BadRequest(f"no numbers: {error}") from None

    def write(self, answer: Arrays) -> bytes:
        return json.dumps(answer["y"].tolist()).encode()


def _lines(body: bytes) -> list[list[float]]:
    return [[float(cell) for cell in line.split(",")] for line in body.decode().splitlines()]


class Scored(Doubler):
    scoring = Lines()


class GatedScored(GatedModel):
    scoring = Lines()


class Counted(SilentObserver):
    """The codes of finished requests, by model."""

    def __init__(self) -> None:
        self.codes: list[tuple[str, str]] = []

    def requests(self, ended: Ended) -> None:
        self.codes += [(ended.model, ended.code)] * len(ended.seconds)


async def _no_metrics(accept: str) -> tuple[str, bytes]:
    return "text/plain", b""


class Client:
    """One ASGI application, asked without a network."""

    def __init__(self, plane: Plane) -> None:
        self.app = create_app(plane.data, SETTINGS, _no_metrics)

    async def __call__(
        self, method: str, path: str, body: bytes = b"", left: asyncio.Event | None = None, **headers: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body; `left` is set when the caller has gone."""
        sent: list[Any] = []
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await (left or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()],
            "query_string": b"",
            "server": ("test", 80),
        }
        await self.app(scope, receive, send)
        if not sent:
            return 0, {}, b""
        found = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:])


async def asked(model: Model, *request: Any, **headers: Any) -> tuple[int, Any]:
    async with Plane({"m": model}) as plane:
        status, _, body = await Client(plane)(*request, **headers)
    try:
        return status, json.loads(body)
    except ValueError:
        return status, body


@pytest.mark.parametrize(
    "path",
    ["/invocations", "/invocations/", "/v2/models/m/invocations", "/v2/models/m/versions/1/invocations"],
)
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/csv", b"1,2\n3,4\n"),
        ("text/csv; charset=UTF-8", b"1,2\n3,4\n"),
        ("application/json", b"[[1,2],[3,4]]"),
        ("", b"1,2\n3,4"),
    ],
)
def test_a_body_is_read_computed_and_written(path: str, content_type: str, body: bytes) -> None:
    status, answer = run(asked(Scored(), "POST", path, body, content_type=content_type))
    assert (status, answer) == (200, [[2.0, 4.0], [6.0, 8.0]])


@pytest.mark.parametrize(
    ("status", "path", "headers", "body"),
    [
        (400, "/invocations", {}, b"one,two"),
        (400, "/invocations", {}, b"1,2,3"),
        (400, "/invocations", {}, b""),
        (404, "/v2/models/other/invocations", {}, b"1,2"),
        (404, "/v2/models/m/versions/9/invocations", {}, b"1,2"),
        (413, "/invocations", {}, b"1,2\n" * 2000),
        (413, "/invocations", {"content_length": "5000"}, b""),
        (413, "/invocations", {"content_encoding": "gzip"}, gzip.compress(b"1,2\n" * 2000, mtime=0)),
        (415, "/invocations", {"content_type": "text/plain"}, b"1,2"),
        (415, "/invocations", {"content_type": "text/csv; charset=latin-1"}, b"1,2"),
        (415, "/invocations", {"content_type": "text/csv; header=present"}, b"1,2"),
        (415, "/invocations", {"content_type": "multipart/form-data"}, b"1,2"),
        (415, "/invocations", {"content_encoding": "br"}, b"1,2"),
    ],
)
def test_errors_have_our_contract(status: int, path: str, headers: dict[str, str], body: bytes) -> None:
    came, fault = run(asked(Scored(), "POST", path, body, **headers))
    assert came == status
    assert fault.keys() == {"error", "error_code", "message", "request_id"}


def test_an_encoded_body_is_inflated_and_an_answer_compressed() -> None:
    async def scenario() -> None:
        async with Plane({"m": Scored()}) as plane:
            status, headers, body = await Client(plane)(
                "POST", "/invocations", gzip.compress(b"1,2\n" * 500), content_encoding="gzip",
                accept_encoding="gzip", x_request_id="mine",
            )  # fmt: skip
        assert status == 200
        assert (headers["content-encoding"], headers["x-request-id"]) == ("gzip", "mine")
        assert json.loads(gzip.decompress(body)) == [[2.0, 4.0]] * 500

    run(scenario())


def test_ping_health_and_version() -> None:
    for path, expected in (("/ping", b"\n"), ("/health", b"\n"), ("/version", 7.1)):
        assert run(asked(Scored(), "GET", path)) == (200, expected)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/invocations"), ("POST", "/v2/models/m/invocations"), ("GET", "/ping"), ("GET", "/version")],
)
def test_a_model_without_a_protocol_has_no_scoring_paths(method: str, path: str) -> None:
    status, fault = run(asked(Doubler(), method, path, b"1,2"))
    assert (status, fault["error_code"]) == (404, "NOT_FOUND")


def test_the_only_one_with_a_protocol_is_the_default_and_several_must_be_named() -> None:
    async def scenario() -> None:
        async with Plane({"plain": Doubler(), "m": Scored()}) as plane:
            assert (await Client(plane)("POST", "/invocations", b"1,2"))[0] == 200
        async with Plane({"one": Scored(), "two": Scored()}) as plane:
            status, _, body = await Client(plane)("POST", "/invocations", b"1,2")
            assert status == 404
            assert "one, two" in json.loads(body)["message"]
            assert (await Client(plane)("POST", "/v2/models/two/invocations", b"1,2"))[0] == 200

    run(scenario())


def test_rows_are_computed_with_everybodys() -> None:
    async def scenario() -> None:
        model = GatedScored()
        async with Plane({"m": model}) as plane:
            client = Client(plane)
            model.gate.clear()
            infer = json.dumps(
                {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [5, 6]}]}
            )
            tasks = [asyncio.ensure_future(client("POST", "/invocations", b"0,0"))]
            await entered(model)
            tasks += [asyncio.ensure_future(client("POST", "/invocations", b"1,2\n3,4")) for _ in range(2)]
            tasks.append(asyncio.ensure_future(client("POST", "/v2/models/m/infer", infer.encode())))
            (version,) = plane.registry.versions()
            await until(lambda: version.depth == 3)
            model.gate.set()
            assert [status for status, _, _ in await asyncio.gather(*tasks)] == [200] * 4
        assert model.calls == [1, 5]

    run(scenario())


def test_requests_are_counted_with_their_model_and_refused_while_draining() -> None:
    async def scenario() -> None:
        counted = Counted()
        async with Plane({"m": Scored()}, counted) as plane:
            client = Client(plane)
            await client("POST", "/invocations", b"1,2")
            await client("POST", "/invocations", b"one")
            assert plane.gate.in_flight == 0
            await plane.gate.drain()
            status, headers, _ = await client("POST", "/v2/models/m/invocations", b"1,2")
            assert (status, headers["retry-after"]) == (503, "1")
            assert (await client("GET", "/ping"))[0] == 503
        assert counted.codes == [("m", "OK"), ("m", "BAD_REQUEST")]

    run(scenario())


def test_a_caller_who_leaves_frees_its_place() -> None:
    async def scenario() -> None:
        model, counted = GatedScored(), Counted()
        async with Plane({"m": model}, counted) as plane:
            client = Client(plane)
            model.gate.clear()
            first = asyncio.ensure_future(client("POST", "/invocations", b"0,0"))
            await entered(model)
            left = asyncio.Event()
            second = asyncio.ensure_future(client("POST", "/invocations", b"1,2", left))
            (version,) = plane.registry.versions()
            await until(lambda: version.depth == 1)
            left.set()
            assert (await second)[0] == 0
            await until(lambda: version.depth == 0)
            model.gate.set()
            assert (await first)[0] == 200
        assert counted.codes == [("m", "CANCELLED"), ("m", "OK")]
        assert model.calls == [1]

    run(scenario())
