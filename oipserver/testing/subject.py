"""The model under test: called by the server's own code, with inputs that it accepts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oipserver.core.contract import Contract, Work
from oipserver.core.datatypes import BYTES, datatype_of
from oipserver.core.errors import BadRequest, Fault
from oipserver.core.executor import Executor
from oipserver.core.messages import NO_PARAMETERS, Array, Arrays, InferenceRequest, Parameters, Tensor
from oipserver.core.model import Model
from oipserver.testing.compare import told

_GIVEN = 16
_VARIATIONS = 7


class Problem(Exception):
    """A sentence about the runtime, after which no more can be checked of the same."""


class Refused(Problem):
    """The model said that the data is at fault: InvalidInput."""


class Watched:
    """The model, with an eye on what `predict` raises: the executor tells that to the log alone.

    Attributes:
        raised: what the last call raised, if it did.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.raised: BaseException | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        """As the model's own."""
        self.raised = None
        try:
            return self._model.predict(inputs, outputs, parameters)
        except BaseException as error:
            self.raised = error
            raise


@dataclass
class Subject:
    """A loaded model.

    Attributes:
        patience: seconds that one call may take.
        threads: that may call it at the same time.
        inputs: what it accepts, one row or more.
        singles: what it accepts, one row each; the first ones are those of `inputs`.
        stuck: a call did not return.
    """

    contract: Contract
    executor: Executor
    watched: Watched
    patience: float
    threads: int
    inputs: dict[str, Array] = field(default_factory=dict)
    singles: list[dict[str, Array]] = field(default_factory=list)
    stuck: bool = False

    @property
    def model(self) -> Model:
        """The model itself."""
        return self.contract.model

    @property
    def defaults(self) -> tuple[str, ...]:
        """The names of the outputs that are answered unasked."""
        return tuple(output.name for output in self.model.outputs)

    @property
    def every_output(self) -> tuple[str, ...]:
        """The names of all outputs."""
        return self.defaults + tuple(output.name for output in self.model.optional_outputs)

    def rows(self, inputs: Arrays) -> int:
        """The size of a batch; 1 where there is no batch axis."""
        return len(next(iter(inputs.values()))) if self.contract.batched and inputs else 1

    async def answer(self, inputs: Arrays, outputs: Sequence[str] = ()) -> dict[str, Array]:
        """The answer, which is as announced; by default of all outputs.

        Raises:
            Refused: the model said that the data is at fault.
            Problem: it failed, answered something else, or did not return.
        """
        names, rows = tuple(outputs) or self.every_output, self.rows(inputs)
        work = Work(dict(inputs), names, NO_PARAMETERS, rows, nbytes=0, key=None)
        try:
            async with asyncio.timeout(self.patience):
                return self.contract.check_answer(await self.executor.call(work), names, rows)
        except TimeoutError:
            self.stuck = True
            raise Problem(f"predict did not return within {self.patience:g} s") from None
        except BadRequest as fault:  # InvalidInput is one
            raise Refused(fault.message) from fault
        except Fault as fault:
            raise Problem(self.why(fault)) from fault

    def why(self, fault: Fault) -> str:
        """Why a call failed, for the eyes of the runtime's author."""
        raised = self.watched.raised
        return f"predict raised {told(raised)}" if raised is not None else f"predict {fault.message}"


async def find_inputs(subject: Subject, request: Arrays | None) -> None:
    """Set `inputs` and `singles`.  The model's example has to be right even where a request is given.

    Raises:
        Problem: they are not as announced, or the model does not answer them.
    """
    contract, example = subject.contract, subject.model.example
    if example is not None:
        subject.inputs = await _answered(
            subject, checked(contract, example, "example", exact=True), "example"
        )
    elif request is None:
        blank = dict(contract.example(1, ()).inputs)
        try:
            subject.inputs = await _answered(subject, blank, "a row of zeros")
        except Refused as refusal:
            raise Problem(f"{refusal}: give the model an example, or the check a request") from refusal
    if request is not None:
        subject.inputs = await _answered(subject, checked(contract, request, "request"), "request")
    subject.singles = [inputs async for inputs in _singles(subject)]


def first_inputs(subject: Subject, request: Arrays | None) -> dict[str, Array]:
    """What is tried first: a request, else the model's example, else zeros; not yet known to be answered."""
    if request is not None:
        return checked(subject.contract, request, "request")
    return dict(subject.contract.example(1, ()).inputs)


async def _answered(subject: Subject, inputs: dict[str, Array], where: str) -> dict[str, Array]:
    try:
        await subject.answer(inputs)
    except Refused as refusal:
        raise Refused(f"{where}: refused: {refusal}") from refusal
    except Problem as problem:
        raise Problem(f"{where}: {problem}") from problem
    return inputs


def checked(contract: Contract, arrays: Arrays, where: str, exact: bool = False) -> dict[str, Array]:
    """The arrays as those of a request come to the model.

    Args:
        exact: the model gets them as they are, so that the dtypes must be the declared ones.

    Raises:
        Problem: the contract refuses them.
    """
    for name, array in arrays.items():
        if not _is_array(array):
            raise Problem(
                f"{where}: '{name}': expected an array (BYTES: of bytes objects), got {array!r:.80}"
            )
    tensors = [Tensor(name, datatype_of(array.dtype), array) for name, array in arrays.items()]
    try:
        inputs = contract.check(InferenceRequest(contract.name, tensors, id="check", deadline=0.0)).inputs
    except BadRequest as fault:
        raise Problem(f"{where}: {fault.message}") from fault
    for name, array in arrays.items():
        if exact and (name not in inputs or not _alike(inputs[name], array)):
            raise Problem(
                f"{where}: '{name}' is {array.dtype} {list(array.shape)}, which is not as announced"
            )
    return inputs


def _alike(one: Array, other: Array) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape


def _is_array(array: object) -> bool:
    if not isinstance(array, np.ndarray):
        return False
    return datatype_of(array.dtype) is not BYTES or all(type(element) is bytes for element in array.flat)


async def _singles(subject: Subject) -> AsyncIterator[dict[str, Array]]:
    """The rows that were given, then variations of them that the model answers as well."""
    given = [subject.inputs]
    if subject.contract.batched:
        given = [
            {name: array[at : at + 1] for name, array in subject.inputs.items()}
            for at in range(min(subject.rows(subject.inputs), _GIVEN))
        ]
    for inputs in given:
        yield inputs
    random = np.random.default_rng(0)
    for turn in range(_VARIATIONS):
        varied = {name: _varied(array, random) for name, array in given[turn % len(given)].items()}
        try:
            inputs = checked(subject.contract, varied, "variation")
            await subject.answer(inputs)
        except Problem:
            if subject.stuck:
                raise
        else:
            yield inputs


def _varied(array: Array, random: np.random.Generator) -> Array:
    """Other values near those given; text stays as it is."""
    if array.dtype.kind == "f":
        scale, shift = random.uniform(0.5, 1.5, array.shape), random.normal(0.0, 0.5, array.shape)
        return (array * scale + shift).astype(array.dtype)
    if array.dtype.kind in "iu":
        return np.add(array, random.integers(0, 2, array.shape, dtype=array.dtype))
    if array.dtype.kind == "b":
        return np.logical_xor(array, random.random(array.shape) < 0.5)
    return array
