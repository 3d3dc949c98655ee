"""generate, generate_stream and infer_stream over a socket: each answer as it is made."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson
import pytest
import uvicorn

from oipserver import BOOL, BYTES, FP16, FP32, INT64, Arrays, InvalidInput, Model, Parameters, TensorMetadata
from oipserver.core.errors import NotReady
from oipserver.http.app import create_app
from oipserver.http.limits import HttpLimits
from tests.conformance.system import Ended
from tests.http.echo import PATIENCE, Answer, Client
from tests.http.infer_server import InferServer, row
from tests.streaming import ENDLESS, Counter, Teller

V2 = "/v2/models"


class Mixed(Model):
    """Answers what it was asked, of every kind; not a batch."""

    platform = "test"
    has_batch_axis = False
    inputs: Sequence[TensorMetadata] = (
        TensorMetadata("text", BYTES, (1,)),
        TensorMetadata("numbers", FP32, (-1,), optional=True),
        TensorMetadata("grid", INT64, (2, -1), optional=True),
        TensorMetadata("flag", BOOL, (), optional=True),
        TensorMetadata("half", FP16, (1,), optional=True),
    )
    outputs = (TensorMetadata("seen", BYTES, (1,)), TensorMetadata("sums", FP32, (-1,)))
    parameter_names = ("temperature", "stream")

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        if inputs["text"][0] == b"bad":
            raise InvalidInput("the text is bad")
        if inputs["text"][0] == b"half a word":
            return {"seen": np.array([b"\xc3"], dtype=np.object_), "sums": np.zeros(1, dtype=np.float32)}
        seen = {name: [str(array.dtype), array.shape] for name, array in inputs.items()}
        sums = [array.sum() for array in inputs.values() if array.dtype != np.object_]
        text = orjson.dumps({**seen, **parameters})
        return {
            "seen": np.array([text], dtype=np.object_),
            "sums": np.array(sums or [np.nan], dtype=np.float32),
        }


class Splitter(Teller):
    """Tells the bytes of its text, one by one: no answer is UTF-8 by itself."""

    def _answers(self, most: float) -> Any:
        for byte in "äöü".encode():
            yield {"text_output": np.array([bytes([byte])], dtype=np.object_)}


@pytest.fixture
def server() -> Iterator[InferServer]:
    server = InferServer(HttpLimits(write_timeout=PATIENCE))
    server.plane.models.update(
        count=Counter(), slow=Counter(gated=True), tell=Teller(), mixed=Mixed(), split=Splitter()
    )
    with server:
        yield server


def counter(server: InferServer, name: str = "count") -> Counter:
    model = server.plane.models[name]
    assert isinstance(model, Counter)
    return model


def post(path: str, document: Any, **headers: str) -> bytes:
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Events:
    """An answer that comes in chunks."""

    def __init__(self, client: Client) -> None:
        self._file = client._file
        self.status = int(self._file.readline().split()[1])
        self.headers: dict[str, str] = {}
        while line := self._file.readline().strip():
            name, value = line.decode().split(": ", 1)
            self.headers[name] = value

    def next(self) -> Any:
        """The document of the next event; None at the end.  An event is one chunk, sent as it is made."""
        size = int(self._file.readline(), 16)
        chunk = self._file.read(size + 2)[:-2]
        if not size:
            return None
        assert chunk.startswith(b"data: ")
        assert chunk.endswith(b"\n\n")
        return orjson.loads(chunk[6:])

    def rest(self) -> list[Any]:
        return list(iter(self.next, None))


def stream(server: InferServer, path: str, document: Any, **headers: str) -> tuple[Client, Events]:
    client = server.connect()
    client.send(post(f"{V2}/{path}", document, **headers))
    events = Events(client)
    assert events.status == 200
    return client, events


def ask(server: InferServer, path: str, document: Any, **headers: str) -> Answer:
    with server.connect() as client:
        return client.ask(post(f"{V2}/{path}", document, **headers))


def error(answer: Answer) -> tuple[int, str, str]:
    """Status, code and text of a refusal that has the form of the contract."""
    document = answer.json()
    assert document["error"] == document["message"]
    assert document["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/json"
    return answer.status, document["error_code"], document["error"]


def wait_empty(server: InferServer) -> None:
    """Return when nothing is inside and no slot is taken."""
    versions = server.plane.registry.versions()
    server.until(
        lambda: (
            not server.plane.gate.in_flight
            and not any(version.streams.running for version in versions if version.streams)
        )
    )


def number(event: Any) -> Any:
    return event["outputs"][0]["data"][0]


# --- one by one --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["generate_stream", "infer_stream"])
def test_inference_requests_are_answered_by_inference_responses(server: InferServer, route: str) -> None:
    client, events = stream(server, f"count/{route}", row(2.0, columns=2, id="mine"))
    with client:
        assert events.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert events.headers["cache-control"] == "no-cache"
        assert events.headers["x-request-id"] == "mine"
        assert events.headers["transfer-encoding"] == "chunked"
        first, second = events.rest()
        assert first == {
            "model_name": "count",
            "model_version": "1",
            "id": "mine",
            "parameters": {"content_type": "np"},
            "outputs": [
                {
                    "name": "n",
                    "shape": [1, 1],
                    "datatype": "INT64",
                    "parameters": {"content_type": "np"},
                    "data": [0],
                }
            ],
        }
        assert number(second) == 1
        # The connection is as good as before.
        assert client.ask(post(f"{V2}/m/infer", row(4.0, columns=2))).status == 200
    wait_empty(server)
    server.journal.wait_for(Ended("http", "count", "OK"))


@pytest.mark.parametrize("path", ["slow/generate_stream", "slow/versions/1/infer_stream"])
def test_each_answer_is_readable_before_the_next_is_made(server: InferServer, path: str) -> None:
    model = counter(server, "slow")
    with server.connect() as client:
        client.send(post(f"{V2}/{path}", row(3.0, columns=2)))
        model.permits.release()
        events = Events(client)
        assert number(events.next()) == 0
        for expected in (1, 2):
            model.permits.release()
            assert number(events.next()) == expected
        assert events.next() is None


def test_tritons_form(server: InferServer) -> None:
    client, events = stream(
        server, "tell/generate_stream", {"id": "mine", "text_input": "2", "parameters": {"ending": "!"}}
    )
    with client:
        assert events.rest() == [
            {"id": "mine", "model_name": "tell", "model_version": "1", "text_output": "0! "},
            {"id": "mine", "model_name": "tell", "model_version": "1", "text_output": "1! "},
        ]


def test_an_ordinary_model_gives_one_event(server: InferServer) -> None:
    client, events = stream(server, "m/infer_stream", row(4.0, columns=2))
    with client:
        [answer] = events.rest()
        assert answer["outputs"][0]["data"] == [8.0, 8.0]


def test_ordinary_models_are_batched(server: InferServer) -> None:
    server.gated.gate.clear()
    clients = [server.connect() for _ in range(9)]
    clients[0].send(post(f"{V2}/gated/generate", row(0.0, columns=2)))
    server.until(lambda: server.plane.gate.in_flight == 1)
    assert server.gated.entered.acquire(timeout=PATIENCE)
    for value, client in enumerate(clients[1:], 1):
        client.send(post(f"{V2}/gated/generate", row(float(value), columns=2)))
    server.until(lambda: server.plane.gate.in_flight == 9)
    server.gated.gate.set()
    assert [number(client.answer().json()) for client in clients] == [2.0 * value for value in range(9)]
    assert server.gated.calls == [1, 8]
    for client in clients:
        client.__exit__()


def test_a_stream_may_be_empty(server: InferServer) -> None:
    client, events = stream(server, "count/generate_stream", row(0.0, columns=2))
    with client:
        assert events.rest() == []


def test_requests_one_after_the_other_on_one_connection(server: InferServer) -> None:
    with server.connect() as client:
        client.send(post(f"{V2}/count/generate_stream", row(2.0, columns=2)) * 3)  # pipelined, too
        for _ in range(3):
            assert [number(event) for event in Events(client).rest()] == [0, 1]


def test_a_compressed_request(server: InferServer) -> None:
    body = zlib.compress(orjson.dumps({"text_input": "1"}))
    answer = ask(server, "tell/generate", body, Content_Encoding="deflate", Accept_Encoding="gzip")
    assert answer.json()["text_output"] == "0 "
    assert "content-encoding" not in answer.headers


# --- in one piece ------------------------------------------------------------------------------------------


def test_generate_puts_texts_together(server: InferServer) -> None:
    answer = ask(server, "tell/generate", {"text_input": "3", "id": "mine"})
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"] == "mine"
    assert answer.json() == {
        "id": "mine",
        "model_name": "tell",
        "model_version": "1",
        "text_output": "0 1 2 ",
    }


def test_texts_are_put_together_before_they_are_read(server: InferServer) -> None:
    assert ask(server, "split/generate", {"text_input": "1"}).json()["text_output"] == "äöü"


def test_generate_of_one_answer(server: InferServer) -> None:
    assert number(ask(server, "count/versions/1/generate", row(1.0, columns=2)).json()) == 0
    assert ask(server, "count/generate", {"x": [1, 1]}).json()["n"] == 0


@pytest.mark.parametrize("document", [row(ENDLESS, columns=2), {"x": [ENDLESS, 0]}])
def test_generate_refuses_several_answers(server: InferServer, document: Any) -> None:
    status, code, text = error(ask(server, "count/generate", document))
    assert (status, code) == (400, "BAD_REQUEST")
    assert text == (
        "model 'count' gives more than one answer to this request: read them with generate_stream"
    )
    counter(server).wait_ended()
    wait_empty(server)


def test_texts_in_inference_responses_are_not_put_together(server: InferServer) -> None:
    tensor = {"name": "text_input", "shape": [1], "datatype": "BYTES", "data": ["2"]}
    assert error(ask(server, "tell/generate", {"inputs": [tensor]}))[:2] == (400, "BAD_REQUEST")


def test_generate_needs_an_answer(server: InferServer) -> None:
    status, _, text = error(ask(server, "count/generate", row(0.0, columns=2)))
    assert (status, text) == (400, "the model gave no answer to this request, and generate needs one")


def test_generate_without_end_is_bounded(server: InferServer) -> None:
    status, _, text = error(ask(server, "tell/generate", {"text_input": str(ENDLESS)}))
    assert status == 400
    assert text.startswith("the answer has more than ")
    counter(server, "tell").wait_ended()
    wait_empty(server)


# --- tensors by their names --------------------------------------------------------------------------------


def test_members_are_tensors_or_parameters(server: InferServer) -> None:
    document = {
        "text": "hello",
        "numbers": [1, 2.5],
        "grid": [[1, 2], [3, 4]],
        "flag": True,
        "stream": False,
        "parameters": {"temperature": 0.5, "unknown": "ignored", "nothing": None},
    }
    answer = ask(server, "mixed/generate", document).json()
    assert orjson.loads(answer["seen"]) == {
        "text": ["object", [1]],
        "numbers": ["float32", [2]],
        "grid": ["int64", [2, 2]],
        "flag": ["bool", []],
        "temperature": 0.5,
        "stream": False,
    }
    assert answer["sums"] == [3.5, 10.0, 1.0]
    assert ask(server, "mixed/generate", {"text": "a", "numbers": 7}).json()["sums"] == 7.0
    assert ask(server, "mixed/generate", {"text": "a", "numbers": None}).json()["sums"] is None
    assert ask(server, "mixed/generate", {"parameters": {"text": "a"}}).status == 200


@pytest.mark.parametrize(
    ("document", "status", "text"),
    [
        ({}, 400, "misses input 'text'"),
        ({"text": 3}, 400, "'text'"),
        ({"text": "a", "grid": [1, 2]}, 400, "expects shape [2, -1], got [1, 2]"),
        ({"text": "a", "grid": [[1, 2], [3]]}, 400, "'grid'"),
        ({"text": "a", "numbers": ["1"]}, 400, "'numbers'"),
        ({"text": "a", "numbers": {"a": 1}}, 400, "'numbers'"),
        ({"text": "a", "half": 1}, 400, "input 'half' is FP16, which JSON cannot carry"),
        ({"text": "a", "other": [1]}, 400, "has no input 'other' but 'text', 'numbers', "),
        ({"text": "a", "parameters": []}, 400, "'parameters' must be an object"),
        ({"text": "a", "parameters": {"triton_x": 1}}, 400, "reserved"),
        ({"text": "a", "timeout": "soon"}, 400, "parameter 'timeout' must be unsigned integer"),
        ({"text": "a", "id": 3}, 400, "'id' must be a string"),
        ({"text": "bad"}, 422, "the text is bad"),
        ({"text": "half a word"}, 400, "not UTF-8"),
        ({"inputs": []}, 400, "'inputs' must be a list of at least one tensor"),
        ({"inputs": [{"name": "text"}]}, 400, "shape must be a list"),
        ([], 400, "must be a JSON object"),
        (b"{", 400, "not JSON"),
        (b"", 400, "empty"),
        ({"text": "a" * 5000}, 413, "more than 4096 bytes"),
    ],
)
@pytest.mark.parametrize("route", ["generate", "generate_stream"])
def test_mistakes_are_answers_of_their_own(
    server: InferServer, route: str, document: Any, status: int, text: str
) -> None:
    answer = ask(server, f"mixed/{route}", document)
    assert error(answer)[0] == status
    assert text in answer.json()["error"]
    wait_empty(server)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("nobody/generate", {}, 404),
        ("m/versions/7/generate_stream", {}, 404),
        ("tell/generate_stream", {"Inference_Header_Content_Length": "2"}, 400),
        ("tell/generate", {"Content_Encoding": "br"}, 415),
        ("tell/generate", {"Content_Encoding": "gzip"}, 400),
        ("tell/generate", {"Content_Type": "multipart/form-data; boundary=x"}, 415),
    ],
)
def test_refusals_before_the_body(
    server: InferServer, path: str, headers: dict[str, str], status: int
) -> None:
    assert error(ask(server, path, {"text_input": "1"}, **headers))[0] == status
    wait_empty(server)


def test_other_methods_are_refused(server: InferServer) -> None:
    for route in ("generate", "generate_stream", "infer_stream"):
        with server.connect() as client:
            answer = client.ask(f"GET {V2}/tell/{route} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert error(answer)[:2] == (405, "METHOD_NOT_ALLOWED")
            assert answer.headers["allow"] == "POST"


# --- faults ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "status", "code", "text"),
    [
        (-1.0, 422, "UNPROCESSABLE", "negative numbers cannot be counted to"),
        (-0.5, 500, "INFERENCE_FAILED", "the model failed to compute this request"),
    ],
)
@pytest.mark.parametrize("route", ["generate", "generate_stream"])
def test_a_fault_before_the_first_answer_has_its_status(
    server: InferServer, route: str, value: float, status: int, code: str, text: str
) -> None:
    answer = ask(server, f"count/{route}", row(value, columns=2))
    assert error(answer) == (status, code, text)
    server.journal.wait_for(Ended("http", "count", code))


def test_a_fault_after_that_is_the_last_event(server: InferServer) -> None:
    client, events = stream(server, "count/generate_stream", row(1.5, columns=2), X_Request_Id="my-id")
    with client:
        first, fault = events.rest()
        assert number(first) == 0
        text = "the model returned an answer that is not what it announces"
        assert fault == {
            "error": text,
            "error_code": "INFERENCE_FAILED",
            "message": text,
            "request_id": "my-id",
        }
        assert client.ask(post(f"{V2}/m/infer", row(4.0, columns=2))).status == 200
    server.journal.wait_for(Ended("http", "count", "INFERENCE_FAILED"))
    wait_empty(server)


def test_an_answer_that_json_cannot_carry_ends_the_generator(server: InferServer) -> None:
    status, _, text = error(ask(server, "split/generate_stream", {"text_input": "1"}))
    assert status == 400
    assert "not UTF-8" in text
    counter(server, "split").wait_ended()
    wait_empty(server)


def test_a_deadline_in_the_midst(server: InferServer) -> None:
    model = counter(server, "slow")
    document = row(ENDLESS, columns=2, parameters={"timeout": 2_000_000})
    model.permits.release()
    with server.connect() as client:
        client.send(post(f"{V2}/slow/generate_stream", document))
        events = Events(client)
        first, fault = events.rest()
        assert number(first) == 0
        assert fault["error_code"] == "TIMEOUT"
    model.permits.release()
    model.wait_ended()
    wait_empty(server)


# --- leaving, draining, reading slowly ---------------------------------------------------------------------


@pytest.mark.parametrize("route", ["generate", "generate_stream"])
def test_a_caller_who_leaves_between_answers_is_noticed_at_once(server: InferServer, route: str) -> None:
    model = counter(server, "slow")
    client = server.connect()
    client.send(post(f"{V2}/slow/{route}", row(ENDLESS, columns=2)))
    assert model.begun.acquire(timeout=PATIENCE)
    client.__exit__()
    server.journal.wait_for(Ended("http", "slow", "CANCELLED"))  # though the generator makes nothing
    assert server.inside() == 0
    model.permits.release()
    model.wait_ended()
    assert model.made == 1
    wait_empty(server)


def test_a_caller_who_leaves_in_the_midst_closes_the_generator(server: InferServer) -> None:
    model = counter(server)
    client, events = stream(server, "count/generate_stream", row(ENDLESS, columns=2))
    assert [number(events.next()) for _ in range(3)] == [0, 1, 2]
    client.__exit__()
    model.wait_ended()
    assert model.closed_early == 1
    wait_empty(server)


def test_a_caller_who_reads_slowly_slows_down_the_model(server: InferServer) -> None:
    model = counter(server)
    client = server.connect(receive_buffer=4096)
    client.send(post(f"{V2}/count/generate_stream", row(ENDLESS, columns=2)))
    [connection] = server.connections()
    server.until(lambda: connection.flow.write_paused)
    made = model.made
    assert ask(server, "m/infer", row(4.0, columns=2)).status == 200
    assert len(ask(server, "tell/generate", {"text_input": "100"}).json()["text_output"].split()) == 100
    assert model.made <= made + 1
    events = Events(client)
    assert [number(events.next()) for _ in range(2 * made)] == list(range(2 * made))  # and goes on
    client.__exit__()
    model.wait_ended()
    wait_empty(server)


def test_draining_waits_for_streams(server: InferServer) -> None:
    model = counter(server, "slow")
    with server.connect() as client, server.connect() as late:
        client.send(post(f"{V2}/slow/generate_stream", row(2.0, columns=2)))
        model.permits.release()
        events = Events(client)
        assert number(events.next()) == 0
        draining = asyncio.run_coroutine_threadsafe(server.plane.gate.drain(), server.loop)
        server.until(lambda: server.plane.gate.draining)
        refused = late.ask(post(f"{V2}/slow/generate_stream", row(2.0, columns=2)))
        assert error(refused)[:2] == (503, "NOT_READY")
        assert not draining.done()
        model.permits.release()
        assert number(events.next()) == 1
        assert events.next() is None
        draining.result(PATIENCE)


def test_abandoned_streams_are_told(server: InferServer) -> None:
    client, events = stream(server, "count/generate_stream", row(ENDLESS, columns=2))
    with client:
        events.next()
        server.call(lambda: server.plane.registry.abandon(NotReady("the server is shutting down")))
        *_, fault = events.rest()
        assert fault["error_code"] == "NOT_READY"
    counter(server).wait_ended()
    wait_empty(server)


def test_another_asgi_server(server: InferServer) -> None:
    """Without our protocol class the caller's leaving is told by `receive`."""

    async def story() -> None:
        app = create_app(server.plane.data, server.settings, server.journal.exposition)
        config = uvicorn.Config(app, lifespan="off", log_config=None, ws="none")
        foreign = uvicorn.Server(config)
        host = await asyncio.get_running_loop().create_server(
            lambda: _foreign_protocol(config, foreign), "127.0.0.1", 0
        )
        port = host.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(f"{V2}/tell/generate_stream", {"text_input": "2"}))
        text = await reader.readuntil(b"0\r\n\r\n")
        assert text.count(b"data: ") == 2
        writer.write(post(f"{V2}/count/generate_stream", row(ENDLESS, columns=2)))
        await reader.readuntil(b"data: ")
        writer.close()
        await asyncio.to_thread(counter(server).wait_ended)
        host.close()

    server.run(story())
    assert counter(server).closed_early == 1
    wait_empty(server)


def _foreign_protocol(config: uvicorn.Config, foreign: uvicorn.Server) -> Any:
    if not config.loaded:
        config.load()
    return config.http_protocol_class(config=config, server_state=foreign.server_state, app_state={})  # type: ignore[call-arg]
