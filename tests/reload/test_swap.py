"""The swap of a version in the registry: who answers what, what stays when it fails, what is let go of."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Generator, Sequence
from contextlib import suppress

import numpy as np
import pytest

from oipserver import FP64, Arrays, Model, ModelConfig, Parameters, TensorMetadata
from oipserver.core.admission import Gate
from oipserver.core.controlplane import ControlPlane, Indexed
from oipserver.core.dataplane import DataPlane, ServerMetadata
from oipserver.core.errors import Fault, NotFound, NotReady, Unsupported
from oipserver.core.messages import InferenceRequest, InferenceResponse, ModelState, Tensor
from oipserver.core.observer import SilentObserver
from oipserver.core.registry import Registry
from oipserver.core.scheduler import Budget
from tests.support import PATIENCE, Doubler, GatedModel, entered, first_column, request, run, until


class Tenfold(Doubler):
    """Answers ten times what it was given, so that it is known from a Doubler."""

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        super().predict(inputs, outputs, parameters)
        return {"y": inputs["x"] * 10.0}


class Broken(Doubler):
    """Fails its own check."""

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        return {"y": np.zeros((len(inputs["x"]), 3))}


class Narrow(Doubler):
    """Takes one column where the others take two."""

    inputs: Sequence[TensorMetadata] = (TensorMetadata("x", FP64, (-1, 1)),)
    outputs: Sequence[TensorMetadata] = (TensorMetadata("y", FP64, (-1, 1)),)


class Store:
    """A data plane and a control plane over what is stored now; `put` stores something else."""

    def __init__(self, stored: Model | Exception, explicit: bool = True) -> None:
        self.stored = stored
        self.released = 0
        self.changes = 0
        self.config = ModelConfig(name="m", runtime="test")
        observer = SilentObserver()
        self.gate = Gate(observer)
        self.registry = Registry(self._load, Budget(1000, 2**30), observer, self._release)
        self.data = DataPlane(self.registry, self.gate, ServerMetadata("test", "0", ()), expected=1)
        self.control = ControlPlane(self.registry, [self.config], explicit, self._change)

    def put(self, stored: Model | Exception) -> None:
        self.stored = stored

    async def __aenter__(self) -> Store:
        await self.registry.load(self.config)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.registry.close()

    async def ask(self, value: float = 1.0) -> float:
        [answer] = first_column(await self.data.infer(request(value)))
        return answer

    def _load(self, config: ModelConfig) -> Model:
        if isinstance(self.stored, Exception):
            raise self.stored
        return self.stored

    def _release(self, _: Model) -> None:
        self.released += 1

    def _change(self) -> None:
        self.changes += 1


def test_a_reload_swaps_the_model_and_lets_go_of_the_old_one() -> None:
    async def scenario() -> None:
        first, second = Doubler(), Tenfold()
        async with Store(first) as store:
            before = store.registry.find("m", None)
            assert await store.ask() == 2.0
            store.put(second)
            await store.control.load("m")
            assert await store.ask() == 10.0
            assert second.calls[-1] == 1
            assert len(second.calls) > 1  # it was warm before it served
            await until(lambda: store.released == 1)
            assert first.closed
            assert before.state is ModelState.UNLOADED
            assert store.changes == 1
            assert [version.state for version in store.registry.versions()] == [ModelState.READY]
        assert second.closed

    run(scenario())


def test_what_has_begun_ends_where_it_began() -> None:
    async def scenario() -> None:
        first = GatedModel()
        async with Store(first) as store:
            first.forget_warm_up()
            first.gate.clear()
            asked = asyncio.ensure_future(store.ask())
            await entered(first)
            waiting = asyncio.ensure_future(store.ask())
            await until(lambda: store.registry.find("m", None).depth == 1)
            store.put(Tenfold())
            await store.control.load("m")
            assert await store.ask() == 10.0
            assert not first.closed
            first.gate.set()
            assert (await asked, await waiting) == (2.0, 2.0)
            await until(lambda: first.closed)

    run(scenario())


def test_a_request_that_was_checked_by_the_old_version_is_answered_by_the_new_one() -> None:
    async def scenario() -> None:
        async with Store(Doubler()) as store:
            old = store.data.serving("m", None)
            question = request(3.0)
            work = old.contract.check(question)
            store.put(Tenfold())
            await store.control.load("m")
            await until(lambda: store.released == 1)
            came: asyncio.Future[InferenceResponse | Fault] = asyncio.get_running_loop().create_future()
            store.data.enqueue(question, work, old, came.set_result)
            assert first_column(await came) == [30.0]

    run(scenario())


def test_it_is_checked_again_for_the_new_one_may_take_other_tensors() -> None:
    async def scenario() -> None:
        async with Store(Doubler()) as store:
            old = store.data.serving("m", None)
            question = request(3.0)
            work = old.contract.check(question)
            store.put(Narrow())
            await store.control.load("m")
            await until(lambda: store.released == 1)
            with pytest.raises(Fault, match=r"expects shape \[-1, 1\]"):
                store.data.enqueue(question, work, old, lambda result: None)

    run(scenario())


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (ValueError("half of the file is missing"), "half of the file is missing"),
        (FileNotFoundError("there is no file 'm.bin'"), "there is no file 'm.bin'"),
        (Broken(), "announced [-1, 2]"),
    ],
    ids=["corrupted", "missing", "answers wrongly"],
)
def test_a_bad_new_version_leaves_the_old_one_serving(bad: Model | Exception, reason: str) -> None:
    async def scenario() -> None:
        first = Doubler()
        async with Store(first) as store:
            store.put(bad)
            with pytest.raises(NotReady) as told:
                await store.control.load("m")
            assert reason in told.value.message
            assert await store.ask() == 2.0
            assert not first.closed
            assert store.data.ready()
            assert store.data.model_ready("m", None)
            assert reason in store.data.refused_reload("m", None)
            assert reason in str(store.data.model_metadata("m", None).parameters["reload_failed"])
            [entry] = store.control.index()
            assert (entry.state, reason in entry.reason) == ("READY", True)
            if isinstance(bad, Broken):
                await until(lambda: store.released == 1)
                assert bad.closed

            store.put(Tenfold())
            await store.control.load("m")
            assert await store.ask() == 10.0
            assert store.data.refused_reload("m", None) == ""
            assert store.data.model_metadata("m", None).parameters == {}
            assert store.control.index() == [Indexed("m", "1", "READY", "")]

    run(scenario())


def test_what_failed_at_first_can_be_mended() -> None:
    async def scenario() -> None:
        async with Store(ValueError("no such column")) as store:
            assert store.control.index() == [Indexed("m", "1", "UNAVAILABLE", "no such column")]
            assert store.control.index(ready_only=True) == []
            assert not store.data.ready()
            store.put(Doubler())
            await store.control.load("m")
            assert await store.ask() == 2.0
            assert store.data.ready()
            assert store.control.index(ready_only=True) == [Indexed("m", "1", "READY", "")]

    run(scenario())


def test_an_unloaded_model_finishes_what_it_has_and_answers_no_more_until_it_is_loaded() -> None:
    async def scenario() -> None:
        first = GatedModel()
        async with Store(first) as store:
            first.forget_warm_up()
            first.gate.clear()
            asked = asyncio.ensure_future(store.ask())
            await entered(first)
            unloading = asyncio.ensure_future(store.control.unload("m"))
            await until(lambda: not store.data.model_ready("m", None))
            assert store.control.index() == [Indexed("m", "1", "UNLOADING", "")]
            with pytest.raises(NotReady, match="UNLOADING"):
                await store.ask()
            assert not unloading.done()
            first.gate.set()
            assert await asked == 2.0
            await unloading
            assert first.closed
            assert store.control.index() == [Indexed("m", "1", "UNAVAILABLE", "unloaded")]
            with pytest.raises(NotReady, match="UNLOADED"):
                await store.ask()
            # It was wanted so.
            assert store.data.ready()
            assert store.control.wanted() == []
            await store.control.unload("m")

            store.put(Tenfold())
            await store.control.load("m")
            assert await store.ask() == 10.0
            assert store.control.wanted() == [store.config]

    run(scenario())


def test_nothing_holds_a_model_that_was_unloaded() -> None:
    """Not even a request that was let in before, and whose body has not come yet."""

    async def scenario() -> None:
        model = Doubler()
        gone = weakref.ref(model)
        async with Store(model) as store:
            assert await store.ask() == 2.0
            store.put(Tenfold())
            del model
            await store.control.unload("m")
            gc.collect()
            assert gone() is None

    run(scenario())


def test_who_waits_for_a_load_may_leave() -> None:
    async def scenario() -> None:
        slow = GatedModel()
        async with Store(Doubler()) as store:
            slow.gate.clear()
            store.put(slow)
            loading = asyncio.ensure_future(store.control.load("m"))
            await entered(slow)
            loading.cancel()
            with suppress(asyncio.CancelledError):
                await loading
            slow.gate.set()
            await until(lambda: store.changes == 1)
            slow.calls.clear()
            assert await store.ask() == 2.0
            assert slow.calls == [1]

    run(scenario())


def test_the_end_of_the_server_gives_up_a_load() -> None:
    async def scenario() -> None:
        slow = GatedModel()
        async with Store(Doubler()) as store:
            slow.gate.clear()
            store.put(slow)
            loading = asyncio.ensure_future(store.control.load("m"))
            await entered(slow)
            store.control.close()
            with pytest.raises(NotReady, match="shutting down"):
                await loading
            assert await store.ask() == 2.0
            slow.gate.set()
        assert slow.closed

    run(scenario())


def test_loads_of_one_model_take_turns() -> None:
    async def scenario() -> None:
        models = [GatedModel() for _ in range(3)]
        async with Store(Doubler()) as store:
            for model in models:
                model.gate.clear()
            store.put(models[0])
            first = asyncio.ensure_future(store.control.load("m"))
            await entered(models[0])
            store.put(models[1])
            second = asyncio.ensure_future(store.control.load("m"))
            models[0].gate.set()
            await first
            await entered(models[1])
            models[1].gate.set()
            await second
            await until(lambda: models[0].closed)
            assert not models[1].closed

    run(scenario())


def test_who_may_not_or_asks_for_what_is_not_there() -> None:
    async def scenario() -> None:
        async with Store(Doubler()) as store:
            for act in (store.control.load, store.control.unload):
                with pytest.raises(NotFound, match="no model 'n' is configured"):
                    await act("n")
        async with Store(Doubler(), explicit=False) as store:
            for act in (store.control.load, store.control.unload):
                with pytest.raises(Unsupported, match="--model-control explicit"):
                    await act("m")
            assert store.control.index() == [Indexed("m", "1", "READY", "")]

    run(scenario())


class Counting(Model):
    """Streams its name, as often as it is asked to."""

    platform = "test"
    inputs: Sequence[TensorMetadata] = (TensorMetadata("n", FP64, (1,)),)
    outputs: Sequence[TensorMetadata] = (TensorMetadata("y", FP64, (1,)),)
    decoupled = True
    has_batch_axis = False

    def __init__(self, name: float) -> None:
        self.name = name

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        raise NotImplementedError

    def stream(
        self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters
    ) -> Generator[Arrays, None, None]:
        for _ in range(int(inputs["n"][0])):
            yield {"y": np.array([self.name])}


def test_a_stream_ends_on_the_version_that_it_began_on() -> None:
    async def scenario() -> None:
        async with Store(Counting(1.0)) as store:
            old = store.data.serving("m", None)

            def ask() -> tuple[InferenceRequest, list[float], asyncio.Event, asyncio.Event]:
                question = InferenceRequest(
                    "m", [Tensor("n", FP64, np.array([3.0]))], "id", _later(), outputs=()
                )
                return question, [], asyncio.Event(), asyncio.Event()

            def sink(came: list[float], first: asyncio.Event, end: asyncio.Event):  # type: ignore[no-untyped-def]
                def reply(result: InferenceResponse | Fault | None, last: bool) -> None:
                    if isinstance(result, InferenceResponse):
                        came.append(float(result.outputs[0].data[0]))
                        first.set()
                    if last:
                        end.set()

                return reply

            question, came, first, end = ask()
            stream = store.data.stream(question, sink(came, first, end))
            await first.wait()
            store.put(Counting(2.0))
            await store.control.load("m")
            for _ in range(3):
                stream.taken()
            await end.wait()
            assert came == [1.0, 1.0, 1.0]
            await until(lambda: store.released == 1)

            question, came, first, end = ask()
            stream = store.data.open_stream(
                question, old.contract.check(question), old, sink(came, first, end)
            )
            for _ in range(3):
                stream.taken()
            await end.wait()
            assert came == [2.0, 2.0, 2.0]

    run(scenario())


def _later() -> float:
    return time.monotonic() + PATIENCE
