"""Answers that come one by one: generate_stream and infer_stream; and generate, which gives them as one.

    POST /v2/models/{model}[/versions/{version}]/generate_stream      (infer_stream is the same)
    POST /v2/models/{model}[/versions/{version}]/generate

The body decides the form: with an `inputs` list it is an inference request, and each answer an inference
response (MLServer); else members are tensors by their names (Triton).  A stream is Server-Sent Events, one
`data:` line for each answer.  A fault before the first answer is an answer like any other; after that it
can only be said in an event of its own, which is the last.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TypeAlias

import numpy as np
from starlette.types import Receive, Scope, Send

from oipserver.core.contract import nbytes_of
from oipserver.core.dataplane import DataPlane, StreamReply
from oipserver.core.datatypes import BYTES
from oipserver.core.errors import BadRequest, Cancelled, Fault, InternalError
from oipserver.core.ids import valid_request_id
from oipserver.core.messages import InferenceResponse, Tensor
from oipserver.core.streaming import Single, Stream
from oipserver.http.door import Answer, Exchange, InferSettings, read_head
from oipserver.http.errors import Headers, error_body
from oipserver.http.generate_wire import decode_generate, encode_generate, is_text
from oipserver.http.infer import Disconnected, cut_short, read_body, send_answer, watching
from oipserver.http.wire import JSON, Plan, decode_document, encode_response, parse_object

logger = logging.getLogger("oipserver.http")

EVENTS = b"text/event-stream; charset=utf-8"

# An answer, or what ended the stream; and whether it is the last.
Came: TypeAlias = tuple[InferenceResponse | Fault | None, bool]


class StreamExchange(Exchange):
    """One request and its answers.

    Attributes:
        triton: the body had Triton's form, and so have the answers.
    """

    route = "/v2/models/{model}/generate_stream"

    __slots__ = ("_stream", "triton")

    _stream: Stream | Single | None

    def admit(self, model: str, version: str | None) -> None:
        """As of an infer request; but there are no binary tensors here."""
        self._stream = None
        super().admit(model, version)
        if self.head.header_length is not None:
            raise BadRequest(
                "Inference-Header-Content-Length: binary tensors are not read here, send JSON alone"
            )

    def open(self, body: bytes, reply: StreamReply) -> None:
        """Decode the body and start its answers.

        Raises:
            Fault: the request was refused; `reply` is not called.
        """
        began, admission = time.perf_counter(), self._admission
        document = parse_object(body)
        self.triton = type(document.get("inputs")) is not list
        contract = self._version.contract
        if self.triton:
            request = decode_generate(document, self._envelope, contract.model)
        else:
            request, _ = decode_document(document, None, self._envelope)
        self._plan = Plan(deliveries=request.deliveries)
        if not self.head.request_id and valid_request_id(request.id):
            self.request_id = request.id
        work = contract.check(request)
        if admission is not None:
            admission.size, admission.decode = len(body), time.perf_counter() - began
        self._stream = self._plane.open_stream(request, work, self._version, reply, admission)

    def taken(self) -> None:
        """The last answer is written: the model may go on."""
        if self._stream is not None:
            self._stream.taken()

    def cancel(self) -> None:
        """The caller has left, or wants no more: close the generator, free its place."""
        self.stop()
        super().cancel()

    def stop(self) -> None:
        """Want no more answers."""
        if self._stream is not None:
            self._stream.cancel()

    def encode(self, response: InferenceResponse) -> bytes:
        """One answer as JSON.

        Raises:
            BadRequest: JSON cannot carry it.
        """
        return encode_generate(response) if self.triton else encode_response(response, self._plan).data

    def encoded(self, response: InferenceResponse) -> bytes | Fault:
        """As `encode`, with what is wrong in place of the answer."""
        try:
            return self.encode(response)
        except Fault as fault:
            return fault
        except Exception:
            logger.exception("an answer to request %s could not be encoded", self.request_id)
            return InternalError("internal error")

    def done(self) -> None:
        """All answers are out."""
        self._finish("OK")

    def failed(self, fault: Fault) -> bytes:
        """The stream ends with a fault: the body that says so."""
        self.stop()
        self._finish(fault.code)
        return error_body(fault.code, fault.message, self.request_id)

    def headers(self, content_type: bytes) -> Headers:
        """The headers of an answer that is none of errors."""
        return [(b"content-type", content_type), (b"x-request-id", self.request_id.encode())]


class WholeExchange(StreamExchange):
    """As a stream's, with all answers in one."""

    route = "/v2/models/{model}/generate"

    __slots__ = ()


class GenerateDoor:
    """Serves the three paths over ASGI.

    Args:
        whole: all answers in one piece.
    """

    def __init__(self, plane: DataPlane, settings: InferSettings, whole: bool) -> None:
        self._plane = plane
        self._settings = settings
        self._whole = whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an endpoint behind a router that has matched the path."""
        target = scope["path_params"]
        await self.serve(scope, receive, send, target["model"], target.get("version"))

    async def serve(
        self, scope: Scope, receive: Receive, send: Send, model: str, version: str | None
    ) -> None:
        """Answer one request; its generator is closed as soon as the caller has left."""
        kind = WholeExchange if self._whole else StreamExchange
        exchange = kind(self._plane, self._settings, read_head(scope["headers"]))
        try:
            await self._serve(exchange, scope, receive, send, model, version)
        except Disconnected:
            exchange.cancel()
        except BaseException:
            exchange.cancel()
            raise

    async def _serve(
        self,
        exchange: StreamExchange,
        scope: Scope,
        receive: Receive,
        send: Send,
        model: str,
        version: str | None,
    ) -> None:
        try:
            exchange.admit(model, version)
            body = await read_body(exchange, receive)
        except Fault as fault:
            await send_answer(send, cut_short(exchange, fault, scope))
            return
        came: asyncio.Queue[Came] = asyncio.Queue()
        try:
            if exchange.head.encoding:
                body = await asyncio.to_thread(exchange.decompress, body)
            exchange.open(body, lambda *what: came.put_nowait(what))
        except Fault as fault:
            await send_answer(send, exchange.refused(fault))
            return
        except Exception:
            logger.exception("request %s failed", exchange.request_id)
            await send_answer(send, exchange.refused(InternalError("internal error")))
            return

        def lost() -> None:
            exchange.cancel()
            came.put_nowait((Cancelled("the caller left"), True))

        with watching(scope, receive, lost):
            if self._whole:
                await self._send_whole(exchange, came, send)
            else:
                await _send_events(exchange, came, send)

    async def _send_whole(self, exchange: StreamExchange, came: asyncio.Queue[Came], send: Send) -> None:
        """One answer.  It is made before anything is sent: a 200 once sent cannot be taken back."""
        whole = _Whole(exchange, self._settings.max_body_bytes)
        final = False
        try:
            while not final:
                result, final = await came.get()
                if isinstance(result, Fault):
                    raise result
                if result is not None:
                    whole.add(result)
                exchange.taken()
            body = whole.body()
        except Cancelled:
            return
        except Fault as fault:
            exchange.stop()
            await send_answer(send, exchange.refused(fault))
            return
        exchange.done()
        await send_answer(send, Answer(200, exchange.headers(JSON), body))


class _Whole:
    """The answers to one request, put together: one, or as many texts as there are (of Triton's form)."""

    def __init__(self, exchange: StreamExchange, limit: int) -> None:
        self._exchange = exchange
        self._limit = limit
        self._size = 0
        self._body: bytes | None = None
        self._first: InferenceResponse | None = None
        self._texts: dict[str, list[bytes]] = {}

    def add(self, answer: InferenceResponse) -> None:
        """Take one more answer; its arrays are not kept.

        Raises:
            BadRequest: it cannot be put to those before.
        """
        self._size += sum(nbytes_of(tensor.data) for tensor in answer.outputs)
        if self._size > self._limit:
            raise BadRequest(f"the answer has more than {self._limit} bytes: read it with generate_stream")
        text = self._exchange.triton and is_text(answer)
        if self._body is not None or (self._first is not None and not text):
            raise BadRequest(
                f"model '{answer.model_name}' gives more than one answer to this request: "
                "read them with generate_stream"
            )
        if text:
            self._first = self._first or answer
            for tensor in answer.outputs:
                self._texts.setdefault(tensor.name, []).append(tensor.data.flat[0])
        else:
            self._body = self._exchange.encode(answer)

    def body(self) -> bytes:
        """What is sent.

        Raises:
            BadRequest: there was no answer.
        """
        if self._body is not None:
            return self._body
        first = self._first
        if first is None:
            raise BadRequest("the model gave no answer to this request, and generate needs one")
        outputs = [
            Tensor(name, BYTES, np.array([b"".join(texts)], dtype=np.object_))
            for name, texts in self._texts.items()
        ]
        return self._exchange.encode(
            InferenceResponse(first.model_name, first.model_version, first.id, outputs, first.parameters)
        )


async def _send_events(exchange: StreamExchange, came: asyncio.Queue[Came], send: Send) -> None:
    """An event for each answer.  The model goes on when its answer is with the connection, so a caller
    who reads slowly slows down the model, and nothing piles up.
    """
    result, final = await came.get()
    event = exchange.encoded(result) if isinstance(result, InferenceResponse) else result
    if isinstance(event, Fault):  # the status is not sent yet, so it can say so
        if not isinstance(event, Cancelled):
            exchange.stop()
            await send_answer(send, exchange.refused(event))
        return
    headers = [*exchange.headers(EVENTS), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while not isinstance(event, Cancelled):
        if isinstance(event, Fault):
            event, final = exchange.failed(event), True
        elif final:
            exchange.done()
        body = b"" if event is None else b"data: %b\n\n" % event
        await send({"type": "http.response.body", "body": body, "more_body": not final})
        if final:
            return
        exchange.taken()
        result, final = await came.get()
        event = exchange.encoded(result) if isinstance(result, InferenceResponse) else result
