"""Servers that speak TLS, with certificates of an authority made for the test, and clients that trust it."""

from __future__ import annotations

import json
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import trustme
from cryptography import x509

from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest, ModelInferResponse
from tests.server_process import ServerProcess
from tests.support import PATIENCE

INFER = "/inference.GRPCInferenceService/ModelInfer"
MODEL = """
import numpy as np
from oipserver_python import Input, Output, function

@function(
    inputs=[Input("x", "FP64", [-1, -1])],
    outputs=[Output("y", "FP64", [-1, -1])],
    batchable=True,
)
def double(x):
    return 2 * x
"""


@dataclass
class Pair:
    """A certificate and its key, as PEM."""

    cert: bytes
    key: bytes

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self.cert).serial_number


@dataclass
class Folder:
    """Where a server's files are, with one authority behind all of them.

    A file is exchanged as an administrator does it: written beside, then renamed.
    """

    path: Path
    authority: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        (self.path / "model.py").write_text(MODEL)
        self.put("ca.crt", self.root)
        self.serve(self.issue("localhost", "127.0.0.1"))

    @property
    def root(self) -> bytes:
        """What clients trust."""
        return self.authority.cert_pem.bytes()

    def issue(self, *names: str, **subject: Any) -> Pair:
        """A new pair of this authority."""
        leaf = self.authority.issue_cert(*names, **subject)
        return Pair(leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes())

    def put(self, name: str, content: bytes) -> Path:
        """Write a file, or exchange it."""
        path = self.path / name
        beside = path.with_suffix(".new")
        beside.write_bytes(content)
        os.replace(beside, path)
        return path

    def serve(self, pair: Pair) -> None:
        """Have the server use this pair from now on."""
        self.put("tls.key", pair.key)
        self.put("tls.crt", pair.cert)

    def server(self, *flags: str) -> ServerProcess:
        """A process that speaks TLS on both fronts."""
        return ServerProcess(
            "--runtime=python",
            f"--model-uri={self.path / 'model.py'}",
            f"--tls-cert-file={self.path / 'tls.crt'}",
            f"--tls-key-file={self.path / 'tls.key'}",
            *flags,
        )

    def context(self, pair: Pair | None = None) -> ssl.SSLContext:
        """What a client of HTTPS needs; `pair` is its own."""
        context = ssl.create_default_context(cadata=self.root.decode())
        if pair is not None:
            own = self.put("client.crt", pair.cert), self.put("client.key", pair.key)
            context.load_cert_chain(*own)
        return context

    def channel(self, server: ServerProcess, pair: Pair | None = None) -> grpc.Channel:
        """A channel with a connection of its own."""
        key, cert = (pair.key, pair.cert) if pair is not None else (None, None)
        return grpc.secure_channel(
            f"localhost:{server.grpc_port}",
            grpc.ssl_channel_credentials(self.root, key, cert),
            [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)],
        )


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection of HTTP, encrypted or not; raw bytes in, answers out."""

    def __init__(self, port: int, context: ssl.SSLContext | None, receive_buffer: int | None = None) -> None:
        self.sock = socket.socket()
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(("127.0.0.1", port))
        if context is not None:
            self.sock = context.wrap_socket(self.sock, server_hostname="localhost")
        self._file = self.sock.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.sock.close()

    def send(self, data: bytes) -> Client:
        self.sock.sendall(data)
        return self

    def answer(self) -> Answer:
        if not (start := self._file.readline()):
            raise ConnectionResetError("the connection ended before the answer")
        status = int(start.split()[1])
        headers: dict[str, str] = {}
        while line := self._file.readline().decode("latin-1").strip():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        return Answer(status, headers, self._file.read(int(headers["content-length"])))

    def at_end(self) -> bool:
        """Whether the server ends the connection, and says nothing more; waits for it."""
        try:
            return self._file.read(1) == b""
        except ConnectionError:
            return True

    def infer(self, rows: Sequence[Sequence[float]]) -> Any:
        """The rows of the answer."""
        answer = self.send(infer_request(rows)).answer()
        assert answer.status == 200, answer.body
        (output,) = answer.json()["outputs"]
        return np.array(output["data"]).reshape(output["shape"]).tolist()

    def serial(self) -> int:
        """Which certificate the server has shown."""
        assert isinstance(self.sock, ssl.SSLSocket)
        shown = self.sock.getpeercert()
        assert shown is not None
        return int(str(shown["serialNumber"]), 16)


def infer_request(rows: Sequence[Sequence[float]]) -> bytes:
    shape = [len(rows), len(rows[0])]
    body = json.dumps({"inputs": [{"name": "x", "shape": shape, "datatype": "FP64", "data": rows}]}).encode()
    return post("/v2/models/model/infer", body)


def post(path: str, body: bytes, headers: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def grpc_infer(channel: grpc.Channel, array: Any) -> Any:
    """The rows of the answer, as an array."""
    tensor = ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=array.shape)
    request = ModelInferRequest(model_name="model", inputs=[tensor], raw_input_contents=[array.tobytes()])
    call = channel.unary_unary(INFER, None, None)
    answer = ModelInferResponse.FromString(call(request.SerializeToString(), timeout=PATIENCE))
    return np.frombuffer(answer.raw_output_contents[0], "<f8").reshape(array.shape)
