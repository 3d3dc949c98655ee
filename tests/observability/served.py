"""A real server of small functions, its log as it wrote it, and raw ways to ask it."""

from __future__ import annotations

import hashlib
import json
import socket
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest
from tests.server_process import PATIENCE, ServerProcess

# Sent by clients wherever they can send something, and never to be seen again.
MARKER = "jabberwocky"
KEY = f"oip_{MARKER}-key"

MODELS = """
from oipserver_python import Input, Output, function

@function(inputs=[Input("x", "FP64", [-1])], outputs=[Output("y", "FP64", [-1])], batchable=True)
def double(x):
    return x * 2

@function(inputs=[Input("text", "BYTES", [-1])], outputs=[Output("out", "BYTES", [-1])], batchable=True)
def echo(text):
    if len(text) == 3:
        raise KeyError("three")
    return text
"""


@contextmanager
def serving(folder: Path, *flags: str, **environ: str) -> Iterator[ServerProcess]:
    """A server of `double` and `echo` with a log in JSON, of all requests."""
    (folder / "models.py").write_text(textwrap.dedent(MODELS))
    names = ("double", "echo")
    config = {
        "models": [
            {"name": name, "runtime": "python", "model_uri": f"{folder}/models.py:{name}"} for name in names
        ]
    }
    (folder / "config.json").write_text(json.dumps(config))
    log = {"OIPSERVER_LOG_FORMAT": "json", "OIPSERVER_LOG_REQUESTS": "1"}
    with ServerProcess(f"--config={folder}/config.json", *flags, environ={**log, **environ}) as server:
        yield server


def keys(*roles: str) -> dict[str, str]:
    """The variable with one key, that of `tester`; without roles it may do everything."""
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    entry = {"name": "tester", "sha256": digest, "roles": roles or ["infer", "read", "admin"]}
    return {"OIPSERVER_ACCESS_KEYS": json.dumps([entry])}


def lines_of(server: ServerProcess) -> list[dict[str, Any]]:
    """Every line so far, all of which are JSON objects."""
    return [json.loads(line) for line in server.output.splitlines()]


def logged(server: ServerProcess, request_id: str) -> dict[str, Any]:
    """The line of one request, once it is there."""
    line = server.wait_for(f'"request_id":"{request_id}"').string
    found: dict[str, Any] = json.loads(line)
    return found


class Http:
    """One connection that is spoken to in bytes."""

    def __init__(self, server: ServerProcess) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.http_port), PATIENCE)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Http:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Raw bytes."""
        self._socket.sendall(data)

    def ask(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body; the names of headers are written with underscores."""
        given = {"host": "test", "content-length": str(len(body)), **headers}
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
        self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        return self.answer()

    def answer(self) -> tuple[int, Mapping[str, str], bytes]:
        """The next answer."""
        status = int(self._file.readline().split()[1])
        headers: dict[str, str] = {}
        while (line := self._file.readline().decode("latin-1").strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, self._body(headers)

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if "content-length" in headers:
            return self._file.read(int(headers["content-length"]))
        body = b""
        while size := int(self._file.readline(), 16):
            body += self._file.read(size)
            self._file.readline()
        self._file.readline()
        return body


def document(*values: float, **more: object) -> bytes:
    """A request to `double`."""
    tensor = {"name": "x", "datatype": "FP64", "shape": [len(values)], "data": values}
    return json.dumps({"inputs": [tensor], **more}).encode()


def text_document(*texts: str, **more: object) -> bytes:
    """A request to `echo`."""
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
    return json.dumps({"inputs": [tensor], **more}).encode()


def message(model: str, *texts: str, **more: Any) -> ModelInferRequest:
    """A request to `echo` over gRPC."""
    asked = ModelInferRequest(model_name=model, **more)
    tensor = asked.inputs.add(name="text", datatype="BYTES", shape=[len(texts)])
    tensor.contents.bytes_contents.extend(text.encode() for text in texts)
    return asked


def call(
    channel: grpc.Channel, method: str, body: bytes, *metadata: tuple[str, str]
) -> tuple[str, dict[str, str]]:
    """The name of the status, and the trailers, of one unary call."""
    ask: Any = channel.unary_unary(method, None, None)
    try:
        _, done = ask.with_call(body, timeout=PATIENCE, metadata=metadata)
    except grpc.RpcError as error:
        done = error
    return done.code().name, dict(done.trailing_metadata() or ())


def until(condition: Any) -> None:
    """Return when it is true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came true"
