"""The bare servers that ours is compared with: they read a request and send one answer that never changes.

`python echoes.py KIND` reads the answer from stdin and says on which port it is ready.  HTTP: a JSON object
with `headers` and a base64 `body`; gRPC: the bytes of the message.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import uvicorn
import uvloop
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

# More threads were slower on one core, fewer as well.
THREADS = 8
# grpcio refuses messages over 4 MB unless told otherwise.
GRPC_OPTIONS = (("grpc.max_receive_message_length", -1),)


def announce(port: int) -> None:
    """Tell the parent that connections are taken."""
    print(f"ready: port {port}", flush=True)


def uvicorn_echo(answer: bytes) -> None:
    """A raw ASGI application in uvicorn, with uvloop and httptools."""
    fields = json.loads(answer)
    headers = [(name.encode(), value.encode()) for name, value in fields["headers"]]
    body = base64.b64decode(fields["body"])

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        more = True
        while more:
            message = await receive()
            more = message["type"] == "http.request" and message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": False})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    announce(listener.getsockname()[1])
    config = uvicorn.Config(
        app, http="httptools", loop="uvloop", ws="none", lifespan="off", access_log=False, log_level="warning"
    )
    uvicorn.Server(config).run(sockets=[listener])


class EveryMethod(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """One behaviour under every name, bytes in and bytes out."""

    def __init__(self, behaviour: Callable[..., Any]) -> None:
        self._handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(behaviour)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of any call."""
        return self._handler


def grpc_aio_echo(answer: bytes) -> None:
    """grpc.aio on uvloop, which is its faster loop."""

    async def echo(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return answer

    async def serve() -> None:
        server = grpc.aio.server(handlers=[EveryMethod(echo)], options=GRPC_OPTIONS)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        announce(port)
        await server.wait_for_termination()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


def grpc_threads_echo(answer: bytes) -> None:
    """grpcio's threaded server."""

    def echo(request: bytes, context: grpc.ServicerContext) -> bytes:
        return answer

    server = grpc.server(ThreadPoolExecutor(THREADS), handlers=[EveryMethod(echo)], options=GRPC_OPTIONS)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    announce(port)
    server.wait_for_termination()


KINDS = {"uvicorn": uvicorn_echo, "grpc-aio": grpc_aio_echo, "grpc-threads": grpc_threads_echo}

if __name__ == "__main__":
    KINDS[sys.argv[1]](sys.stdin.buffer.read())
