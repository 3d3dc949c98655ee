"""A user's function, or object, as a Model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import numpy as np

from oipserver import Array, Arrays, InvalidInput, Model, Parameters, TensorMetadata, as_declared
from oipserver_python.calling import Call
from oipserver_python.described import Description
from oipserver_python.loop import LoopThread

_END = object()


class FunctionModel(Model):
    """Calls `infer`, or `stream`, with arrays that are its own to write into.

    Args:
        infer: None when there is only a generator.
        stream: a generator function; it makes the model decoupled.
        loop: where async functions run.
        release: called at the end.
    """

    platform = "python"
    may_run_inline = False  # nobody knows what a user's function does

    def __init__(
        self,
        described: Description,
        infer: Call | None,
        stream: Call | None,
        loop: LoopThread,
        release: Callable[[], None],
    ) -> None:
        self.inputs = described.inputs
        self.outputs = described.outputs
        self.batchable = described.batchable
        self.has_batch_axis = described.batchable or described.per_row
        self.decoupled = stream is not None
        self.example = described.example
        wants_parameters = any(call is not None and call.wants_parameters for call in (infer, stream))
        self.parameter_names = ("*",) if wants_parameters else ()
        self._infer = infer
        self._stream = stream
        self._per_row = described.per_row
        self._of_row = [_without_batch(output) for output in described.outputs]
        self._loop = loop
        self._release = release

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        """All outputs, whichever were asked for.

        Raises:
            InvalidInput: the function says so; or it yielded several answers where one is wanted.
            TypeError: it returned what cannot become the declared outputs.
        """
        if self._infer is None:
            return self._only(inputs, parameters)
        arrays = _own(inputs)  # to write into; a request's arrays may be needed again as they came
        if self._per_row:
            return self._row_by_row(self._infer, arrays, parameters)
        # Copies again: the function may keep what it returned, and write into it at the next call.
        return _own(by_name(self._loop.finish(self._infer(arrays, parameters)), self.outputs))

    def stream(
        self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters
    ) -> Generator[Arrays, None, None]:
        """One answer for each value that the generator yields; closing it closes the user's."""
        if self._stream is None:
            yield self.predict(inputs, outputs, parameters)
            return
        with closing(self._pieces(self._stream(_own(inputs), parameters))) as pieces:
            for piece in pieces:
                yield by_name(piece, self.outputs)

    def close(self) -> None:
        """Let the user's object and its modules go."""
        self._release()

    def _only(self, inputs: Arrays, parameters: Parameters) -> Arrays:
        with closing(self.stream(inputs, (), parameters)) as answers:
            first = list(islice(answers, 2))
        if not first:
            raise RuntimeError("the generator yielded no answer")
        if len(first) > 1:
            raise InvalidInput(
                "this model streams several answers to one request: ask it by generate_stream over HTTP or "
                "ModelStreamInfer over gRPC"
            )
        return first[0]

    def _row_by_row(self, infer: Call, arrays: Arrays, parameters: Parameters) -> Arrays:
        rows = min((len(array) for array in arrays.values()), default=1)
        answers = [
            by_name(
                self._loop.finish(infer({name: array[at] for name, array in arrays.items()}, parameters)),
                self._of_row,
            )
            for at in range(rows)
        ]
        return {output.name: _stacked(output.name, answers) for output in self.outputs}

    def _pieces(self, value: Any) -> Generator[Any, None, None]:
        value = self._loop.finish(value)
        if not inspect.isasyncgen(value):
            try:
                yield from value
            finally:
                if inspect.isgenerator(value):
                    value.close()
            return
        try:
            while (piece := self._loop.run(anext(value, _END))) is not _END:
                yield piece
        finally:
            self._loop.run(value.aclose())


def _own(arrays: Arrays) -> Arrays:
    """Copies that share nothing; of a plain array, where it was a subclass."""
    return {name: np.array(array) for name, array in arrays.items()}


def by_name(value: object, outputs: Sequence[TensorMetadata]) -> dict[str, Array]:
    """What a function returned as the declared arrays: a dict by name, a tuple in order, or the only output.

    Raises:
        TypeError: names or a count that were not declared, or values that are not of the datatype.
        ValueError: a number is out of the datatype's range.
    """
    names = [output.name for output in outputs]
    if isinstance(value, Mapping):
        if set(value) != set(names):
            came = ", ".join(map(str, value)) or "nothing"
            raise TypeError(f"returned a dict with {came}, announced {', '.join(names)}")
        return {output.name: as_declared(value[output.name], output) for output in outputs}
    if isinstance(value, tuple) and len(value) == len(outputs):
        return {output.name: as_declared(one, output) for one, output in zip(value, outputs, strict=True)}
    if len(outputs) > 1:
        came = f"a tuple of {len(value)}" if isinstance(value, tuple) else f"a {type(value).__name__}"
        raise TypeError(f"returned {came}, expected a tuple or dict of {', '.join(names)}")
    return {names[0]: as_declared(value, outputs[0])}


def _without_batch(output: TensorMetadata) -> TensorMetadata:
    # The core checks the whole answer against the constraint.
    return TensorMetadata(output.name, output.datatype, output.shape[1:])


def _stacked(name: str, rows: Sequence[Mapping[str, Array]]) -> Array:
    try:
        return np.stack([row[name] for row in rows])
    except ValueError:
        shapes = sorted({row[name].shape for row in rows})
        raise TypeError(f"output '{name}': rows returned different shapes: {shapes}") from None
