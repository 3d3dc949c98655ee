"""What is tried with a model, one function per promise; each yields a sentence per breach."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oipserver.core.batch import merge, split
from oipserver.core.codec import decode_raw, encode_raw
from oipserver.core.datatypes import BYTES, Datatype, datatype_of
from oipserver.core.errors import InferenceFailed
from oipserver.core.messages import NO_PARAMETERS, Array, Arrays
from oipserver.core.threads import in_daemon_thread
from oipserver.testing.compare import all_close, close, difference, same, told
from oipserver.testing.subject import Problem, Refused, Subject, checked

_CALLS_PER_THREAD = 16
_PIECES = 3


@dataclass
class Measured:
    """What the checks find out besides breaches.

    Attributes:
        skipped: what could not be checked, and why.
        steady: equal requests have equal answers, which stay as they are.
    """

    skipped: list[str] = field(default_factory=list)
    steady: bool = True
    rows_compared: int = 0
    batch_difference: float = 0.0


async def answers_each_output(subject: Subject, _: Measured) -> AsyncIterator[str]:
    """Announced = answered, alone as well as with all others."""
    for name in subject.every_output:
        try:
            await subject.answer(subject.inputs, [name])
        except Problem as problem:
            yield f"asked for output '{name}' alone: {problem}"


async def takes_other_inputs(subject: Subject, measured: Measured) -> AsyncIterator[str]:
    """What is optional may be left out; what `named_inputs` announces is taken."""
    optional = [tensor.name for tensor in subject.model.inputs if tensor.optional]
    if optional:
        required = {name: array for name, array in subject.inputs.items() if name not in optional}
        try:
            await subject.answer(required)
        except Problem as problem:
            yield f"without its optional inputs {optional}: {problem}"
    if subject.model.named_inputs:
        named = {
            tensor.name: np.full([max(size, 1) for size in tensor.shape], _nothing(tensor.datatype))
            for tensor in subject.model.named_inputs
        }
        try:
            await subject.answer(named)
        except Refused as refusal:
            measured.skipped.append(f"named_inputs: zeros are refused: {refusal}")
        except Problem as problem:
            yield f"with named_inputs: {problem}"


def _nothing(datatype: Datatype) -> Any:
    return np.array(b"", np.object_) if datatype is BYTES else np.zeros((), datatype.dtype)


async def leaves_inputs_alone(subject: Subject, _: Measured) -> AsyncIterator[str]:
    """A caller's arrays stay as they are, and those that cannot be written to are as good as others."""
    given = {name: array.copy() for name, array in subject.inputs.items()}
    await subject.answer(given)
    for name, array in given.items():
        if not same(array, subject.inputs[name]):
            yield f"predict changes its input '{name}': copy before writing"
    try:
        await subject.answer({name: _from_the_wire(array) for name, array in subject.inputs.items()})
    except Problem as problem:
        yield f"with read-only inputs, views of a request's bytes: {problem}"


def _from_the_wire(array: Array) -> Array:
    """As a front hands it over."""
    datatype = datatype_of(array.dtype)
    return decode_raw(encode_raw(array, datatype), datatype, array.shape, "input")


async def keeps_its_answers(subject: Subject, measured: Measured) -> AsyncIterator[str]:
    """An answer stays what it was while later ones are computed."""
    first = await subject.answer(subject.inputs)
    before = {name: array.copy() for name, array in first.items()}
    again = await subject.answer(subject.inputs)
    measured.steady = all_close(before, again)
    if not measured.steady:
        measured.skipped.append("equal requests have different answers: nothing was compared")
    for other in subject.singles[1:]:
        await subject.answer(other)
    for name, array in first.items():
        if not same(array, before[name]):
            measured.steady = False  # nothing of it can be compared
            yield f"output '{name}' changes after it was returned: each answer needs an array of its own"


async def computes_rows_independently(subject: Subject, measured: Measured) -> AsyncIterator[str]:
    """Batchable: rows computed together equal rows computed alone, within rounding."""
    batch = subject.singles
    if not (subject.model.batchable and measured.steady):
        return
    if len({_digest(row) for row in batch}) < 2:
        measured.skipped.append("batches: no two different rows; give the check a request with several")
        return
    alone = [await subject.answer(row) for row in batch]
    try:
        together = await subject.answer(merge(batch))
    except Problem as problem:
        yield f"{len(batch)} rows together, each of which is answered alone: {problem}"
        return
    measured.rows_compared = len(batch)
    pairs = list(zip(alone, split(together, [1] * len(batch)), strict=True))
    for name in together:
        differences = [difference(one[name], part[name]) for one, part in pairs]
        measured.batch_difference = max(measured.batch_difference, *differences)
        if not all(close(one[name], part[name]) for one, part in pairs):
            yield f"output '{name}' of a row depends on the rows beside it: batchable must be False"


def _digest(row: Arrays) -> tuple[bytes, ...]:
    return tuple(encode_raw(array, datatype_of(array.dtype)) for array in row.values())


async def answers_several_threads(subject: Subject, measured: Measured) -> AsyncIterator[str]:
    """With several instances, as many threads call the one object at the same time."""
    if subject.threads == 1 or not measured.steady:
        return
    expected = [await subject.answer(row) for row in subject.singles]
    turns = [at % len(expected) for at in range(_CALLS_PER_THREAD * subject.threads)]
    calls = (subject.answer(subject.singles[turn]) for turn in turns)
    came = await asyncio.gather(*calls, return_exceptions=True)
    where = f"called by {subject.threads} threads at the same time"
    for turn, result in zip(turns, came, strict=True):
        if isinstance(result, BaseException):
            yield f"{where}: {result}"
            return
        if not all_close(expected[turn], result):
            yield f"{where}, predict answers something else"
            return


async def survives_bad_values(subject: Subject, measured: Measured) -> AsyncIterator[str]:
    """A bad value is InvalidInput, or an exception; the next request is answered as before."""
    before = await subject.answer(subject.inputs)
    for tensor in subject.model.inputs:
        for value in _bad_values(tensor.datatype) if tensor.name in subject.inputs else ():
            where = f"after {value!r:.20} in input '{tensor.name}'"
            if raised := await _try_bad(subject, tensor.name, value):
                yield f"{where} predict raised {told(raised)}, expected InvalidInput"
            try:
                after = await subject.answer(subject.inputs)
            except Problem as problem:
                yield f"{where} a good request fails: {problem}"
                return
            if measured.steady and not all_close(before, after):
                yield f"{where} a good request is answered differently"
                return


async def _try_bad(subject: Subject, name: str, value: Any) -> BaseException | None:
    """What `predict` raised, where that would end a process."""
    bad = {**subject.inputs, name: np.full_like(subject.inputs[name], value)}
    try:
        await subject.answer(checked(subject.contract, bad, "bad value"))
    except Problem:
        if subject.stuck:
            raise
    raised = subject.watched.raised
    return None if isinstance(raised, Exception) else raised


def _bad_values(datatype: Datatype) -> Sequence[Any]:
    if datatype is BYTES:
        return (b"", b"\xff\xfe\x00", b"x" * 100_000)
    if datatype.is_float:
        return (float("nan"), float("inf"))
    if datatype.kind in "iu":
        limits = np.iinfo(datatype.dtype)
        return (limits.min, limits.max)
    return ()


async def streams_as_announced(subject: Subject, _: Measured) -> AsyncIterator[str]:
    """A decoupled model's pieces are as announced, and it can be closed between two of them."""

    def listen() -> None:
        pieces = subject.model.stream(subject.inputs, subject.defaults, NO_PARAMETERS)
        try:
            for _, piece in zip(range(_PIECES), pieces, strict=False):
                subject.contract.check_answer(piece, subject.defaults, subject.rows(subject.inputs))
        finally:
            pieces.close()

    try:
        async with asyncio.timeout(subject.patience):
            await in_daemon_thread(listen, "stream")
    except TimeoutError:
        yield f"stream did not yield and close within {subject.patience:g} s"
    except InferenceFailed as fault:
        yield f"stream {fault.message}"
    except Exception as error:
        yield f"stream raised {told(error)}"


Check = Callable[[Subject, Measured], AsyncIterator[str]]

# `keeps_its_answers` comes before those that compare: it finds out whether that makes sense.
CHECKS: Sequence[Check] = (
    answers_each_output,
    takes_other_inputs,
    leaves_inputs_alone,
    keeps_its_answers,
    computes_rows_independently,
    answers_several_threads,
    survives_bad_values,
)
