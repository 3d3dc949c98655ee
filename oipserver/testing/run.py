"""One run of all checks: load, look, call, close."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from oipserver.core import runtimes
from oipserver.core.contract import Contract
from oipserver.core.errors import Fault
from oipserver.core.executor import Executor
from oipserver.core.messages import Arrays, TensorMetadata
from oipserver.core.model import Model, Runtime
from oipserver.core.model_config import ModelConfig
from oipserver.core.registry import WARM_UP_ROWS, warm_up
from oipserver.core.replay import GoldenMismatch, replay
from oipserver.core.threads import in_daemon_thread
from oipserver.testing.announced import model_problems, runtime_problems
from oipserver.testing.checks import CHECKS, Measured, streams_as_announced
from oipserver.testing.compare import told
from oipserver.testing.subject import Problem, Refused, Subject, Watched, find_inputs, first_inputs


@dataclass(frozen=True, slots=True)
class Report:
    """What `check_runtime` measured.

    Attributes:
        inputs, outputs, optional_outputs: as announced, e.g. "x FP64 [-1, 4]".
        load_seconds: of `load`.
        call_seconds: of one `predict`, by the rows that it computed.
        rows_compared: rows that were computed alone and together.
        batch_difference: the largest difference between the two, relative where values are above 1.
        skipped: what could not be checked, and why.
    """

    platform: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    optional_outputs: tuple[str, ...]
    load_seconds: float
    call_seconds: Mapping[int, float]
    rows_compared: int
    batch_difference: float
    skipped: tuple[str, ...]


def check_runtime(
    runtime: Runtime | type[Runtime] | str,
    path: Path | str,
    config: ModelConfig | None = None,
    *,
    request: Arrays | None = None,
    patience: float = 60.0,
) -> Report:
    """Load a model, call it in every way that the server will, close it; what was measured.

    Args:
        runtime: the class, an instance, or the name that it is registered by.
        path: a stored model.
        config: how it would be served; by default with everything at its default, and the file trusted.
            With an `instance_group.count` above 1 as many threads call at the same time.
        request: one array per input with rows that the model accepts, for a model that has no `example`
            and refuses zeros.  With several different rows, the comparison of batches is sharper.
        patience: seconds that one call may take.

    Raises:
        AssertionError: one sentence per breach of the contract.
    """
    __tracebackhide__ = True
    stored = Path(path)
    run = _Run(patience)
    try:
        if not stored.exists():
            raise Problem(f"there is no model at '{stored}'")
        found = _instance(runtime)
        config = config or ModelConfig("checked", type(found).__name__, str(stored), trust_pickle=True)
        asyncio.run(run.all(found, stored, config, request))
    except Problem as problem:
        run.problems.append(str(problem))
    if run.problems:
        raise AssertionError("\n".join(run.problems))
    return run.report()


def _instance(runtime: Runtime | type[Runtime] | str) -> Runtime:
    try:
        if isinstance(runtime, str):
            return runtimes.get_runtime(runtime)
        return runtime() if isinstance(runtime, type) else runtime
    except Exception as error:
        raise Problem(f"the runtime cannot be had: {told(error)}") from error


@dataclass
class _Run:
    patience: float
    problems: list[str] = field(default_factory=list)
    measured: Measured = field(default_factory=Measured)
    load_seconds: float = 0.0
    call_seconds: dict[int, float] = field(default_factory=dict)
    model: Model = field(init=False)

    async def all(self, runtime: Runtime, path: Path, config: ModelConfig, request: Arrays | None) -> None:
        self.problems += runtime_problems(runtime, config)
        self.model = await self._load(runtime, path, config)
        try:
            await self._serve(config, request)
        finally:
            try:
                await in_daemon_thread(self.model.close, "close")
            except Exception as error:
                self.problems.append(f"close raised {told(error)}")

    async def _load(self, runtime: Runtime, path: Path, config: ModelConfig) -> Model:
        started = time.perf_counter()
        try:
            model = await in_daemon_thread(lambda: runtime.load(path, config), "load")
        except Exception as error:
            if isinstance(error, ImportError) and "pip install" not in str(error):
                self.problems.append("a missing library has to name its cure, as in 'pip install ...'")
            if not str(error):
                self.problems.append(f"load raised {type(error).__name__} without a sentence that says why")
            raise Problem(f"load raised {told(error)}") from error
        self.load_seconds = time.perf_counter() - started
        return model

    async def _serve(self, config: ModelConfig, request: Arrays | None) -> None:
        batched = config.max_batch_size > 0 and getattr(self.model, "has_batch_axis", True)
        breaches = list(model_problems(self.model, batched))
        self.problems += breaches
        if breaches:
            return  # what is not announced rightly cannot be asked for
        watched = Watched(self.model)
        model, loop = cast(Model, watched), asyncio.get_running_loop()
        executor = Executor(model, config.instance_group, loop, config.name)
        contract = Contract(model, config.name, batched)
        subject = Subject(contract, executor, watched, self.patience, config.instance_group.count)
        try:
            await self._call(subject, request, config.max_batch_size)
        finally:
            if not subject.stuck:
                await executor.close()

    async def _call(self, subject: Subject, request: Arrays | None, max_rows: int) -> None:
        if subject.model.decoupled and not await self._answers_at_once(subject, request):
            return
        await find_inputs(subject, request)
        await self._warm_up(subject)
        try:
            await replay(subject.contract, subject.executor, max_rows)
        except GoldenMismatch as difference:
            self.problems.append(f"golden: {difference}")
        for check in CHECKS:
            try:
                self.problems += [sentence async for sentence in check(subject, self.measured)]
            except Problem as problem:
                self.problems.append(str(problem))
                if subject.stuck:
                    return

    async def _answers_at_once(self, subject: Subject, request: Arrays | None) -> bool:
        """The pieces of a decoupled model are checked; whether its `predict` can be, too."""
        subject.inputs = first_inputs(subject, request)
        self.problems += [sentence async for sentence in streams_as_announced(subject, self.measured)]
        try:
            await subject.answer(subject.inputs)
        except Refused as refusal:
            self.measured.skipped.append(f"predict: {refusal}")
            return False
        except Problem as problem:
            raise Problem(f"{problem}; a model that only streams raises InvalidInput there") from problem
        return True

    async def _warm_up(self, subject: Subject) -> None:
        sizes = WARM_UP_ROWS if subject.contract.batched else (1,)
        try:
            async with asyncio.timeout(self.patience * len(sizes)):
                await warm_up(subject.contract, subject.executor)
        except TimeoutError:
            subject.stuck = True
            raise Problem(f"warm-up did not end within {self.patience * len(sizes):g} s") from None
        except Fault as fault:
            raise Problem(f"warm-up, up to {sizes[-1]} rows: {subject.why(fault)}") from fault
        # It goes on when zeros fail, for they may be nothing that real data ever is.
        raised = subject.watched.raised
        if raised is not None:
            self.measured.skipped.append(f"warm-up: {told(raised)}: give the model an example")
        self.call_seconds = {rows: subject.executor.costs.estimate(rows) for rows in sizes}

    def report(self) -> Report:
        model, measured = self.model, self.measured
        return Report(
            platform=model.platform,
            inputs=tuple(map(_shown, model.inputs)),
            outputs=tuple(map(_shown, model.outputs)),
            optional_outputs=tuple(map(_shown, model.optional_outputs)),
            load_seconds=self.load_seconds,
            call_seconds=self.call_seconds,
            rows_compared=measured.rows_compared,
            batch_difference=measured.batch_difference,
            skipped=tuple(measured.skipped),
        )


def _shown(tensor: TensorMetadata) -> str:
    return f"{tensor.name} {tensor.datatype} {list(tensor.shape)}"
