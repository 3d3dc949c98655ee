"""The scoring paths of models that have such: `/invocations`, `/ping`, `/health`, `/version`.

A model's `Scoring` reads the body as tensors and writes the answer, on a thread; between the two the request
goes the way of every infer request, and errors are ours.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from oipserver.core.admission import ANONYMOUS, Caller, Right
from oipserver.core.dataplane import DataPlane
from oipserver.core.errors import Fault, InternalError, NotFound, NotReady, UnsupportedMediaType, printable
from oipserver.core.messages import Arrays, InferenceRequest, Tensor, TensorMetadata
from oipserver.core.model import Model, Scoring
from oipserver.http import compression
from oipserver.http.access import caller_of
from oipserver.http.door import COMPRESS_FROM, Answer, Exchange, Head, InferSettings, Reply
from oipserver.http.errors import Headers
from oipserver.http.infer import InferDoor
from oipserver.http.timing import SERVER_TIMING

logger = logging.getLogger("oipserver.http")

# What MLflow's own server answers to a ping.
PONG = b"\n"


def scoring_routes(plane: DataPlane, settings: InferSettings) -> list[Route]:
    """The routes, to be mounted behind all others: they answer 404 where no model has a scoring protocol."""
    default = DefaultModel(plane)
    door = ScoringDoor(plane, settings, default)
    return [
        Route("/invocations", door, methods=["POST"]),
        Route("/v2/models/{model}/invocations", door, methods=["POST"]),
        Route("/v2/models/{model}/versions/{version}/invocations", door, methods=["POST"]),
        Route("/ping", default.ping),
        Route("/health", default.ping),
        Route("/version", default.version),
    ]


class DefaultModel:
    """The model behind the paths without a name: the only one that has a scoring protocol."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def name(self, caller: Caller = ANONYMOUS, right: Right = Right.DESCRIBE) -> str:
        """Its name; models for which the caller has not the right are not there for it.

        Raises:
            NotFound: no model has the protocol, or several have it.
            NotReady: not every model is loaded, so that nobody can tell.
        """
        found = [name for name in self._plane.scoring_models() if caller.may(right, name)]
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(found[:20])
            raise NotFound(
                f"several models are scored: POST /v2/models/NAME/invocations, NAME one of {listed}"
            )
        if reason := self._plane.ready_reason():
            raise NotReady(reason)
        raise NotFound("no model here has a scoring protocol")

    async def ping(self, request: Request) -> Response:
        """GET /ping, GET /health: 200 when the model serves."""
        name = self.name()
        if not self._plane.model_ready(name, None):
            raise NotReady(self._plane.model_not_ready_reason(name, None))
        return Response(PONG, media_type="application/json")

    async def version(self, request: Request) -> Response:
        """GET /version: of the library whose protocol it is."""
        scoring = _scoring(self._plane.serving(self.name(caller_of(request.scope)), None).contract.model)
        return Response(scoring.version, media_type="application/json")


class ScoringDoor(InferDoor):
    """POST /invocations and POST /v2/models/{model}/invocations, over ASGI."""

    def __init__(self, plane: DataPlane, settings: InferSettings, default: DefaultModel) -> None:
        super().__init__(plane, settings, partial(ScoringExchange, default))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an endpoint behind a router that has matched the path."""
        target: Mapping[str, str] = scope["path_params"]
        await self.serve(scope, receive, send, target.get("model", ""), target.get("version"))


class ScoringExchange(Exchange):
    """As an infer request's, but for what stands in the body.

    Args:
        default: the model of the paths without a name.
    """

    route = "/v2/models/{model}/invocations"

    __slots__ = ("_default", "_media_type", "_task")

    _task: asyncio.Task[None]

    def __init__(self, default: DefaultModel, plane: DataPlane, settings: InferSettings, head: Head) -> None:
        super().__init__(plane, settings, head)
        self._default = default

    def admit(self, model: str, version: str | None) -> None:
        """As an infer request; besides, the model must read this kind of body.

        Raises:
            Fault: see `Exchange.admit`.
            NotFound: the model has no scoring protocol.
            UnsupportedMediaType: it does not read this.
        """
        super().admit(model, version)
        self.admitted = False
        self._media_type = _media_type(self.head.content_type, _scoring(self._version.contract.model))
        self.admitted = True

    def _named(self, model: str, caller: Caller) -> str:
        if not model:
            caller.permit(Right.INFER)
        return model or self._default.name(caller, Right.INFER)

    def infer(self, body: bytes, reply: Reply) -> None:
        """Read on a thread, queue, write on a thread, and hand the answer to `reply`."""
        self._task = asyncio.get_running_loop().create_task(self._answer(body, reply))

    def cancel(self) -> None:
        """The caller has left: free its place, answer nobody."""
        if hasattr(self, "_task"):
            self._task.cancel()
        super().cancel()

    async def _answer(self, body: bytes, reply: Reply) -> None:
        try:
            answer = await self._score(body)
        except Fault as fault:
            answer = self.refused(fault)
        except Exception:
            logger.exception("request %s failed", self.request_id)
            answer = self.refused(InternalError("internal error"))
        reply(answer)

    async def _score(self, body: bytes) -> Answer:
        deadline = time.monotonic() + self._settings.default_timeout
        model = self._version.contract.model
        scoring = _scoring(model)
        began, admission = time.perf_counter(), self._admission
        arrays, parameters = await asyncio.to_thread(scoring.read, body, self._media_type)
        if admission is not None:
            admission.size, admission.decode = len(body), time.perf_counter() - began
        request = InferenceRequest(
            self._envelope.model_name,
            _tensors(arrays, (*model.inputs, *model.named_inputs)),
            self.request_id,
            deadline,
            self._envelope.model_version,
            scoring.outputs,
            parameters,
        )
        response = await self._plane.infer(request, admission)
        answer = {tensor.name: tensor.data for tensor in response.outputs}
        began = time.perf_counter()
        text = await asyncio.to_thread(scoring.write, answer)
        if admission is not None:
            admission.encode = time.perf_counter() - began
        return self._written(text)

    def _written(self, text: bytes) -> Answer:
        headers: Headers = [
            (b"content-type", b"application/json"),
            (b"x-request-id", self.request_id.encode()),
        ]
        accepted = self.head.accept_encoding if len(text) >= COMPRESS_FROM else ""
        self._finish("OK")
        if timing := self._timing():
            headers.append((SERVER_TIMING, timing))
        return Answer(200, headers, text, compression.negotiate(accepted) if accepted else None)


def _scoring(model: Model) -> Scoring:
    if model.scoring is None:
        raise NotFound("this model has no scoring protocol: POST to its infer path")
    return model.scoring


def _media_type(content_type: str, scoring: Scoring) -> str:
    """The media type that `scoring` is to read; its first one when the caller names none."""
    media_type, *parameters = (part.strip() for part in content_type.split(";"))
    if media_type and media_type not in scoring.media_types:
        raise UnsupportedMediaType(
            f"Content-Type must be one of {', '.join(scoring.media_types)}, got '{printable(media_type)}'"
        )
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name != "charset" or value.strip('"') not in ("utf-8", "utf8"):
            raise UnsupportedMediaType(
                f"Content-Type may have the parameter charset=utf-8, got '{printable(parameter)}'"
            )
    return media_type or scoring.media_types[0]


def _tensors(arrays: Arrays, declared: Sequence[TensorMetadata]) -> list[Tensor]:
    datatypes = {tensor.name: tensor.datatype for tensor in declared}
    return [Tensor(name, datatypes[name], array) for name, array in arrays.items()]
