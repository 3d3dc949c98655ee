"""Live, ready, metadata, infer: the one handler under both fronts.  Loop-only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from oipserver.core.admission import Admission, Gate
from oipserver.core.contract import Work
from oipserver.core.errors import Fault, NotReady
from oipserver.core.idempotency import Replays, Waiter
from oipserver.core.messages import (
    Arrays,
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    ModelState,
    Tensor,
)
from oipserver.core.model_config import ModelConfig
from oipserver.core.observer import Phases
from oipserver.core.registry import Registry, Version
from oipserver.core.scheduler import Ticket, Timing
from oipserver.core.shared_memory import OFF, Regions
from oipserver.core.statistics import Statistics, VersionStatistics
from oipserver.core.streaming import Single, Stream

# Gives up a request; what else it can is its own.
Handle: TypeAlias = Ticket | Waiter
Reply: TypeAlias = Callable[[InferenceResponse | Fault], None]
# Takes an answer, or the fault or None that ends a stream; and whether it is the last that comes.
StreamReply: TypeAlias = Callable[[InferenceResponse | Fault | None, bool], None]

# An unloaded model is not what a server waits for: somebody wanted it so.
_AS_WISHED = (ModelState.READY, ModelState.UNLOADING, ModelState.UNLOADED)
# Marks outputs as MLServer does; its clients decode by it, others ignore it.
NUMPY_CONTENT = {"content_type": "np"}
# A request with this parameter set to true gets `_timing_parameters` with its answer.
TIMING_PARAMETER = "server_timing"


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
        regions: of shared memory, which tensors may stand in.
        statistics: what was counted of each version.
    """

    def __init__(
        self,
        registry: Registry,
        gate: Gate,
        metadata: ServerMetadata,
        expected: int,
        beside: Callable[[], str] | None = None,
        regions: Regions = OFF,
        statistics: Statistics | None = None,
        replays: Replays | None = None,
    ) -> None:
        self.gate = gate
        self.regions = regions
        self._statistics = statistics or Statistics()
        self._replays = replays or Replays()
        self._registry = registry
        self._metadata = metadata
        self._expected = expected
        self._beside = beside

    def live(self) -> bool:
        """True: the event loop answers."""
        return True

    def ready(self) -> bool:
        """Whether every configured version is READY, but for those that were unloaded on purpose.

        Never without a configured model, never while draining.
        """
        return not self.ready_reason()

    def ready_reason(self) -> str:
        """Why the server is not ready, in words; empty when it is."""
        if self.gate.stopping:
            return "the server is shutting down"
        if not self._expected and self._beside is None:
            return "no model is configured"
        versions = self._registry.versions()
        waiting = [_describe(version) for version in versions if version.state not in _AS_WISHED]
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

    def refused_reload(self, name: str, version: str | None) -> str:
        """Why the version serves that was to be replaced, in words; empty when there is nothing to say.

        Raises:
            NotFound: no such model or version.
        """
        return self._registry.find(name, version).refused

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
            parameters={
                **model.parameters,
                **found.execution,
                **({"reload_failed": found.refused} if found.refused else {}),
            },
        )

    def statistics(
        self, name: str | None, version: str | None
    ) -> Sequence[tuple[ModelConfig, VersionStatistics]]:
        """What was counted: of one version, of all of one model, or of all.

        Raises:
            NotFound: no such model or version.
        """
        if name is None:
            found = self._registry.versions()
        elif version is None:
            self._registry.find(name, None)  # it says which model there is not
            found = [self._registry.find(name, each) for each in self._registry.names(name)]
        else:
            found = [self._registry.find(name, version)]
        return [(each.config, self._statistics.of(each.config.name, each.config.version)) for each in found]

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

    def submit(self, request: InferenceRequest, reply: Reply, admission: Admission | None = None) -> Handle:
        """Check and queue a request; `reply` is called once, later, unless the ticket is cancelled.

        Raises:
            Fault: the request was refused; `reply` is not called.
        """
        version = self.serving(request.model_name, request.model_version, admission)
        return self.enqueue(request, version.contract.check(request), version, reply, admission)

    def enqueue(
        self,
        request: InferenceRequest,
        work: Work,
        version: Version,
        reply: Reply,
        admission: Admission | None = None,
    ) -> Handle:
        """Queue a request that `version` has checked; as `submit`.

        The admission learns how many rows it has and, before `reply`, where the time went.
        """
        if admission is None:
            return self._queue(request, work, version, reply, None)
        admission.brings(work.rows)
        if not admission.idempotency:
            return self._queue(request, work, version, reply, admission)
        scope = (admission.caller.name, request.model_name, request.model_version, admission.idempotency)

        def compute(request: InferenceRequest, work: Work, reply: Reply) -> None:
            self._queue(request, work, version, reply, admission)

        def answer(result: InferenceResponse | Fault) -> None:
            if admission.phases is None and not isinstance(result, Fault):
                admission.phases = Phases(started=time.monotonic())  # the model was not called for it
            reply(result)

        return self._replays.submit(scope, request, work, compute, answer)

    def _queue(
        self,
        request: InferenceRequest,
        work: Work,
        version: Version,
        reply: Reply,
        admission: Admission | None,
    ) -> Ticket:
        def answer(result: Arrays | Fault) -> None:
            timing = version.scheduler.timing
            if timing is not None and admission is not None:
                admission.phases = _phases(timing)
            if isinstance(result, Fault):
                reply(result)
                return
            whole = response(request, version, result)
            if timing is not None and request.parameters.get(TIMING_PARAMETER) is True:
                whole.parameters = {**whole.parameters, **_timing_parameters(timing)}
            reply(whole)

        try:
            caller = "" if admission is None else admission.caller.name
            return version.scheduler.submit(work, request.deadline, answer, caller, request.priority)
        except NotReady:
            return self._queue(*self._again(request, version), reply, admission)

    def _again(self, request: InferenceRequest, left: Version) -> tuple[InferenceRequest, Work, Version]:
        """A request that was checked by a version which another one has replaced since."""
        version = self.serving(request.model_name, request.model_version)
        if version is left:
            raise NotReady("the server is shutting down")
        return request, version.contract.check(request), version

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
        return self.open_stream(request, version.contract.check(request), version, reply, admission)

    def open_stream(
        self,
        request: InferenceRequest,
        work: Work,
        version: Version,
        reply: StreamReply,
        admission: Admission | None = None,
    ) -> Stream | Single:
        """Start the answers to a request that `version` has checked; as `stream`."""
        if version.streams is None:
            return Single(self.enqueue(request, work, version, lambda result: reply(result, True), admission))
        if admission is not None:
            admission.brings(work.rows)

        def sink(result: Arrays | Fault | None) -> None:
            if result is None or isinstance(result, Fault):
                reply(result, True)
            else:
                reply(response(request, version, result), False)

        try:
            return version.streams.open(work, request.deadline, sink)
        except NotReady:
            return self.open_stream(*self._again(request, version), reply, admission)

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


def _phases(timing: Timing) -> Phases:
    return Phases(0.0, timing.queue, timing.compute, 0.0, timing.batch_rows, timing.started)


def _timing_parameters(timing: Timing) -> dict[str, int | float]:
    return {
        "queue_seconds": timing.queue,
        "compute_seconds": timing.compute,
        "batch_rows": timing.batch_rows,
    }


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
