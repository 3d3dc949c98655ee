"""An estimator's methods, compiled one by one, each compared with the native one before it replaces it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnxruntime import InferenceSession
from sklearn.base import is_clusterer
from sklearn.pipeline import Pipeline

from oipserver import Array, ModelConfig, cpu_quota
from oipserver_sklearn.compiled_graph import ENGINE, session
from oipserver_sklearn.compiled_parity import Compared, Different, compare
from oipserver_sklearn.compiled_rows import Form, form_of
from oipserver_sklearn.compiled_samples import blocks, numbers_for
from oipserver_sklearn.compiled_ties import NEIGHBOURS, has_neighbours
from oipserver_sklearn.compiled_trees import TREES, thresholds_of
from oipserver_sklearn.outputs import dense
from oipserver_sklearn.signature import first_line

__all__ = ["ENGINE", "Outcome", "compile_methods"]

Call = Callable[[Any], Any]

SECONDS = 2.0
# `auto` wants a gain that is no chance.
_CLEARLY = 0.9
_ROUNDS = 9
_SEED = 0


@dataclass(slots=True)
class Outcome:
    """What became of the methods, by name.

    Attributes:
        calls: what computes the compiled ones now.
        compared: what they were compared on.
        native: of the others, why.
    """

    calls: dict[str, Call] = field(default_factory=dict)
    compared: dict[str, Compared] = field(default_factory=dict)
    native: dict[str, str] = field(default_factory=dict)


class CompiledCall:
    """A method of the estimator computed by a session; rows out of the ordinary go to the native one.

    Attributes:
        allow_nan: NaN was found to be treated as natively; else such rows are out of the ordinary.
    """

    def __init__(self, run: InferenceSession, output: int, form: Form, native: Call, columns: bool) -> None:
        self.allow_nan = False
        self._run = run.run
        self._output = [run.get_outputs()[output].name]
        self._names = [one.name for one in run.get_inputs()]
        self._form = form
        self._native = native
        self._columns = columns

    def __call__(self, rows: Any) -> Any:
        """What the estimator's method returns for `rows`."""
        tensors = self._form.tensors(rows)
        return (
            self._answer(tensors) if self._form.are_ordinary(tensors, self.allow_nan) else self._native(rows)
        )

    def anyhow(self, rows: Any) -> Array:
        """The session's answer, whatever the rows."""
        return self._answer(self._form.tensors(rows))

    def _answer(self, tensors: Sequence[Array]) -> Array:
        answer: Array = self._run(self._output, dict(zip(self._names, tensors, strict=True)))[0]
        # Of two classes, decision_function tells the score of the second alone.
        return answer if self._columns or answer.ndim == 1 else answer[:, -1]


def compile_methods(
    natives: Mapping[str, Call], trial: Any, estimator: Any, config: ModelConfig, real: Sequence[Any]
) -> Outcome:
    """Every method that can be compiled, and why the others cannot.

    Args:
        natives: the methods of `estimator` as they are served.
        trial: rows as they take them.
        real: blocks of rows that came with the model.
    """
    if has_neighbours(estimator):
        return Outcome(native=dict.fromkeys(natives, NEIGHBOURS))
    outcome, differing = Outcome(), list[str]()
    try:
        compiler = _Compiler(trial, estimator, config, real)
    except Exception as error:
        return Outcome(native=dict.fromkeys(natives, _reason(error)))
    for method, native in natives.items():
        try:
            call = compiler.compiled(method, native)
            outcome.compared[method] = compiler.compared(call, native, SECONDS / len(natives))
            if config.execution == "auto":
                _demand_gain(native, call, compiler.timed)
            outcome.calls[method] = call
        except Exception as error:  # from two libraries, which may stumble over any estimator
            outcome.compared.pop(method, None)
            outcome.native[method] = _reason(error)
            if isinstance(error, Different):
                differing.append(method)
    _keep_together(outcome, differing, _scores_of(estimator))
    return outcome


def _scores_of(estimator: Any) -> Sequence[str]:
    """The methods that tell the numbers of which labels are made; of clusters, the distances to them."""
    return ("transform",) if is_clusterer(estimator) else ("predict_proba", "decision_function")


def _keep_together(outcome: Outcome, differing: Sequence[str], known_scores: Sequence[str]) -> None:
    """Labels are made of scores: where these differ, equal labels are luck."""
    scores = [method for method in differing if method in known_scores]
    if scores and "predict" in outcome.calls:
        del outcome.calls["predict"], outcome.compared["predict"]
        outcome.native["predict"] = f"{scores[0]} differs: {outcome.native[scores[0]]}"


class _Slower(Exception):
    """There is nothing to gain; the text says how much."""


def _reason(error: Exception) -> str:
    if isinstance(error, Different | _Slower):
        return str(error)
    kind = "" if isinstance(error, NotImplementedError) else f"{type(error).__name__}: "
    return f"it cannot be converted: {kind}{first_line(error)[:300]}"


class _Compiler:
    """One estimator, its sessions, and the rows to compare on."""

    def __init__(self, trial: Any, estimator: Any, config: ModelConfig, real: Sequence[Any]) -> None:
        random = np.random.default_rng(_SEED)
        self._trial = trial
        self._estimator = estimator
        self._threads = min(int(str(config.parameters.get("n_jobs", 1))), cpu_quota())
        self._tolerance = config.execution_tolerance
        self._form = form_of(trial, estimator)
        self._sessions: dict[bool, InferenceSession | Exception] = {}
        self._real = [block for block in real if self._form.are_ordinary(self._form.tensors(block), False)]
        last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
        thresholds = thresholds_of(last) if isinstance(last, TREES) else {}
        numbers = numbers_for(self._form.width, estimator, thresholds, random)
        self._generated = [self._form.rows(block, random) for block in blocks(numbers)]
        holed = np.where(random.random((64, self._form.width)) < 0.2, np.nan, numbers[:64])
        self._with_nan = self._form.rows(holed, random)
        self.timed = [self._form.rows(numbers[:count], random) for count in (1, 64)]

    def compiled(self, method: str, native: Call) -> CompiledCall:
        """`method`, not yet compared.

        Raises:
            Exception: of any kind: it cannot be compiled.
        """
        columns = dense(native(self._trial)).ndim > 1
        raw = method == "decision_function"
        try:
            run = self._session(raw)
        except Exception:
            # Some have labels beside raw scores only.
            if method != "predict" or not hasattr(self._estimator, "decision_function"):
                raise
            run = self._session(True)
        output = 0 if method == "predict" else len(run.get_outputs()) - 1
        return CompiledCall(run, output, self._form, native, columns)

    def _session(self, raw_scores: bool) -> InferenceSession:
        if raw_scores not in self._sessions:
            try:
                made = session(self._estimator, self._form.inputs, raw_scores, self._threads)
            except Exception as error:
                made = error
            self._sessions[raw_scores] = made
        known = self._sessions[raw_scores]
        if isinstance(known, Exception):
            raise known
        return known

    def compared(self, call: CompiledCall, native: Call, seconds: float) -> Compared:
        """What `call` was compared with `native` on.

        Raises:
            Different: their answers differ.
        """
        compared = compare(native, call.anyhow, self._real, self._generated, self._tolerance, seconds)
        try:
            compare(native, call.anyhow, (), [self._with_nan], self._tolerance, seconds)
            call.allow_nan = True
        except Exception:
            call.allow_nan = False
        return compared


def _demand_gain(native: Call, compiled: Call, samples: Iterable[Any]) -> None:
    for rows in samples:
        ours, theirs = (min(times) for times in zip(*_times(compiled, native, rows), strict=True))
        if ours > _CLEARLY * theirs:
            micros = f"{ours * 1e6:.0f} µs compiled, {theirs * 1e6:.0f} µs natively"
            raise _Slower(f"it is not faster: {len(rows)} rows take {micros}")


def _times(compiled: Call, native: Call, rows: Any) -> Iterator[tuple[float, float]]:
    """Seconds of one call each, in turns."""
    for _ in range(_ROUNDS):
        yield _seconds(compiled, rows), _seconds(native, rows)


def _seconds(call: Call, rows: Any) -> float:
    started = time.perf_counter()
    call(rows)
    return time.perf_counter() - started
