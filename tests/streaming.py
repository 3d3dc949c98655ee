"""A model that streams, at the pace that its test sets."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence

import numpy as np

from oipserver import BYTES, FP64, INT64, Array, Arrays, InvalidInput, Model, Parameters, TensorMetadata
from oipserver.core.messages import InferenceRequest
from tests.support import PATIENCE, request

# The value of a row that makes the model count for ever.
ENDLESS = 1e9


class Counter(Model):
    """Counts to each of its rows' largest value: 0, 1, 2 … as one row each.

    Negative values are refused, -0.5 raises, and a half in the end breaks the contract after it was counted.

    Attributes:
        permits: one is taken for each answer, when `gated`.
        made: answers that were begun; `begun` says so.
        closed_early: generators that were closed before they had ended.
        running: generators that have begun and not ended; `ended` says so.
    """

    platform = "test"
    decoupled = True
    inputs: Sequence[TensorMetadata] = (TensorMetadata("x", FP64, (-1, 2)),)
    outputs: Sequence[TensorMetadata] = (TensorMetadata("n", INT64, (-1, 1)),)

    def __init__(self, gated: bool = False) -> None:
        self.gated = gated
        self.permits = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)
        self.made = 0
        self.running = 0
        self.closed_early = 0
        self._lock = threading.Lock()

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        return {"n": np.zeros((len(inputs["x"]), 1), dtype=np.int64)}

    def stream(
        self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters
    ) -> Generator[Arrays, None, None]:
        self._count(1)
        try:
            yield from self._answers(float(inputs["x"].max()))
        except GeneratorExit:
            self.closed_early += 1
            raise
        finally:
            self._count(-1)
            self.ended.release()

    def _answers(self, most: float) -> Generator[Arrays, None, None]:
        number = self._number()  # one buffer for all: an answer must have left before the next is made
        if most == -0.5:
            raise RuntimeError("the secret reason")
        if most < 0:
            raise InvalidInput("negative numbers cannot be counted to")
        for value in range(int(most)):
            self.begun.release()
            if self.gated and not self.permits.acquire(timeout=PATIENCE):
                raise TimeoutError("the test gave no permit")
            self.made += 1
            number[:] = self._shown(value)
            yield {self.outputs[0].name: number}
        if most % 1:
            yield {self.outputs[0].name: number.astype(np.float32)}

    def _number(self) -> Array:
        return np.zeros((1, 1), dtype=np.int64)

    def _shown(self, value: int) -> object:
        return value

    def _count(self, change: int) -> None:
        with self._lock:
            self.running += change

    def wait_ended(self) -> None:
        """Return when one more generator has ended."""
        assert self.ended.acquire(timeout=PATIENCE)


class Teller(Counter):
    """The same in words, and without a batch axis: `text_input` is the number, `text_output` the words."""

    has_batch_axis = False
    inputs = (TensorMetadata("text_input", BYTES, (1,)),)
    outputs = (TensorMetadata("text_output", BYTES, (1,)),)
    parameter_names = ("ending",)

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        return {"text_output": np.array([b"all at once"], dtype=np.object_)}

    def stream(
        self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters
    ) -> Generator[Arrays, None, None]:
        self.ending = str(parameters.get("ending", ""))
        return super().stream({"x": np.array([float(inputs["text_input"][0])])}, outputs, parameters)

    def _number(self) -> Array:
        return np.zeros((1,), dtype=np.object_)

    def _shown(self, value: int) -> object:
        return f"{value}{self.ending} ".encode()


def count_to(value: float, model: str = "m", seconds: float = PATIENCE) -> InferenceRequest:
    """A request for that many answers."""
    return request(value, model=model, seconds=seconds)
