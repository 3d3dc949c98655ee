"""What is loaded: the versions of each model and the state that each is in.

LOADING → WARMING → READY → UNLOADING → UNLOADED, and FAILED from the first three.

A version that serves is loaded again beside itself.  When the new one is warm and has passed its checks it
takes the old one's place, at one stroke; the old one finishes what it has begun and lets go of its memory.
When the new one fails, the old one stays and can say why.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeAlias

from oipserver.core.contract import Contract
from oipserver.core.crew import HANG_TIMEOUT
from oipserver.core.errors import BadRequest, Fault, NotFound, NotReady, printable
from oipserver.core.executor import Executor
from oipserver.core.messages import ModelState
from oipserver.core.model import Model
from oipserver.core.model_config import ModelConfig
from oipserver.core.observer import Observer
from oipserver.core.replay import replay
from oipserver.core.scheduler import Budget, Scheduler
from oipserver.core.streaming import Streams
from oipserver.core.threads import in_daemon_thread

logger = logging.getLogger("oipserver.registry")

TRANSITIONS: Mapping[ModelState, frozenset[ModelState]] = {
    ModelState.LOADING: frozenset({ModelState.WARMING, ModelState.FAILED}),
    ModelState.WARMING: frozenset({ModelState.READY, ModelState.FAILED}),
    ModelState.READY: frozenset({ModelState.UNLOADING, ModelState.FAILED}),
    ModelState.UNLOADING: frozenset({ModelState.UNLOADED}),
    ModelState.FAILED: frozenset({ModelState.UNLOADED}),
    ModelState.UNLOADED: frozenset(),
}

# Row counts that are measured before READY, so that placement and waiting start from facts.
WARM_UP_ROWS = (1, 8, 64)
_WARM_UP_PATIENCE = 1.0
# A model that has lost so many threads to calls that hang is not asked any more.
MOST_LOST = 4

Load: TypeAlias = Callable[[ModelConfig], Model]


class Version:
    """One version of one model.  `contract` and `scheduler` exist from WARMING on.

    Attributes:
        streams: of a model that is `decoupled`; None for all others.
        reason: why it is FAILED, in words; empty otherwise.
        refused: why the version that was to replace it does not, in words; empty otherwise.
        execution: for the metadata, why the model is not compiled although that was asked for, where its
            runtime does not say so itself.
    """

    def __init__(
        self, config: ModelConfig, observer: Observer, state: ModelState = ModelState.LOADING
    ) -> None:
        self.config = config
        self.state = state
        self.reason = ""
        self.refused = ""
        self.contract: Contract
        self.scheduler: Scheduler
        self.streams: Streams | None = None
        self.execution: Mapping[str, str] = {}
        self._executor: Executor | None = None
        self._observer = observer
        observer.state(config.name, config.version, self.state)

    def open(
        self, contract: Contract, executor: Executor, scheduler: Scheduler, streams: Streams | None
    ) -> None:
        """The model is in memory."""
        self.contract, self._executor, self.scheduler = contract, executor, scheduler
        self.streams = streams

    @property
    def ready(self) -> bool:
        """Whether it answers infer requests now."""
        return self.state is ModelState.READY

    @property
    def lost_threads(self) -> int:
        """Threads in which its model hangs, given up and replaced."""
        if self._executor is None:
            return 0
        return self._executor.lost + (self.streams.lost if self.streams is not None else 0)

    @property
    def holds_model(self) -> bool:
        """Whether the model is in memory on its account."""
        return self._executor is not None

    def serving(self) -> Version:
        """Itself, when it answers infer requests now.

        Raises:
            NotReady: it does not.
        """
        if self.state is not ModelState.READY:
            config = self.config
            because = "; its ready route says why" if self.reason else ""
            raise NotReady(f"model '{config.name}' version '{config.version}' is {self.state.value}{because}")
        return self

    @property
    def depth(self) -> int:
        """Requests waiting for this version."""
        if self._executor is None:
            return 0
        return self.scheduler.depth + (self.streams.depth if self.streams is not None else 0)

    def enter(self, state: ModelState, reason: str = "") -> None:
        """Change the state along the table."""
        if state not in TRANSITIONS[self.state]:
            raise RuntimeError(f"{self.config.name} cannot go from {self.state.value} to {state.value}")
        self.state = state
        self.reason = reason
        self._observer.state(self.config.name, self.config.version, state)

    def abandon(self, fault: Fault) -> None:
        """Fail whatever still waits or runs."""
        if self._executor is not None:
            self.scheduler.abandon(fault)
        if self.streams is not None:
            self.streams.abandon(fault)

    async def close(self) -> None:
        """Finish what is queued and running, then let go of the model."""
        if self.ready:
            self.enter(ModelState.UNLOADING)
        if self._executor is not None:
            await self.scheduler.drain()
        await self.let_go()
        if self.state in (ModelState.UNLOADING, ModelState.FAILED):
            self.enter(ModelState.UNLOADED)

    async def let_go(self) -> None:
        """Close the model, in which nothing computes any more, and what has run it; once."""
        executor, self._executor = self._executor, None
        if executor is not None:
            if self.streams is not None:
                await self.streams.close()
            await executor.close()
            await release(self.contract.model, self.config.name)


class Registry:
    """All versions, by model name.  Loop-only.

    Args:
        load: finds the runtime and loads; called on a thread of its own for each version.
        budget: bounds what waits in the whole server.
        released: called with a model that nothing here needs any more.
        hang_timeout: seconds until a model's call is given up, with its thread.
        on_hang: called when a model is FAILED because too many of them were.
    """

    def __init__(
        self,
        load: Load,
        budget: Budget,
        observer: Observer,
        released: Callable[[Model], None] = lambda _: None,
        hang_timeout: float = HANG_TIMEOUT,
        on_hang: Callable[[], None] = lambda: None,
    ) -> None:
        self._load = load
        self._budget = budget
        self._observer = observer
        self._released = released
        self._hang_timeout = hang_timeout
        self._on_hang = on_hang
        self._models: dict[str, dict[str, Version]] = {}
        # Of each model and version one load or unload at a time.
        self._turns: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)
        # Loads that wait for their turn.
        self._next: dict[tuple[str, str], asyncio.Task[Version]] = {}
        self._leaving: dict[Version, asyncio.Task[None]] = {}

    def versions(self) -> list[Version]:
        """Every version, in order of configuration."""
        return [version for versions in self._models.values() for version in versions.values()]

    def names(self, model: str) -> list[str]:
        """The versions of one model, oldest first."""
        return sorted(self._models[model], key=_version_order)

    def find(self, model: str, version: str | None) -> Version:
        """The version asked for; without one, the newest that is ready, else the newest.

        Raises:
            NotFound: no such model or version.
        """
        versions = self._models.get(model)
        if versions is None:
            raise NotFound(f"no model '{printable(model)}'")
        if version is not None:
            if version not in versions:
                known = ", ".join(self.names(model))
                raise NotFound(f"model '{model}' has no version '{printable(version)}'; it has {known}")
            return versions[version]
        if len(versions) == 1:
            return next(iter(versions.values()))
        return max(versions.values(), key=lambda one: (one.ready, _version_order(one.config.version)))

    async def load(self, config: ModelConfig) -> Version:
        """Load, warm up, check, serve; in the place of what serves under this name and version until then.

        A failure is not raised: the version that comes back is FAILED and has the reason.  One that served
        before serves on, with the reason as `refused`.

        However often it is asked for while another load is under way, one more follows.
        """
        key = config.name, config.version
        if key not in self._next:
            self._next[key] = asyncio.ensure_future(self._load_in_turn(config))
        return await self._next[key]

    async def _load_in_turn(self, config: ModelConfig) -> Version:
        key = config.name, config.version
        async with self._turns[key]:
            self._next.pop(key, None)  # who asks from now on may mean files that are newer
            version = Version(config, self._observer)
            versions = self._models.setdefault(config.name, {})
            before = versions.get(config.version)
            if before is None or not before.ready:
                versions[config.version] = version  # nothing better is there to be seen
            try:
                await self._prepare(version)
            except Exception as error:
                self._failed(version, error)
            except asyncio.CancelledError:  # the server stops
                self._retire(version)
                raise
            else:
                version.enter(ModelState.READY)
                versions[config.version] = version
            if before is not None and versions[config.version] is version:
                if version.ready:
                    logger.info("model '%s' version '%s' was loaded again", config.name, config.version)
                self._retire(before)
            return version

    def _failed(self, version: Version, error: Exception) -> None:
        config = version.config
        reason = error.message if isinstance(error, Fault) else str(error) or type(error).__name__
        version.enter(ModelState.FAILED, printable(reason, 1024))
        present = self._models[config.name][config.version]
        stays = "" if present is version else "; the one before serves on"
        logger.error(
            "model '%s' version '%s' failed to load: %s%s", config.name, config.version, reason, stays
        )
        logger.debug("traceback", exc_info=error)
        if present is not version:
            present.refused = version.reason
        if version.holds_model:
            self._beside(version, version.let_go)

    async def unload(self, model: str, version: str) -> None:
        """Finish what a version has begun, and let go of it; its place stays, UNLOADED.

        Raises:
            NotFound: no such model or version.
        """
        self._next.pop((model, version), None)  # a load that is asked for behind this comes behind it
        async with self._turns[model, version]:
            before = self.find(model, version)
            await asyncio.shield(self._retire(before))
            # A request that comes slowly may hold the old one still; its place does not.
            self._models[model][version] = Version(before.config, self._observer, ModelState.UNLOADED)

    def _retire(self, version: Version) -> asyncio.Task[None]:
        """Have a version that takes no more requests close, beside what goes on."""
        if version.ready:
            version.enter(ModelState.UNLOADING)
        return self._beside(version, version.close)

    def _beside(self, version: Version, close: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        if version not in self._leaving:
            held = version.holds_model
            task = self._leaving[version] = asyncio.ensure_future(close())
            task.add_done_callback(lambda _: self._left(version, held))
        return self._leaving[version]

    def _left(self, version: Version, held: bool) -> None:
        del self._leaving[version]
        if held:
            self._released(version.contract.model)

    async def _prepare(self, version: Version) -> None:
        config, loop = version.config, asyncio.get_running_loop()
        model = await in_daemon_thread(lambda: self._load(config), f"load-{config.name}")
        try:
            contract = Contract(
                model, config.name, batched=config.max_batch_size > 0 and model.has_batch_axis
            )
        except Exception:
            await release(model, config.name)
            raise
        hang = self._hang_timeout, lambda: self._lost_thread(version)
        executor = Executor(model, config.instance_group, loop, config.name, *hang)
        scheduler = Scheduler(contract, executor, config, self._budget, self._observer, loop)
        streams = Streams(contract, config, self._budget, loop, *hang) if model.decoupled else None
        version.open(contract, executor, scheduler, streams)
        version.execution = _unheard_execution(model, config)
        version.enter(ModelState.WARMING)
        await warm_up(contract, executor)
        if rows := await replay(contract, executor, config.max_batch_size):
            logger.info(
                "model '%s' version '%s' answers its %d golden rows", config.name, config.version, rows
            )

    def _lost_thread(self, version: Version) -> None:
        lost, config = version.lost_threads, version.config
        if lost < MOST_LOST or not version.ready:
            return
        reason = f"{lost} of its calls have each taken more than {self._hang_timeout:g} s and go on"
        logger.error("model '%s' version '%s' failed: %s", config.name, config.version, reason)
        version.enter(ModelState.FAILED, reason)
        version.abandon(NotReady(f"model '{config.name}' version '{config.version}' is FAILED"))
        self._on_hang()

    def abandon(self, fault: Fault) -> None:
        """Fail whatever still waits or runs."""
        for version in {*self.versions(), *self._leaving}:
            version.abandon(fault)

    async def close(self) -> None:
        """Let every version finish what it has, then give back what it holds."""
        for version in self.versions():
            self._retire(version)
        await asyncio.gather(*self._leaving.values())


def _version_order(version: str) -> tuple[int, int, str]:
    """Numbers by value, before everything that is not a number."""
    return (0, int(version), version) if version.isdecimal() else (1, 0, version)


def _unheard_execution(model: Model, config: ModelConfig) -> Mapping[str, str]:
    """What to say of a wish for compiled execution that the runtime knows nothing of; nothing otherwise."""
    if config.execution == "native" or "execution" in model.parameters:
        return {}
    reason = f"runtime '{config.runtime}' does not compile"
    logger.warning("model '%s': execution is native, not %s: %s", config.name, config.execution, reason)
    return {"execution": "native", "execution_reason": reason}


async def release(model: Model, name: str) -> None:
    """Let the model give back what it holds; one that fails to do so has had its chance."""
    try:
        await in_daemon_thread(model.close, f"close-{name}")
    except Exception:
        logger.exception("model '%s' failed to close", name)


async def warm_up(contract: Contract, executor: Executor) -> None:
    """Call the model as requests will, so that the first of them is as fast as the hundredth.

    Raises:
        Fault: the model cannot compute its own example, or does not answer what it announces.
    """
    model = contract.model
    if model.decoupled and model.example is None:
        return  # a stream is not placed by its cost, and of zeros a generator may make anything, for long
    defaults = tuple(output.name for output in model.outputs)
    sizes = WARM_UP_ROWS if contract.batched else (1,)
    calls = [(rows, defaults) for rows in sizes]
    calls += [(1, (output.name,)) for output in model.optional_outputs]
    for rows, outputs in calls:
        work = contract.example(rows, outputs)
        try:
            answer = await executor.call(work)
        except BadRequest as fault:
            logger.info("warm-up of '%s' skipped: no valid example (%s)", contract.name, fault)
            return
        except Fault:
            if model.example is not None:
                raise
            # Zeros may be nothing that real data ever is, so this says nothing about the model.
            logger.warning("warm-up of '%s' skipped: it fails on zeros; give it an example", contract.name)
            return
        contract.check_answer(answer, outputs, rows)
        if executor.costs.estimate(rows) > _WARM_UP_PATIENCE:
            break
