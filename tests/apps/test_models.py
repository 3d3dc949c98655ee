"""The models as handlers see them: conversions, deadlines, threads, and one scheduler for everybody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest

from oipserver import BYTES, FP64, App, Arrays, BadRequest, Fault, Model, Models, Parameters, TensorMetadata
from oipserver.core.dataplane import DataPlane
from tests.apps.running import AppServer, row, v2
from tests.conformance.system import Ended
from tests.support import PATIENCE, Doubler, GatedModel, until

app = App()


@app.post("/async")
async def on_the_loop(body: Any, models: Models) -> Any:
    return await models.infer("gated", {"x": body})


@app.post("/sync")
def in_a_thread(body: Any, models: Models) -> Any:
    return models.infer_sync("gated", {"x": body})


@app.grpc
def service(models: Models) -> Any:
    def infer(message: bytes, context: grpc.ServicerContext) -> bytes:
        return models.infer_sync("gated", {"x": row(float(message))})["y"].tobytes()

    return grpc.method_handlers_generic_handler(
        "mine.Service", {"Infer": grpc.unary_unary_rpc_method_handler(infer)}
    )


class Shouter(Model):
    """Text in, louder text out; with a parameter, and an output for those who ask."""

    platform = "test"
    inputs: Sequence[TensorMetadata] = (TensorMetadata("text", BYTES, (-1,)),)
    outputs: Sequence[TensorMetadata] = (TensorMetadata("loud", BYTES, (-1,)),)
    optional_outputs: Sequence[TensorMetadata] = (TensorMetadata("length", FP64, (-1,)),)
    parameter_names = ("mark",)

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        mark = str(parameters.get("mark", "!")).encode()
        loud = np.array([text.upper() + mark for text in inputs["text"]], dtype=object)
        return {"loud": loud, "length": np.array([float(len(text)) for text in inputs["text"]])}


@pytest.fixture(scope="module")
def server() -> Iterator[AppServer]:
    models = {"m": Doubler(), "gated": GatedModel(), "shouter": Shouter()}
    with AppServer(app, models=models) as server:
        yield server


@pytest.fixture
def gated(server: AppServer) -> Iterator[GatedModel]:
    """The model with its gate closed, and one request in it."""
    server.gated.gate.clear()
    server.gated.forget_warm_up()
    first = server.begin("POST", "/v2/models/gated/infer", v2(1))
    assert server.gated.entered.acquire(timeout=PATIENCE)
    yield server.gated
    server.gated.gate.set()
    assert first.result(PATIENCE).status == 200


def test_handlers_share_batches_with_everybody(server: AppServer, gated: GatedModel) -> None:
    asked = [
        server.begin("POST", "/async", row(2)),
        server.begin("POST", "/sync", row(3)),
        server.begin("POST", "/v2/models/gated/infer", v2(4)),
    ]
    with server.channel() as channel:
        infer = channel.unary_unary("/mine.Service/Infer", None, None)
        called = infer.future(b"5", timeout=PATIENCE)
        server.until(lambda: server.waiting("gated") == 4)
        gated.gate.set()
        answers = [each.result(PATIENCE).json for each in asked]
        assert np.frombuffer(called.result()).tolist() == [10.0, 10.0]
    assert answers[:2] == [{"y": [[4.0, 4.0]]}, {"y": [[6.0, 6.0]]}]
    assert answers[2]["outputs"][0]["data"] == [8.0, 8.0]
    assert gated.calls == [1, 4]


def in_thread(server: AppServer, *arguments: Any, **more: Any) -> dict[str, Any]:
    return server.models.infer_sync(*arguments, **more)


def on_loop(server: AppServer, *arguments: Any, **more: Any) -> dict[str, Any]:
    return server.run(server.models.infer(*arguments, **more))


def on_another_loop(server: AppServer, *arguments: Any, **more: Any) -> dict[str, Any]:
    return asyncio.run(server.models.infer(*arguments, **more))


DOORS = pytest.mark.parametrize("infer", [in_thread, on_loop, on_another_loop])


@DOORS
@pytest.mark.parametrize(
    "value", [[[1, 2]], [[1.0, 2.0]], np.array([[1, 2]], dtype=np.int8), np.array([[1, 2]], dtype=">f4")]
)
def test_arrays_in_arrays_out(server: AppServer, infer: Any, value: npt.ArrayLike) -> None:
    answer = infer(server, "m", {"x": value})
    assert answer["y"].dtype == np.float64
    assert answer["y"].tolist() == [[2.0, 4.0]]


@DOORS
@pytest.mark.parametrize(
    "text", [["é", "b\0"], [b"\xc3\xa9", b"b\0"], np.array(["é".encode(), b"b\0"], dtype=object)]
)
def test_text_is_bytes(server: AppServer, infer: Any, text: npt.ArrayLike) -> None:
    answer = infer(server, "shouter", {"text": text}, parameters={"mark": "?", "other": 1})
    assert answer["loud"].tolist() == ["é".encode() + b"?", b"B\0?"]


@DOORS
def test_outputs_and_versions_by_name(server: AppServer, infer: Any) -> None:
    answer = infer(server, "shouter", {"text": ["abc"]}, outputs=["length"], version="1")
    assert {name: array.tolist() for name, array in answer.items()} == {"length": [3.0]}
    with pytest.raises(Fault, match="no version '7'"):
        infer(server, "m", {"x": row(1)}, version="7")


@DOORS
@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ({"x": [[1, 2], [3]]}, "input 'x': expected an array, setting an array element"),
        (
            {"x": [[1j, 2]]},
            "input 'x': expected an array, no protocol datatype carries numpy dtype complex128",
        ),
        (
            {"x": [[None, 2]]},
            "input 'x': expected an array, elements are text, bytes or numbers, not NoneType",
        ),
        ({"x": [[1, 2, 3]]}, "expects shape"),
        ({"x": [["a", "b"]]}, "expects datatype FP64, got BYTES"),
        ({}, "misses input 'x'"),
    ],
)
def test_what_is_no_input_is_refused(
    server: AppServer, infer: Any, inputs: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        infer(server, "m", inputs)
    assert complaint in caught.value.message


@DOORS
def test_a_timeout_is_a_deadline(server: AppServer, gated: GatedModel, infer: Any) -> None:
    server.journal.clear()
    with pytest.raises(Fault) as caught:
        infer(server, "gated", {"x": row(2)}, timeout=0.01)
    assert caught.value.code == "TIMEOUT"
    server.journal.wait_for(Ended("app", "gated", "TIMEOUT"))
    gated.gate.set()


def test_a_question_that_is_cancelled_frees_its_place(server: AppServer, gated: GatedModel) -> None:
    async def ask_and_leave() -> None:
        task = asyncio.ensure_future(server.models.infer("gated", {"x": row(2)}))
        await until(lambda: server.waiting("gated") == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    server.journal.clear()
    server.run(ask_and_leave())
    server.journal.wait_for(Ended("app", "gated", "CANCELLED"))
    server.until(lambda: server.waiting("gated") == 0)


def test_many_threads_ask_at_once(server: AppServer) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: in_thread(server, "m", {"x": row(n)})["y"][0, 0], range(200)))
    assert answers == [2.0 * n for n in range(200)]


def test_ready_and_metadata_from_anywhere(server: AppServer) -> None:
    async def ask() -> tuple[bool, str]:
        return server.models.ready("m"), server.models.metadata("m").inputs[0].name

    assert server.run(ask()) == (True, "x")
    assert (server.models.ready("m"), server.models.ready("m", "9"), server.models.ready("z")) == (
        True,
        False,
        False,
    )
    assert server.models.metadata("m").platform == "test"
    with pytest.raises(Fault, match="no model 'z'"):
        server.models.metadata("z")


def test_waiting_on_the_event_loop_is_refused(server: AppServer) -> None:
    async def ask() -> None:
        server.models.infer_sync("m", {"x": row(1)})

    with pytest.raises(RuntimeError, match=r"await models\.infer"):
        server.run(ask())


def test_before_the_start_there_is_nobody_to_ask(server: AppServer) -> None:
    early = Models(DataPlane(server.plane.registry, server.plane.gate, None, 0), 1.0)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="the server has not started"):
        early.infer_sync("m", {"x": row(1)})
    with pytest.raises(RuntimeError, match="the server has not started"):
        asyncio.run(early.infer("m", {"x": row(1)}))
    assert threading.get_ident() != 0
