"""Live, ready, metadata, infer: the one handler under both fronts.  Loop-only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from oipserver.core.admission import Admission, Gate
from oipserver.core.contract import Work
from oipserver.core.errors import Fault
from oipserver.core.messages import (
    Arrays,
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    Tensor,
)
from oipserver.core.registry import Registry, Version
from oipserver.core.scheduler import Ticket
from oipserver.core.streaming import Single, Stream

Reply: TypeAlias = Callable[[InferenceResponse | Fault], None]
# Takes an answer, or the fault or None that ends a stream; and whether it is the last that comes.
StreamReply: TypeAlias = Callable[[InferenceResponse | Fault | None, bool], None]

# Marks outputs as MLServer does; its clients decode by it, others ignore it.
NUMPY_CONTENT = {"content_type": "np"}


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """What `GET /v2` and the ServerMetadata RPC answer."""

    name: str
    version: str
    extensions: Sequence[str]


class DataPlane:
    """Every question that a front may ask.

    Args:
        expected: how many versions the configuration names; readiness needs them all.
        beside: what else readiness needs: why it is not there, in words, or "".  With it, a server needs no
            model.
    """

    def __init__(
        self,
        registry: Registry,
        gate: Gate,
        metadata: ServerMetadata,
        expected: int,
        beside: Callable[[], str] | None = None,
    ) -> None:
        self.gate = gate
        self._registry = registry
        self._metadata = metadata
        self._expected = expected
        self._beside = beside

    def live(self) -> bool:
        """True: the event loop answers."""
        return True

    def ready(self) -> bool:
        """Whether every configured version is READY; never without a model, never while draining."""
        return not self.ready_reason()

    def ready_reason(self) -> str:
        """Why the server is not ready, in words; empty when it is."""
        if self.gate.stopping:
            return "the server is shutting down"
        if not self._expected and self._beside is None:
            return "no model is configured"
        versions = self._registry.versions()
        waiting = [_describe(version) for version in versions if not version.ready]
        if len(versions) < self._expected:
            waiting.append(f"{self._expected - len(versions)} more to load")
        if self._beside is not None and (reason := self._beside()):
            waiting.append(reason)
        return "; ".join(waiting)

    def server_metadata(self) -> ServerMetadata:
        """Name, version and protocol extensions of this server."""
        return self._metadata

    def model_names(self) -> list[str]:
        """Every model that is configured, loaded or not."""
        return list(dict.fromkeys(version.config.name for version in self._registry.versions()))

    def scoring_models(self) -> list[str]:
        """The loaded models that have a scoring protocol."""
        ready = [version for version in self._registry.versions() if version.ready]
        found = [each.config.name for each in ready if each.contract.model.scoring is not None]
        return list(dict.fromkeys(found))

    def model_ready(self, name: str, version: str | None) -> bool:
        """Whether the model answers infer requests now.

        Raises:
            NotFound: no such model or version.
        """
        return self._registry.find(name, version).ready and not self.gate.stopping

    def model_not_ready_reason(self, name: str, version: str | None) -> str:
        """The sentence for a model that is known but not ready."""
        return _describe(self._registry.find(name, version))

    def model_metadata(self, name: str, version: str | None) -> ModelMetadata:
        """The announced tensors of a model.

        Raises:
            NotFound: no such model or version.
            NotReady: it is not loaded.
        """
        found = self._registry.find(name, version).serving()
        model = found.contract.model
        return ModelMetadata(
            name=name,
            versions=[found.config.version] if version is not None else self._registry.names(name),
            platform=model.platform,
            inputs=model.inputs,
            outputs=model.outputs,
            optional_outputs=model.optional_outputs,
            named_inputs=model.named_inputs,
            parameters={**model.parameters, **found.execution},
        )

    def serving(self, name: str, version: str | None, admission: Admission | None = None) -> Version:
        """The version that would answer now; the admission learns whose request it is.

        Raises:
            NotFound: no such model or version.
            NotReady: it does not serve now.
        """
        found = self._registry.find(name, version)
        if admission is not None:
            admission.of(found.config)
        return found.serving()

    def submit(self, request: InferenceRequest, reply: Reply, admission: Admission | None = None) -> Ticket:
        """Check and queue a request; `reply` is called once, later, unless the ticket is cancelled.

        Raises:
            Fault: the request was refused; `reply` is not called.
        """
        version = self.serving(request.model_name, request.model_version, admission)
        return self.enqueue(request, version.contract.check(request), version, reply)

    def enqueue(self, request: InferenceRequest, work: Work, version: Version, reply: Reply) -> Ticket:
        """Queue a request that `version` has checked; as `submit`."""

        def answer(result: Arrays | Fault) -> None:
            reply(result if isinstance(result, Fault) else response(request, version, result))

        return version.scheduler.submit(work, request.deadline, answer)

    def stream(
        self, request: InferenceRequest, reply: StreamReply, admission: Admission | None = None
    ) -> Stream | Single:
        """Check a request and start its answers; `reply` is called later, on the loop.

        The model goes on with its next answer when the caller says `taken()`; `cancel()` ends the stream.
        A model that does not stream has one answer, computed together with everybody's requests.

        Raises:
            Fault: the request was refused; `reply` is not called.
        """
        version = self.serving(request.model_name, request.model_version, admission)
        return self.open_stream(request, version.contract.check(request), version, reply)

    def open_stream(
        self, request: InferenceRequest, work: Work, version: Version, reply: StreamReply
    ) -> Stream | Single:
        """Start the answers to a request that `version` has checked; as `stream`."""
        if version.streams is None:
            return Single(self.enqueue(request, work, version, lambda result: reply(result, True)))

        def sink(result: Arrays | Fault | None) -> None:
            if result is None or isinstance(result, Fault):
                reply(result, True)
            else:
                reply(response(request, version, result), False)

        return version.streams.open(work, request.deadline, sink)

    async def infer(self, request: InferenceRequest, admission: Admission | None = None) -> InferenceResponse:
        """The answer to one request; cancelling the awaiting task cancels the request.

        Raises:
            Fault: the request was refused or failed.
        """
        future: asyncio.Future[InferenceResponse | Fault] = asyncio.get_running_loop().create_future()
        ticket = self.submit(request, future.set_result, admission)
        try:
            result = await future
        except asyncio.CancelledError:
            ticket.cancel()
            raise
        if isinstance(result, Fault):
            raise result
        return result


def _describe(version: Version) -> str:
    because = f" ({version.reason})" if version.reason else ""
    return f"model '{version.config.name}' is {version.state.value}{because}"


def response(request: InferenceRequest, version: Version, arrays: Arrays) -> InferenceResponse:
    """What a version computed, as the answer to a request."""
    contract = version.contract
    outputs = [
        Tensor(name, contract.output(name).datatype, array, NUMPY_CONTENT) for name, array in arrays.items()
    ]
    return InferenceResponse(request.model_name, version.config.version, request.id, outputs, NUMPY_CONTENT)
