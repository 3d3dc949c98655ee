"""The whole server with keys, as it is put together for a process, in a thread of the test."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import uvloop

from oipserver import Model
from oipserver.access.new import digest_of
from oipserver.config import AccessConfig, GrpcConfig, HttpConfig, ServerConfig, ShutdownConfig
from oipserver.core.model_config import ModelConfig
from oipserver.server import Server
from tests.conformance.wires import Answer, ask
from tests.http.test_invocations import Scored
from tests.support import PATIENCE, Doubler

SERVICE = "/inference.GRPCInferenceService/"

APP = """
import grpc
from oipserver import App

app = App()


@app.get("/whoami")
async def whoami(request):
    return {"name": request.state.caller.name}


async def path(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


app.mount("/files", path)


def echo(message, context):
    return message


@app.grpc
def services(server):
    methods = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("own.Echo", methods),))
"""


def key(name: str) -> str:
    """The key of a name; a fixed one, where a real one is random."""
    return f"the-key-of-{name}"


def entry(name: str, **more: Any) -> dict[str, Any]:
    """The line of a key in the file."""
    return {"name": name, "sha256": digest_of(key(name)), **more}


def write(path: Path, *entries: Mapping[str, Any]) -> None:
    """The file of the keys, exchanged as one."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(entries))
    new.rename(path)


class KeyedServer:
    """Enter it to start, leave it to stop.

    Args:
        models: in place of "m" and "other", Doublers, and "scored", which has scoring paths.
        app: of APP's kind, in a file.
    """

    http_port: int
    grpc_port: int

    def __init__(
        self,
        access: AccessConfig,
        models: Mapping[str, Model] | None = None,
        app: Path | None = None,
        **config: Any,
    ) -> None:
        self.models = dict(models or {"m": Doubler(), "other": Doubler(), "scored": Scored()})
        self.config = ServerConfig(
            http=HttpConfig(port=0),
            grpc=GrpcConfig(port=0),
            shutdown=ShutdownConfig(lame_duck=0.0, drain=5.0),
            access=access,
            apps=(str(app),) if app is not None else (),
            models=tuple(ModelConfig(name=name, runtime="test") for name in self.models),
            model_control="explicit",
        )
        self.config = replace(self.config, **config)
        self._ready: Future[tuple[int | None, int | None]] = Future()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.server: Server
        self.loop: asyncio.AbstractEventLoop

    def __enter__(self) -> KeyedServer:
        self._thread.start()
        http, grpc_port = self._ready.result(PATIENCE)
        assert http is not None
        assert grpc_port is not None
        self.http_port, self.grpc_port = http, grpc_port
        for model in self.models.values():
            if isinstance(model, Doubler):
                model.calls.clear()  # those of the warm-up
        self.channel: Any = grpc.insecure_channel(f"127.0.0.1:{grpc_port}")
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        self.server.interrupt()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                self.loop = runner.get_loop()
                self.server = Server(self.config, lambda config: self.models[config.name])
                runner.run(self.server.serve(lambda *ports: self._ready.set_result(ports)))
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    def on_loop(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Return when the coroutine is done, on the server's loop."""
        asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)

    def look(self) -> None:
        """Have the file of the keys looked at now."""
        keys = self.server._keys
        assert keys is not None
        self.on_loop(keys.look())

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request on a connection of its own; underscores of header names are dashes."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return ask(self.http_port, method, path, data, named)

    def call(self, path: str, message: bytes = b"", **metadata: str) -> bytes:
        """One unary call; a path without a slash is of the protocol's service."""
        whole = path if path.startswith("/") else SERVICE + path
        pairs = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
        answer: bytes = self.channel.unary_unary(whole, None, None)(message, timeout=PATIENCE, metadata=pairs)
        return answer

    def stream(self, path: str, *messages: bytes, **metadata: str) -> list[bytes]:
        """All answers of a call with a stream of messages, which ends behind them."""
        whole = path if path.startswith("/") else SERVICE + path
        pairs = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
        call = self.channel.stream_stream(whole, None, None)
        return list(call(iter(messages), timeout=PATIENCE, metadata=pairs))


class Sent:
    """Messages of a stream that are sent when told to."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.put = self._queue.put

    def __iter__(self) -> Any:
        return iter(self._queue.get, None)
