"""Small real models and a loaded data plane, for tests that need neither files nor scikit-learn."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np
import uvloop

from oipserver import FP64, Arrays, Model, ModelConfig, Parameters, TensorMetadata
from oipserver.core.admission import Gate
from oipserver.core.dataplane import DataPlane, ServerMetadata
from oipserver.core.errors import Fault
from oipserver.core.messages import InferenceRequest, Tensor
from oipserver.core.observer import Observer, SilentObserver
from oipserver.core.registry import Registry
from oipserver.core.scheduler import Budget

T = TypeVar("T")

PATIENCE = 30.0


def faults(kind: type[Fault] = Fault) -> list[type[Fault]]:
    """`Fault` and every fault below it that is the product's, not a test's."""
    below = [fault for child in kind.__subclasses__() for fault in faults(child)]
    return list(dict.fromkeys([kind, *below])) if kind.__module__.startswith("oipserver") else below


class Doubler(Model):
    """Answers twice what it was given, and remembers each call's rows.

    Row values steer it: `poison` raises, so that a batch with a bad request can be made.
    """

    platform = "test"
    inputs: Sequence[TensorMetadata] = (TensorMetadata("x", FP64, (-1, 2)),)
    outputs: Sequence[TensorMetadata] = (TensorMetadata("y", FP64, (-1, 2)),)
    batchable = True

    def __init__(self, poison: dict[float, BaseException] | None = None) -> None:
        self.poison = poison or {}
        self.calls: list[int] = []
        self.closed = False

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        x = inputs["x"]
        self.calls.append(len(x))
        for value, error in self.poison.items():
            if (x == value).any():
                raise error
        return {"y": x * 2.0}

    def close(self) -> None:
        self.closed = True


class GatedModel(Doubler):
    """A Doubler that computes only when `gate` is open, and says when it has begun (`entered`)."""

    def __init__(self, poison: dict[float, BaseException] | None = None) -> None:
        super().__init__(poison)
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        self.entered.release()
        if not self.gate.wait(PATIENCE):
            raise TimeoutError("the test never opened the gate")
        return super().predict(inputs, outputs, parameters)

    def forget_warm_up(self) -> None:
        """Start counting from here."""
        self.calls.clear()
        while self.entered.acquire(blocking=False):
            continue


class Plane:
    """A data plane around models in memory."""

    def __init__(
        self,
        models: dict[str, Model],
        observer: Observer | None = None,
        budget: Budget | None = None,
        **config: Any,
    ) -> None:
        observer = observer or SilentObserver()
        self.models = models
        self.gate = Gate(observer)
        self.registry = Registry(
            lambda wanted: models[wanted.name], budget or Budget(10_000, 2**30), observer
        )
        self.data = DataPlane(
            self.registry, self.gate, ServerMetadata("oipserver", "0", ()), expected=len(models)
        )
        self._config = config

    async def __aenter__(self) -> Plane:
        for name, model in self.models.items():
            await self.registry.load(ModelConfig(name=name, runtime="test", **self._config))
            if isinstance(model, GatedModel):
                model.forget_warm_up()
            elif isinstance(model, Doubler):
                model.calls.clear()
        return self

    async def __aexit__(self, *_: object) -> None:
        for model in self.models.values():
            if isinstance(model, GatedModel):
                model.gate.set()
        await self.registry.close()


def request(
    *values: float, model: str = "m", seconds: float = PATIENCE, outputs: Sequence[str] = ()
) -> InferenceRequest:
    """One row per value; the answer's first column is twice the values."""
    rows = np.array([[value, value] for value in values], dtype=np.float64).reshape(len(values), 2)
    return InferenceRequest(
        model_name=model,
        inputs=[Tensor("x", FP64, rows)],
        id="test",
        deadline=time.monotonic() + seconds,
        outputs=outputs,
    )


def first_column(response: Any) -> list[float]:
    """The first column of the first output."""
    return [float(value) for value in response.outputs[0].data[:, 0]]


async def entered(model: GatedModel) -> None:
    """Return when the model has begun a call."""
    assert await asyncio.to_thread(model.entered.acquire, timeout=PATIENCE)


async def until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds: lets the loop turn, with a deadline."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  any condition, not one that an event tells
            await asyncio.sleep(0)


def with_time(check: Callable[[float], None], *seconds: float) -> None:
    """Run `check` with longer and longer times until it holds; what it raises with the longest is raised.

    For a limit that a test has to keep and then to exceed: a machine that stands still for a moment exceeds a
    short one too early, and a long one would be waited for in every run.
    """
    *shorter, longest = seconds
    for some in shorter:
        with suppress(Exception):
            return check(some)
    return check(longest)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run on the event loop that the server uses, with a deadline against hanging."""

    async def bounded() -> T:
        async with asyncio.timeout(2 * PATIENCE):
            return await coroutine

    return uvloop.run(bounded())


async def outcome(awaitable: Awaitable[T]) -> T | BaseException:
    """What came out of it, be it an answer or a fault."""
    return (await asyncio.gather(awaitable, return_exceptions=True))[0]
