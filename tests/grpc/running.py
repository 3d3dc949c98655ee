"""A real server over small real models: an event loop in a thread, a socket on a port of the system."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import fields
from typing import Any, TypeVar

import grpc
import numpy as np
import uvloop

from oipserver.config import GrpcConfig
from oipserver.core.datatypes import BYTES, FP16, INT64
from oipserver.core.messages import Arrays, Parameters, TensorMetadata
from oipserver.core.model import Model
from oipserver.core.observer import Ended, SilentObserver
from oipserver.grpc._generated.open_inference_pb2 import InferParameter, ModelInferRequest
from oipserver.grpc.server import GrpcServer
from tests.support import PATIENCE, Doubler, Plane

T = TypeVar("T")


class Halver(Doubler):
    """A Doubler that can answer in FP16 besides."""

    optional_outputs = (TensorMetadata("half", FP16, (-1, 2)),)

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        half = (inputs["x"] / 2).astype(np.float16)
        return {**super().predict(inputs, outputs, parameters), "half": half}


class Greeter(Model):
    """BYTES in and out, an INT64 beside it."""

    platform = "test"
    inputs = (TensorMetadata("who", BYTES, (-1,)),)
    outputs = (TensorMetadata("text", BYTES, (-1,)), TensorMetadata("length", INT64, (-1,)))

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        text = np.array([b"\xff hello " + name for name in inputs["who"]], dtype=object)
        return {"text": text, "length": np.array([len(each) for each in text], dtype=np.int64)}


class Log(SilentObserver):
    """Remembers how the requests ended: model and code."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []

    def requests(self, ended: Ended) -> None:
        assert ended.front == "grpc"
        self.ended += [(ended.model, ended.code)] * len(ended.seconds)


class Running:
    """A server in a thread of its own; close it."""

    def __init__(self, models: dict[str, Model], **options: Any) -> None:
        self.log = Log()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        try:
            self.run(self._start, models, options)
        except BaseException:
            self._end_loop()
            raise
        self.channel = grpc.insecure_channel(self.address)

    async def _start(self, models: dict[str, Model], options: dict[str, Any]) -> None:
        self.plane = await Plane(models, self.log).__aenter__()
        known = {each.name for each in fields(GrpcConfig)}
        limits = {name: options.pop(name) for name in known & options.keys()}
        self.server = GrpcServer(
            self.plane.data,
            self._loop,
            limits=GrpcConfig(**{"max_concurrent_rpcs": 16, **limits}),
            **{"address": "127.0.0.1:0", **options},
        )
        try:
            self.port = self.server.start()
        except OSError:
            await self.plane.__aexit__()
            raise
        self.address = f"127.0.0.1:{self.port}"

    def begin(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Run a coroutine function on the loop."""
        return asyncio.run_coroutine_threadsafe(function(*arguments), self._loop)

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of a coroutine function, run on the loop."""
        return self.begin(function, *arguments).result(PATIENCE)

    def on_loop(self, function: Callable[[], T]) -> T:
        """The result of a function, run on the loop."""

        async def call() -> T:
            return function()

        result: T = self.run(call)
        return result

    def method(self, name: str) -> Any:
        """One of the protocol's calls: bytes in, bytes out."""
        return self.channel.unary_unary(f"/inference.GRPCInferenceService/{name}", None, None)

    def infer(self, request: ModelInferRequest, **options: Any) -> bytes:
        """The serialized answer to an inference."""
        answer: bytes = self.method("ModelInfer")(
            request.SerializeToString(), **{"timeout": PATIENCE, **options}
        )
        return answer

    def close(self) -> None:
        self.channel.close()
        self.run(self.server.stop, 0.0)
        self.run(self.plane.__aexit__)
        self._end_loop()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()


class Held:
    """A request stream that sends its messages when told to."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.send = self._queue.put

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._queue.get, None)


def raw_request(*values: float, model: str = "m", **more: Any) -> ModelInferRequest:
    """One row per value, raw; the answer's first column is twice the values."""
    rows = np.array([[value, value] for value in values], dtype="<f8")
    return ModelInferRequest(
        model_name=model,
        inputs=[{"name": "x", "datatype": "FP64", "shape": [len(values), 2]}],
        raw_input_contents=[rows.tobytes()],
        **more,
    )


def parameter(value: bool | int | float | str) -> InferParameter:
    """A parameter that holds the value."""
    if isinstance(value, bool):
        return InferParameter(bool_param=value)
    if isinstance(value, int):
        return InferParameter(int64_param=value)
    if isinstance(value, float):
        return InferParameter(double_param=value)
    return InferParameter(string_param=value)


def failure(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str, dict[str, Any]]:
    """The status, the text and the trailers of a call that fails."""
    try:
        answer = call()
    except grpc.RpcError as error:
        trailers = {item.key: item.value for item in error.trailing_metadata() or ()}
        return error.code(), error.details() or "", trailers
    raise AssertionError(f"the call did not fail but answered {answer!r}")
