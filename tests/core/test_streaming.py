"""Streams in the data plane: one answer at a time, slots that come back, ends of every kind."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import pytest

from oipserver import FP64, Arrays, DynamicBatching, Model, Parameters, TensorMetadata
from oipserver.core.errors import DeadlineExceeded, Fault, InferenceFailed, InvalidInput, NotReady, Overloaded
from oipserver.core.messages import InferenceRequest, InferenceResponse
from oipserver.core.streaming import SLOTS, Single, Stream, Streams
from tests.streaming import ENDLESS, Counter, count_to
from tests.support import (
    PATIENCE,
    Doubler,
    GatedModel,
    Plane,
    entered,
    first_column,
    request,
    run,
    until,
    with_time,
)

Came = InferenceResponse | Fault | None


class Reader:
    """Takes a stream's answers when its test wants them."""

    def __init__(self, plane: Plane, request: InferenceRequest) -> None:
        self._came: asyncio.Queue[tuple[Came, bool]] = asyncio.Queue()
        self.handle: Stream | Single = plane.data.stream(request, lambda *came: self._came.put_nowait(came))

    @property
    def waiting(self) -> int:
        """Answers that have come and were not looked at."""
        return self._came.qsize()

    async def next(self) -> tuple[Any, bool]:
        """The next that comes, a number or what it ended with, and whether it is the last; not taken yet."""
        result, final = await self._came.get()
        if isinstance(result, InferenceResponse):
            return first_column(result)[0], final
        return result, final

    async def rest(self) -> list[Any]:
        """All that comes, each one taken; what it ended with is the last."""
        came: list[Any] = []
        while True:
            result, final = await self.next()
            came.append(result)
            if final:
                return came
            self.handle.taken()


def streams(plane: Plane) -> Streams:
    [version] = plane.registry.versions()
    assert version.streams is not None
    return version.streams


async def ended(model: Counter) -> None:
    await asyncio.to_thread(model.wait_ended)


def test_answers_come_one_by_one_and_then_the_end() -> None:
    async def story() -> None:
        async with Plane({"m": Counter()}) as plane:
            reader = Reader(plane, count_to(3))
            assert await reader.rest() == [0, 1, 2, None]
            await until(lambda: not streams(plane).running)

    run(story())


def test_answers_carry_the_request() -> None:
    async def story() -> None:
        came: asyncio.Queue[Any] = asyncio.Queue()
        async with Plane({"m": Counter()}) as plane:
            plane.data.stream(count_to(1), lambda *what: came.put_nowait(what)).taken()
            answer, final = await came.get()
            assert (answer.model_name, answer.model_version, answer.id, final) == ("m", "1", "test", False)
            assert [tensor.name for tensor in answer.outputs] == ["n"]
            assert await came.get() == (None, True)

    run(story())


def test_the_generator_waits_until_its_answer_was_taken() -> None:
    """It uses one buffer: an answer that were overtaken would show another's number."""

    async def story() -> None:
        model = Counter()
        async with Plane({"m": model}) as plane:
            reader, other = Reader(plane, count_to(ENDLESS)), Reader(plane, count_to(50))
            assert await reader.next() == (0, False)
            assert len(await other.rest()) == 51  # time enough for one that does not wait
            assert (model.made, reader.waiting) == (51, 0)
            reader.handle.taken()
            assert await reader.next() == (1, False)
            assert model.made == 52
            reader.handle.cancel()

    run(story())


def test_cancel_closes_the_generator_and_frees_the_slot() -> None:
    async def story() -> None:
        model = Counter()
        async with Plane({"m": model}) as plane:
            reader = Reader(plane, count_to(ENDLESS))
            await reader.next()
            reader.handle.cancel()
            reader.handle.cancel()
            await ended(model)
            assert (model.closed_early, model.made, reader.waiting) == (1, 1, 0)
            await until(lambda: not streams(plane).running)

    run(story())


def test_cancel_while_the_generator_works_ends_it_after_that_answer() -> None:
    async def story() -> None:
        model = Counter(gated=True)
        async with Plane({"m": model}) as plane:
            reader = Reader(plane, count_to(ENDLESS))
            await asyncio.to_thread(model.begun.acquire)
            reader.handle.cancel()
            assert streams(plane).running == 1
            model.permits.release()
            await ended(model)
            assert (model.made, reader.waiting) == (1, 0)

    run(story())


def test_streams_run_at_the_same_time_and_wait_in_line_and_are_refused() -> None:
    async def story() -> None:
        model = Counter()
        batching = DynamicBatching(max_queue_size=2)
        async with Plane({"m": model}, dynamic_batching=batching) as plane:
            running = [Reader(plane, count_to(ENDLESS)) for _ in range(SLOTS)]
            for reader in running:
                assert await reader.next() == (0, False)
            waiting = [Reader(plane, count_to(2)) for _ in range(2)]
            assert (streams(plane).running, streams(plane).depth) == (SLOTS, 2)
            assert plane.registry.versions()[0].depth == 2
            with pytest.raises(Overloaded, match=f"{SLOTS} streams and 2 waiting"):
                plane.data.stream(count_to(1), lambda *_: None)
            running[0].handle.cancel()
            assert await waiting[0].rest() == [0, 1, None]
            assert await waiting[1].rest() == [0, 1, None]
            for reader in running:
                reader.handle.cancel()

    run(story())


def test_one_that_waits_can_leave() -> None:
    async def story() -> None:
        model = Counter()
        async with Plane({"m": model}) as plane:
            running = [Reader(plane, count_to(ENDLESS)) for _ in range(SLOTS)]
            waiting = Reader(plane, count_to(1))
            waiting.handle.cancel()
            assert streams(plane).depth == 0
            for reader in running:
                reader.handle.cancel()
            await streams(plane).drain()
            assert waiting.waiting == 0

    run(story())


def test_the_deadline_holds_between_answers_and_while_waiting() -> None:
    async def story(seconds: float) -> None:
        model = Counter(gated=True)
        async with Plane({"m": model}) as plane:
            started = time.monotonic()
            reader = Reader(plane, count_to(ENDLESS, seconds=seconds))
            model.permits.release()
            assert await reader.next() == (0, False)
            reader.handle.taken()
            others = [Reader(plane, count_to(ENDLESS)) for _ in range(SLOTS - 1)]
            waiting = Reader(plane, count_to(1, seconds=seconds))
            for late in (reader, waiting):
                fault, final = await late.next()
                assert (type(fault), final) == (DeadlineExceeded, True)
            assert 0.75 * seconds < time.monotonic() - started < PATIENCE / 2
            for other in others:
                other.handle.cancel()
            model.permits.release(2 * SLOTS)
            await ended(model)
            assert model.closed_early >= 1
            with pytest.raises(DeadlineExceeded):
                plane.data.stream(count_to(1, seconds=-1), lambda *_: None)

    with_time(lambda seconds: run(story(seconds)), 0.2, 1.0, 5.0)


def test_data_at_fault_is_the_callers() -> None:
    async def story() -> None:
        async with Plane({"m": Counter()}) as plane:
            [fault] = await Reader(plane, count_to(-1)).rest()
            assert isinstance(fault, InvalidInput)
            assert fault.message == "negative numbers cannot be counted to"

    run(story())


def test_a_failing_generator_is_the_models_fault(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with Plane({"m": Counter()}) as plane:
            [fault] = await Reader(plane, count_to(-0.5)).rest()
            assert type(fault) is InferenceFailed
            assert "secret" not in fault.message
            assert await Reader(plane, count_to(1)).rest() == [0, None]

    run(story())
    assert "the secret reason" in caplog.text


def test_an_answer_that_is_not_announced_ends_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        model = Counter()
        async with Plane({"m": model}) as plane:
            *numbers, fault = await Reader(plane, count_to(2.5)).rest()
            assert numbers == [0, 1]
            assert type(fault) is InferenceFailed
            await ended(model)
            assert model.closed_early == 1

    with caplog.at_level(logging.ERROR):
        run(story())
    assert "returned float32 for output 'n', announced INT64" in caplog.text


class Odd(Counter):
    """Yields, or returns in place of a generator, what its test says."""

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self.answers = answers

    def stream(
        self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters
    ) -> Generator[Arrays, None, None]:
        yield from self.answers


class NoGenerator(Counter):
    def stream(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Any:
        return None


class Pair(Odd):
    outputs = (TensorMetadata("n", FP64, (-1, 1)), TensorMetadata("m", FP64, (-1, 1)))

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        return {"n": np.zeros((len(inputs["x"]), 1)), "m": np.zeros((len(inputs["x"]), 1))}


@pytest.mark.parametrize(
    "model",
    [
        NoGenerator(),
        Odd(None),
        Odd({}),
        Odd({"n": 3}),
        Odd({"n": np.zeros((1, 2), dtype=np.int64)}),
        Pair({"n": np.zeros((2, 1)), "m": np.zeros((3, 1))}),
    ],
)
def test_what_is_no_answer_is_the_models_fault(model: Counter) -> None:
    async def story() -> None:
        async with Plane({"m": model}) as plane:
            [fault] = await Reader(plane, count_to(1)).rest()
            assert type(fault) is InferenceFailed
            await until(lambda: not streams(plane).running)

    run(story())


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_an_answer_may_have_any_number_of_rows(rows: int) -> None:
    async def story() -> None:
        came: asyncio.Queue[Any] = asyncio.Queue()
        model = Pair({"n": np.ones((rows, 1)), "m": np.ones((rows, 1))})
        async with Plane({"m": model}) as plane:
            handle = plane.data.stream(request(1, 2, 3), lambda *what: came.put_nowait(what))
            answer, final = await came.get()
            assert not final
            assert [tensor.data.shape for tensor in answer.outputs] == [(rows, 1), (rows, 1)]
            handle.cancel()

    run(story())


def test_a_sink_that_raises_ends_its_stream(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug of a front")

    async def story() -> None:
        model = Counter()
        async with Plane({"m": model}) as plane:
            plane.data.stream(count_to(ENDLESS), broken)
            await ended(model)
            assert model.made == 1

    run(story())
    assert "a bug of a front" in caplog.text


def test_other_models_are_batched_and_answer_once() -> None:
    async def story() -> None:
        model = GatedModel()
        async with Plane({"m": model}) as plane:
            model.gate.clear()
            readers = [Reader(plane, request(0.0))]
            await entered(model)
            readers += [Reader(plane, request(float(number))) for number in range(1, 9)]
            model.gate.set()
            answers = [await reader.next() for reader in readers]
            assert answers == [(2.0 * number, True) for number in range(9)]
            assert model.calls == [1, 8]
            readers[0].handle.taken()

    run(story())


def test_other_models_forget_whoever_leaves() -> None:
    async def story() -> None:
        model = GatedModel()
        async with Plane({"m": model}) as plane:
            model.gate.clear()
            first = Reader(plane, request(1.0))
            await entered(model)
            left = Reader(plane, request(2.0))
            left.handle.cancel()
            model.gate.set()
            assert await first.next() == (2.0, True)
            assert (model.calls, left.waiting) == ([1], 0)

    run(story())


def test_requests_are_checked_before_they_start() -> None:
    async def story() -> None:
        async with Plane({"m": Counter(), "d": Doubler()}) as plane:
            for bad in (count_to(1, model="nobody"), request(), request(1, outputs=["nothing"])):
                with pytest.raises(Fault):
                    plane.data.stream(bad, lambda *_: None)
            assert plane.models["m"].running == 0  # type: ignore[attr-defined]

    run(story())


def test_unloading_waits_for_streams_and_refuses_new_ones() -> None:
    async def story() -> None:
        model = Counter()
        async with Plane({"m": model}) as plane:
            reader = Reader(plane, count_to(3))
            lane = streams(plane)
            closing = asyncio.ensure_future(plane.registry.close())
            assert await reader.next() == (0, False)
            assert not closing.done()
            with pytest.raises(NotReady):
                lane.open(None, time.monotonic() + 1, lambda _: None)  # type: ignore[arg-type]
            reader.handle.taken()
            assert await reader.rest() == [1, 2, None]
            await closing
            assert not [thread for thread in threading.enumerate() if "m-stream" in thread.name]

    run(story())


def test_abandoned_streams_are_told() -> None:
    async def story() -> None:
        model = Counter()
        async with Plane({"m": model}) as plane:
            readers = [Reader(plane, count_to(ENDLESS)) for _ in range(SLOTS + 1)]
            await readers[0].next()
            plane.registry.abandon(NotReady("the server is shutting down"))
            for reader in readers:
                *_, fault = await reader.rest()
                assert isinstance(fault, NotReady)
            await streams(plane).drain()
            assert model.running == 0

    run(story())


class OnlyStreams(Counter):
    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        raise NotImplementedError("it only streams")


def test_a_model_that_streams_is_not_warmed_up_with_zeros(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with Plane({"m": OnlyStreams()}) as plane:
            assert await Reader(plane, count_to(1)).rest() == [0, None]
            with pytest.raises(InferenceFailed):  # which is what it is asked by infer
                await plane.data.infer(count_to(1))

    with caplog.at_level(logging.WARNING):
        run(story())
    assert caplog.text.count("Traceback") == 1


class Plain(Model):
    platform = "test"
    inputs = (TensorMetadata("x", FP64, (-1, 2)),)
    outputs = (TensorMetadata("y", FP64, (-1, 2)),)

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        return {"y": inputs["x"]}


def test_a_model_that_does_not_stream_holds_no_threads() -> None:
    async def story() -> None:
        async with Plane({"m": Plain()}) as plane:
            [version] = plane.registry.versions()
            assert version.streams is None
            assert isinstance(Reader(plane, request(1.0)).handle, Single)

    run(story())


# --- Rule 3 ---

# What is no call that hangs must be over by then.
HANG = (0.1, 1.0, 5.0)


def hanging(model: Counter, hang: float) -> Plane:
    """A plane with a short limit."""
    plane = Plane({"m": model})
    plane.registry._hang_timeout = hang
    return plane


def test_a_generator_that_hangs_is_given_up_and_its_slot_is_free() -> None:
    async def story(hang: float) -> None:
        model = Counter(gated=True)
        async with hanging(model, hang) as plane:
            reader = Reader(plane, count_to(2))
            came, final = await reader.next()
            assert (type(came), final) == (DeadlineExceeded, True)
            assert streams(plane).running == 0
            assert plane.registry.find("m", None).lost_threads == 1
            model.permits.release(100)
            assert await Reader(plane, count_to(2)).rest() == [0, 1, None]
            await until(lambda: plane.registry.find("m", None).lost_threads == 0)
            assert reader.waiting == 0

    with_time(lambda hang: run(story(hang)), *HANG)


def test_a_slow_reader_is_no_generator_that_hangs() -> None:
    async def story(hang: float) -> None:
        async with hanging(Counter(), hang) as plane:
            reader = Reader(plane, count_to(2))
            assert await reader.next() == (0, False)
            end = time.monotonic() + 2 * hang
            await until(lambda: time.monotonic() > end)
            assert plane.registry.find("m", None).lost_threads == 0
            reader.handle.taken()
            assert await reader.rest() == [1, None]

    with_time(lambda hang: run(story(hang)), *HANG)
