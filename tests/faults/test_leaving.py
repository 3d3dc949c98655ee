"""A caller who leaves, wherever that is, is no news for the log: nothing above INFO, in a real process."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest
from tests.server_process import PATIENCE, ServerProcess

INFER = "/inference.GRPCInferenceService/ModelInfer"
# `wait` computes from when a pipe is opened to be written into until it is closed; `wide` answers a lot.
CODE = """
import numpy as np
from oipserver_python import Input, Output, function

@function(inputs=[Input("x", "FP64", [-1])], outputs=[Output("y", "FP64", [-1])], batchable=True)
def wait(x):
    if x[0]:
        with open("PIPE", "rb") as pipe:
            pipe.read()
    return x

@function(inputs=[Input("x", "FP64", [1])], outputs=[Output("y", "FP64", [-1])])
def wide(x):
    return np.random.default_rng(0).random(4_000_000)
"""


class Serving(NamedTuple):
    """A server, and the pipe that its model waits for."""

    process: ServerProcess
    pipe: Path

    def computing(self) -> int:
        """The descriptor of the pipe, when the model has begun to compute; close it to let it end."""
        return os.open(self.pipe, os.O_WRONLY)

    def until_logged(self, request_id: str) -> str:
        """The code with which a request has ended."""
        line = self.process.wait_for(f'"request_id":"{request_id}"').string
        return str(json.loads(line)["code"])

    def levels(self) -> set[str]:
        """Of all lines so far."""
        return {json.loads(line)["level"] for line in self.process.output.splitlines()}


pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("leaving")
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    (folder / "code.py").write_text(CODE.replace("PIPE", str(pipe)))
    models = [
        {"name": name, "runtime": "python", "model_uri": f"{folder}/code.py:{name}"}
        for name in ("wait", "wide")
    ]
    (folder / "config.json").write_text(json.dumps({"models": models}))
    log = {"OIPSERVER_LOG_FORMAT": "json", "OIPSERVER_LOG_REQUESTS": "1"}
    with ServerProcess(f"--config={folder}/config.json", environ=log) as process:
        yield Serving(process, pipe)


def leave(caller: socket.socket) -> None:
    """With a reset, when the server has read what was sent: a reset takes with it what still waits there."""
    until_read(caller)
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    caller.close()


def until_read(caller: socket.socket) -> None:
    """Return when nothing of it waits at the other end of its connection."""
    ports = caller.getpeername()[1], caller.getsockname()[1]
    end = time.monotonic() + PATIENCE
    while waiting(*ports):
        assert time.monotonic() < end


def waiting(*ports: int) -> bool:
    """Whether bytes wait at the first port for whoever reads what comes from the second one."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, *addresses, _, queues = line.split()[:5]
        if tuple(int(address.rpartition(":")[2], 16) for address in addresses) == ports:
            return int(queues.rpartition(":")[2], 16) > 0
    return False


def over_http(serving: Serving, request_id: str, model: str = "wait", part: float = 1.0) -> socket.socket:
    """Who has sent a part of a request."""
    tensor = {"name": "x", "datatype": "FP64", "shape": [1], "data": [1.0]}
    body = json.dumps({"inputs": [tensor]})
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: test\r\nX-Request-Id: {request_id}\r\n"
    sent = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    caller = socket.create_connection(("127.0.0.1", serving.process.http_port), PATIENCE)
    caller.sendall(sent[: round(part * len(sent))])
    return caller


def over_grpc(channel: grpc.Channel, request_id: str, model: str = "wait") -> Any:
    """Who has sent a request."""
    asked = ModelInferRequest(model_name=model)
    asked.inputs.add(name="x", datatype="FP64", shape=[1]).contents.fp64_contents.append(1.0)
    ask = channel.unary_unary(INFER, None, None)
    metadata = (("x-request-id", request_id),)
    return ask.future(asked.SerializeToString(), timeout=PATIENCE, metadata=metadata)


def test_over_http(serving: Serving) -> None:
    leave(over_http(serving, "in-the-head", part=0.2))
    leave(over_http(serving, "in-the-body", part=0.9))
    assert serving.until_logged("in-the-body") == "CANCELLED"
    first = over_http(serving, "computing")
    pipe = serving.computing()
    leave(over_http(serving, "in-the-queue"))
    assert serving.until_logged("in-the-queue") == "CANCELLED"
    leave(first)
    assert serving.until_logged("computing") == "CANCELLED"
    os.close(pipe)
    reader = over_http(serving, "reading", "wide")
    assert reader.recv(1000)
    leave(reader)
    assert serving.until_logged("reading") == "OK"
    assert serving.levels() == {"INFO"}


def test_over_grpc(serving: Serving) -> None:
    with socket.create_connection(("127.0.0.1", serving.process.grpc_port)) as caller:
        caller.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        caller.recv(100)
        leave(caller)
    for gone_with_its_connection in (False, True):
        suffix = str(gone_with_its_connection)
        with closing(grpc.insecure_channel(serving.process.grpc_target)) as channel:
            first = over_grpc(channel, f"grpc-computing-{suffix}")
            pipe = serving.computing()
            queued = over_grpc(channel, f"grpc-in-the-queue-{suffix}")
            if gone_with_its_connection:
                channel.close()
            else:
                queued.cancel()
                assert serving.until_logged(f"grpc-in-the-queue-{suffix}") == "CANCELLED"
                first.cancel()
            for place in ("in-the-queue", "computing"):
                assert serving.until_logged(f"grpc-{place}-{suffix}") == "CANCELLED"
        os.close(pipe)
    with closing(grpc.insecure_channel(serving.process.grpc_target)) as channel:
        reader = over_grpc(channel, "grpc-reading", "wide")
        assert serving.until_logged("grpc-reading") == "OK"
        reader.cancel()
    with suppress(grpc.FutureCancelledError):
        reader.result(PATIENCE)
    assert serving.levels() == {"INFO"}
