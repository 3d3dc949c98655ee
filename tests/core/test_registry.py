"""Versions from LOADING to UNLOADED, and what happens when a step fails."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from oipserver import FP64, Arrays, InvalidInput, Model, ModelConfig, Parameters, TensorMetadata
from oipserver.core.errors import NotFound, NotReady
from oipserver.core.messages import ModelState
from oipserver.core.observer import SilentObserver
from oipserver.core.registry import TRANSITIONS, WARM_UP_ROWS, Registry
from oipserver.core.scheduler import Budget
from tests.support import (
    PATIENCE,
    Doubler,
    GatedModel,
    Plane,
    outcome,
    request,
    run,
    until,
    with_time,
)


class States(SilentObserver):
    """Remembers the states in their order."""

    def __init__(self) -> None:
        self.seen: list[ModelState] = []

    def state(self, model: str, version: str, state: ModelState) -> None:
        self.seen.append(state)


def config(version: str = "1") -> ModelConfig:
    return ModelConfig(name="m", runtime="test", version=version)


def registry_of(model: Model | Exception, states: States) -> Registry:
    def load(_: ModelConfig) -> Model:
        if isinstance(model, Exception):
            raise model
        return model

    return Registry(load, Budget(10, 2**20), states)


def test_a_version_goes_through_its_states_and_is_warm_when_it_is_ready() -> None:
    async def scenario() -> None:
        states, model = States(), Doubler()
        registry = registry_of(model, states)
        version = await registry.load(config())
        assert version.ready
        assert model.calls == list(WARM_UP_ROWS)
        await registry.close()
        assert model.closed
        assert states.seen == [
            ModelState.LOADING,
            ModelState.WARMING,
            ModelState.READY,
            ModelState.UNLOADING,
            ModelState.UNLOADED,
        ]

    run(scenario())


def test_every_state_has_its_ways_out_and_no_other_is_taken() -> None:
    assert set(TRANSITIONS) == set(ModelState)

    async def scenario() -> None:
        registry = registry_of(Doubler(), States())
        version = await registry.load(config())
        with pytest.raises(RuntimeError, match="READY to LOADING"):
            version.enter(ModelState.LOADING)
        await registry.close()

    run(scenario())


def test_a_load_that_fails_is_failed_with_its_reason() -> None:
    async def scenario() -> None:
        states = States()
        registry = registry_of(ValueError("half of the file is missing"), states)
        version = await registry.load(config())
        assert (version.state, version.reason) == (ModelState.FAILED, "half of the file is missing")
        with pytest.raises(NotReady, match="FAILED"):
            registry.find("m", None).serving()
        await registry.close()
        assert states.seen[-1] is ModelState.UNLOADED

    run(scenario())


def test_a_model_that_does_not_answer_what_it_announces_never_serves() -> None:
    class Liar(Doubler):
        def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
            return {"y": np.zeros((len(inputs["x"]), 3))}

    async def scenario() -> None:
        version = await registry_of(Liar(), States()).load(config())
        assert version.state is ModelState.FAILED
        assert "announced" in version.reason

    run(scenario())


@pytest.mark.parametrize(
    "announced",
    [TensorMetadata("y", FP64, ()), TensorMetadata("\ud800", FP64, (-1, 2))],
    ids=["scalar", "name"],
)
def test_a_model_whose_announcement_cannot_be_served_is_let_go(announced: TensorMetadata) -> None:
    async def scenario() -> None:
        model = Doubler()
        model.outputs = (announced,)
        version = await registry_of(model, States()).load(config())
        assert version.state is ModelState.FAILED
        assert model.closed

    run(scenario())


def test_a_model_without_a_valid_example_serves_all_the_same() -> None:
    async def scenario() -> None:
        model = Doubler(poison={0.0: InvalidInput("zero is unknown")})
        version = await registry_of(model, States()).load(config())
        assert version.ready

    run(scenario())


@pytest.mark.parametrize("execution", ["compiled", "auto"])
def test_a_runtime_that_does_not_compile_says_so(execution: str, caplog: pytest.LogCaptureFixture) -> None:
    class Library(Doubler):
        parameters: Mapping[str, object] = {"library": "1.0"}

    async def scenario() -> None:
        async with Plane({"m": Library()}, execution=execution) as plane:
            assert plane.data.model_metadata("m", None).parameters == {
                "library": "1.0",
                "execution": "native",
                "execution_reason": "runtime 'test' does not compile",
            }

    run(scenario())
    (warning,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    told = f"model 'm': execution is native, not {execution}: runtime 'test' does not compile"
    assert warning.getMessage() == told


@pytest.mark.parametrize(
    ("execution", "told"), [("native", {}), ("native", {"library": "1.0"}), ("auto", {"execution": "native"})]
)
def test_what_a_runtime_says_of_its_execution_stands(
    execution: str, told: Mapping[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    class Compiler(Doubler):
        parameters = told

    async def scenario() -> None:
        async with Plane({"m": Compiler()}, execution=execution) as plane:
            assert plane.data.model_metadata("m", None).parameters == told

    run(scenario())
    assert not caplog.records


def test_the_newest_ready_version_answers_where_none_is_named() -> None:
    async def scenario() -> None:
        registry = registry_of(Doubler(), States())
        for version in ("2", "10", "9"):
            await registry.load(config(version))
        assert registry.find("m", None).config.version == "10"
        assert registry.names("m") == ["2", "9", "10"]
        with pytest.raises(NotFound, match="no version '3'; it has 2, 9, 10"):
            registry.find("m", "3")
        with pytest.raises(NotFound, match="no model 'n'"):
            registry.find("n", None)
        await registry.close()

    run(scenario())


def test_a_model_that_fails_to_close_does_not_keep_the_others_from_it() -> None:
    class Stubborn(Doubler):
        def close(self) -> None:
            raise OSError("still in use")

    async def scenario() -> None:
        kind = Doubler()
        async with Plane({"m": Stubborn(), "n": kind}) as plane:
            pass
        assert kind.closed
        assert all(version.state is ModelState.UNLOADED for version in plane.registry.versions())

    run(scenario())


def test_a_model_is_closed_only_when_nothing_computes_in_it_any_more() -> None:
    async def scenario(seconds: float) -> None:
        model = GatedModel()
        async with Plane({"m": model}) as plane:
            model.gate.clear()
            hasty = asyncio.ensure_future(outcome(plane.data.infer(request(1.0, seconds=seconds))))
            await until(hasty.done)  # its deadline has passed, the model computes on
            assert model.entered.acquire(blocking=False)
            closing = asyncio.ensure_future(plane.registry.close())
            done, _ = await asyncio.wait({closing}, timeout=0.1)
            assert not done
            assert not model.closed
            model.gate.set()
            await closing
            assert model.closed

    with_time(lambda seconds: run(scenario(seconds)), 0.05, 0.5, 5.0)


class Stored:
    """A store from which nothing comes before it may."""

    def __init__(self) -> None:
        self.loads = 0
        self.begun = threading.Semaphore(0)
        self.may = threading.Semaphore(0)

    def load(self, _: ModelConfig) -> Model:
        self.loads += 1
        self.begun.release()
        assert self.may.acquire(timeout=PATIENCE)
        return Doubler()


def test_however_often_it_is_asked_for_one_load_follows_the_one_under_way() -> None:
    async def scenario() -> None:
        stored = Stored()
        registry = Registry(stored.load, Budget(10, 2**20), States())
        first = asyncio.ensure_future(registry.load(config()))
        assert await asyncio.to_thread(stored.begun.acquire, timeout=PATIENCE)
        storm = [asyncio.ensure_future(registry.load(config())) for _ in range(500)]
        await asyncio.sleep(0)
        stored.may.release(2)
        found = await asyncio.gather(first, *storm)
        assert stored.loads == 2
        assert len({*found}) == 2
        assert found[-1].ready
        stored.may.release()
        assert (await registry.load(config())).ready
        assert stored.loads == 3
        await registry.close()

    run(scenario())


def test_a_load_that_is_asked_for_behind_an_unload_comes_behind_it() -> None:
    async def scenario() -> None:
        stored = Stored()
        registry = Registry(stored.load, Budget(10, 2**20), States())
        first = asyncio.ensure_future(registry.load(config()))
        assert await asyncio.to_thread(stored.begun.acquire, timeout=PATIENCE)
        asked = [registry.load(config()), registry.unload("m", "1"), registry.load(config())]
        behind = []
        for each in asked:
            behind.append(asyncio.ensure_future(each))
            await asyncio.sleep(0)
        stored.may.release(3)
        await asyncio.gather(first, *behind)
        assert stored.loads == 3
        assert registry.find("m", None).ready
        await registry.close()

    run(scenario())
