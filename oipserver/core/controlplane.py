"""Index, load, unload: what an operator may ask of the models.  Loop-only.

Only what is configured can be loaded, from where the configuration says that it is: a request carries neither
configuration nor files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from oipserver.core.errors import NotFound, NotReady, Unsupported, printable
from oipserver.core.messages import ModelState
from oipserver.core.model_config import ModelConfig
from oipserver.core.registry import Registry, Version

T = TypeVar("T")

# The protocol's words ("Model Repository Extension"); it knows fewer states than we do.
_WORDS = {
    ModelState.LOADING: "LOADING",
    ModelState.WARMING: "LOADING",
    ModelState.READY: "READY",
    ModelState.UNLOADING: "UNLOADING",
    ModelState.UNLOADED: "UNAVAILABLE",
    ModelState.FAILED: "UNAVAILABLE",
}


@dataclass(frozen=True, slots=True)
class Indexed:
    """One version in the index.

    Attributes:
        state: READY, UNAVAILABLE, LOADING or UNLOADING.
        reason: why it is UNAVAILABLE, or why a READY one was not replaced; empty otherwise.
    """

    name: str
    version: str
    state: str
    reason: str


class ControlPlane:
    """What a repository API, a signal or a watcher may do with the models.

    Args:
        models: the configured ones, in their order.
        explicit: callers may load and unload.
        changed: called when a load or an unload has come to its end.
    """

    def __init__(
        self,
        registry: Registry,
        models: Sequence[ModelConfig],
        explicit: bool,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._registry = registry
        self._models = models
        self._explicit = explicit
        self._changed = changed
        self._tasks: set[asyncio.Task[Any]] = set()

    def index(self, ready_only: bool = False) -> list[Indexed]:
        """Every configured version and its state, whatever the mode of control."""
        versions = self._registry.versions()
        return [_indexed(version) for version in versions if version.ready or not ready_only]

    async def load(self, name: str) -> None:
        """Load, or load again, every configured version of a model, from where it is stored.

        Whoever waits for it may leave, it goes on.

        Raises:
            Unsupported: callers may not load here.
            NotFound: no such model is configured.
            NotReady: it failed, and why; what served before serves on.
        """
        await self._to_the_end(self.reload(self._configured(name)))

    async def unload(self, name: str) -> None:
        """Let every version of a model finish what it has begun, and let go of it.

        Whoever waits for it may leave, it goes on.

        Raises:
            Unsupported: callers may not unload here.
            NotFound: no such model is configured.
        """
        configs = self._configured(name)
        await self._to_the_end(self._unload(configs))

    async def reload(self, configs: Sequence[ModelConfig]) -> None:
        """Load these again, at the same time, whatever the mode of control.

        Raises:
            NotReady: at least one failed, and why.
        """
        versions = await asyncio.gather(*map(self._registry.load, configs))
        self._changed()
        failed = [version for version in versions if version.reason]
        if failed:
            raise NotReady("; ".join(map(_failure, failed)))

    def start_reload(self, configs: Sequence[ModelConfig]) -> None:
        """As `reload`, and nobody waits for it; what fails is in the log."""
        self._start(self.reload(configs)).add_done_callback(_seen)

    def wanted(self) -> list[ModelConfig]:
        """What is configured and was not unloaded."""
        unwanted = (ModelState.UNLOADING, ModelState.UNLOADED)
        return [one.config for one in self._registry.versions() if one.state not in unwanted]

    def close(self) -> None:
        """Give up the loads and unloads that are under way."""
        for task in self._tasks:
            task.cancel()

    def _configured(self, name: str) -> list[ModelConfig]:
        if not self._explicit:
            raise Unsupported("models are loaded and unloaded on request only with --model-control explicit")
        configs = [config for config in self._models if config.name == name]
        if not configs:
            raise NotFound(f"no model '{printable(name)}' is configured")
        return configs

    async def _unload(self, configs: Sequence[ModelConfig]) -> None:
        await asyncio.gather(*(self._registry.unload(one.name, one.version) for one in configs))
        self._changed()

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        task = self._start(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise NotReady("the server is shutting down") from None
            raise


def _seen(task: asyncio.Task[None]) -> None:
    """The registry has told of a failure; asyncio need not."""
    if not task.cancelled():
        task.exception()


def refuse_parameters(names: Sequence[str]) -> None:
    """What a load may bring with it: nothing.

    Raises:
        Unsupported: parameters that would change what is loaded, or from where.
    """
    if names:
        raise Unsupported(
            f"parameter '{printable(names[0])}': a load takes no parameters, no configuration and no files; "
            "the model is loaded as the server's configuration says"
        )


def _indexed(version: Version) -> Indexed:
    config = version.config
    reason = version.reason
    if version.ready and version.refused:
        reason = f"it serves; the version that was to replace it failed to load: {version.refused}"
    elif version.state is ModelState.UNLOADED:
        reason = "unloaded"
    return Indexed(config.name, config.version, _WORDS[version.state], reason)


def _failure(version: Version) -> str:
    config = version.config
    return f"model '{config.name}' version '{config.version}' failed to load: {version.reason}"
