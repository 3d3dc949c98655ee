"""Golden rows are replayed before a version serves: one by one, and all together where rows may share a call.

What differs by its company would differ in production, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from oipserver.core.batch import merge, split
from oipserver.core.contract import Contract, Work
from oipserver.core.errors import Fault
from oipserver.core.executor import Executor
from oipserver.core.golden import GoldenRow
from oipserver.core.messages import Array, Arrays, InferenceRequest


class GoldenMismatch(ValueError):
    """The model does not answer what it answered when it was trained; the text says where."""


@dataclass(frozen=True, slots=True)
class _Case:
    """What is compared at once: a golden row, or one row of it.

    Attributes:
        label: "golden row 3 of 100".
    """

    label: str
    golden: GoldenRow
    work: Work
    expected: Mapping[str, Array]


async def replay(contract: Contract, executor: Executor, max_rows: int) -> int:
    """Ask the model its golden rows, and compare; how many there are.

    Args:
        max_rows: of one call, where several rows share one.

    Raises:
        GoldenMismatch: an answer differs, or there is none.
    """
    golden = contract.model.golden
    if golden and contract.model.decoupled:
        raise GoldenMismatch("golden rows are for models with one answer, this one streams")
    cases = _labelled(
        [case for number, row in enumerate(golden, 1) for case in _cases(contract, row, number)]
    )
    for case in cases:
        _compare(contract, case, await _answer(contract, executor, case.work, case.label), "")
    if _shares(contract):
        for group in _groups(cases, max(1, max_rows)):
            await _together(contract, executor, group)
    return len(cases)


def _shares(contract: Contract) -> bool:
    return contract.batched and contract.model.batchable


def _cases(contract: Contract, row: GoldenRow, number: int) -> Iterator[_Case]:
    """The golden row as it stands, or each of its rows where they are independent."""
    names = [output.name for output in row.outputs]
    request = InferenceRequest(contract.name, row.inputs, "", 0.0, outputs=names, parameters=row.parameters)
    try:
        work = contract.check(request)
    except Fault as fault:
        raise GoldenMismatch(f"golden row {number} is refused: {fault.message}") from fault
    expected = {output.name: output.data for output in row.outputs}
    for output in row.outputs:
        announced = contract.output(output.name).datatype
        if output.datatype is not announced:
            raise GoldenMismatch(
                f"golden row {number}, output '{output.name}': expected {output.datatype}, "
                f"but the model announces {announced}"
            )
        if contract.batched and len(output.data) != work.rows:
            raise GoldenMismatch(
                f"golden row {number}, output '{output.name}': it has {work.rows} rows in and "
                f"{len(output.data)} rows out"
            )
    if not _shares(contract):
        yield _Case("", row, work, expected)
        return
    for index in range(work.rows):
        one = slice(index, index + 1)
        inputs = {name: array[one] for name, array in work.inputs.items()}
        yield _Case(
            "",
            row,
            replace(work, inputs=inputs, rows=1),
            {name: array[one] for name, array in expected.items()},
        )


def _labelled(cases: Sequence[_Case]) -> Sequence[_Case]:
    return [
        replace(case, label=f"golden row {number} of {len(cases)}") for number, case in enumerate(cases, 1)
    ]


def _groups(cases: Sequence[_Case], size: int) -> Iterator[Sequence[_Case]]:
    """Cases that may share a call, at most `size` rows each; single rows were compared already."""
    by_key: dict[object, list[_Case]] = {}
    for case in cases:
        by_key.setdefault(case.work.key, []).append(case)
    for group in by_key.values():
        for start in range(0, len(group), size):
            if len(part := group[start : start + size]) > 1:
                yield part


async def _together(contract: Contract, executor: Executor, group: Sequence[_Case]) -> None:
    rows = [case.work.rows for case in group]
    inputs = dict(merge([case.work.inputs for case in group]))
    work = replace(group[0].work, inputs=inputs, rows=sum(rows))
    where = f" in a batch of {len(group)} rows"
    answer = await _answer(contract, executor, work, f"golden rows{where}")
    for case, part in zip(group, split(answer, rows), strict=True):
        _compare(contract, case, part, where)


async def _answer(contract: Contract, executor: Executor, work: Work, label: str) -> Arrays:
    try:
        return contract.check_answer(await executor.call(work), work.outputs, work.rows)
    except Fault as fault:
        raise GoldenMismatch(f"{label} is not answered: {fault.message}") from fault


def _compare(contract: Contract, case: _Case, answer: Arrays, where: str) -> None:
    for name, expected in case.expected.items():
        wrong = case.golden.difference(expected, answer[name], contract.output(name).datatype)
        if wrong:
            raise GoldenMismatch(f"{case.label}, output '{name}'{where}: {wrong}")
