"""The repository extension over gRPC: RepositoryIndex, RepositoryModelLoad, RepositoryModelUnload.

A load may last as long as a model takes, and holds a thread meanwhile: of a small pool of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import CancelledError
from functools import partial
from typing import Any, TypeVar

import grpc

from oipserver.core.admission import Right
from oipserver.core.controlplane import ControlPlane, Indexed, refuse_parameters
from oipserver.core.errors import Cancelled, NotReady
from oipserver.grpc import wire
from oipserver.grpc._generated.open_inference_pb2 import (
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    RepositoryModelLoadRequest,
    RepositoryModelLoadResponse,
    RepositoryModelUnloadRequest,
    RepositoryModelUnloadResponse,
)
from oipserver.grpc.access import asking
from oipserver.grpc.handover import Handover
from oipserver.grpc.patience import Patience
from oipserver.grpc.servicer import NAME_SECONDS, SERVICE, Handler, unary
from oipserver.grpc.threads import Threads

T = TypeVar("T")


class Repository:
    """The behaviours of the three calls.

    Args:
        pool: serves the index.
        patient: serves loads and unloads.
    """

    def __init__(
        self,
        control: ControlPlane,
        loop: asyncio.AbstractEventLoop,
        handover: Handover,
        patience: Patience,
        pool: Threads,
        patient: Threads,
    ) -> None:
        self._control = control
        self._loop = loop
        self._handover = handover
        self._patience = patience
        self._pool = pool
        self._patient = patient

    def handlers(self) -> Mapping[str, Handler]:
        """By path."""
        return {
            f"/{SERVICE}/RepositoryIndex": unary(self._index, self._pool),
            f"/{SERVICE}/RepositoryModelLoad": unary(self._load, self._patient),
            f"/{SERVICE}/RepositoryModelUnload": unary(self._unload, self._patient),
        }

    def _index(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        request = self._receive(RepositoryIndexRequest, messages, context)
        found = self._handover.ask(partial(self._control.index, request.ready))
        shown = [_entry(one) for one in found if asking().may(Right.READ, one.name)]
        return RepositoryIndexResponse(models=shown).SerializeToString()

    def _load(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        request = self._receive(RepositoryModelLoadRequest, messages, context)
        refuse_parameters(list(request.parameters))
        self._wait(self._control.load(_model(request)), context)
        return RepositoryModelLoadResponse().SerializeToString()

    def _unload(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        request = self._receive(RepositoryModelUnloadRequest, messages, context)
        self._wait(self._control.unload(_model(request)), context)
        return RepositoryModelUnloadResponse().SerializeToString()

    def _receive(
        self, message: type[wire.M], messages: Iterator[bytes], context: grpc.ServicerContext
    ) -> wire.M:
        return wire.parse(message, self._patience.receive(messages, context, NAME_SECONDS))

    def _wait(self, work: Coroutine[Any, Any, T], context: grpc.ServicerContext) -> T:
        """What comes out of it on the loop; nobody waits for a caller who has left."""
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise NotReady("the server has stopped") from None

        def leave() -> None:
            future.cancel()

        if not context.add_callback(leave):
            leave()
        try:
            return future.result()
        except CancelledError:
            raise Cancelled("the caller left") from None


def _model(request: RepositoryModelLoadRequest | RepositoryModelUnloadRequest) -> str:
    # KServe's own numbers put the name of the model where the protocol has the repository's.
    name: str = request.model_name or request.repository_name
    asking().permit(Right.ADMIN, name)
    return name


def _entry(one: Indexed) -> RepositoryIndexResponse.ModelIndex:
    return RepositoryIndexResponse.ModelIndex(
        name=one.name, version=one.version, state=one.state, reason=one.reason
    )
