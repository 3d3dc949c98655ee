"""A fitted estimator as a Model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sklearn
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from oipserver import BYTES, Arrays, InvalidInput, Model, ModelConfig, Parameters, TensorMetadata, cpu_quota
from oipserver_sklearn.columns import PIPELINE, recall
from oipserver_sklearn.direct import direct_call
from oipserver_sklearn.kinds import is_a
from oipserver_sklearn.layout import Layout, Matrix
from oipserver_sklearn.outputs import Output, class_labels
from oipserver_sklearn.signature import Signature, default_method, first_line, sign
from oipserver_sklearn.threads import ThreadBudget

log = logging.getLogger("oipserver.sklearn")


def serve(estimator: object, config: ModelConfig, saved_with: str | None = None) -> SklearnModel:
    """The model for a fitted estimator, which itself is not changed.

    Args:
        saved_with: the scikit-learn version that saved it, where it is another than the one that runs.

    Raises:
        ImportError: a library that the model needs is not installed.
        ValueError: no estimator, not fitted, or nothing that can be answered from tensors.
    """
    fitted = _checked(estimator)
    budget = ThreadBudget(cpu_quota(), config.instance_group.count)
    n_jobs = _n_jobs(config, budget)
    log.info(
        "model '%s': threads of one call: at most %d (%s), n_jobs=%d",
        config.name, budget.per_call, ", ".join(budget.pools) or "no native library", n_jobs,
    )  # fmt: skip
    if saved_with:
        log.warning(
            "model '%s' was saved with scikit-learn %s and runs with %s: its answers may differ",
            config.name, saved_with, sklearn.__version__,
        )  # fmt: skip
    model = SklearnModel(sign(fitted, config.name, n_jobs), _parameters(fitted, saved_with), budget)
    model.may_run_inline = _is_predictable(fitted, model.inputs)
    return model


class SklearnModel(Model):
    """A fitted estimator: every output is one of its methods.

    Attributes:
        calls: for each output, what computes it: it takes what the layout makes of a request (a float64 array
            [rows, columns], a data frame or a list of texts) and returns what the method of that name does.
    """

    platform = "sklearn"
    batchable = True

    def __init__(self, signature: Signature, parameters: Mapping[str, object], budget: ThreadBudget) -> None:
        layout, outputs = signature.layout, signature.outputs
        self.inputs = layout.inputs(signature.allow_nan)
        self.named_inputs = layout.named_inputs(signature.allow_nan)
        self.outputs = (outputs[0].metadata,)
        self.optional_outputs = tuple(output.metadata for output in outputs[1:])
        self.parameters = parameters
        self.example = layout.tensors([signature.example])
        self.holds = [output.estimator for output in outputs]
        self._rows = layout.rows
        self.calls = {output.metadata.name: _native(layout, output) for output in outputs}
        self._arrays = {output.metadata.name: output.array for output in outputs}
        self._enter_thread = budget.enter

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        """The requested outputs; each has the batch as its first axis.

        Raises:
            InvalidInput: the estimator refuses a value (ValueError, TypeError), or text is not UTF-8.
        """
        self._enter_thread()
        answers = {}
        for name in outputs:
            rows = self._rows(inputs)
            try:
                raw = self.calls[name](rows)
            except (ValueError, TypeError) as error:
                raise InvalidInput(first_line(error)) from error
            answers[name] = self._arrays[name](raw)
        return answers


def _native(layout: Layout, output: Output) -> Callable[[Any], Any]:
    """The method itself, or what does the same sooner where rows come as one array of numbers."""
    if type(layout) is not Matrix or layout.columns[0].datatype is BYTES:
        return output.call
    return direct_call(output.estimator, output.metadata.name) or output.call


def _checked(estimator: object) -> BaseEstimator:
    kind = type(estimator).__name__
    if not isinstance(estimator, BaseEstimator):
        raise ValueError(f"a {kind} is not a scikit-learn estimator")
    try:
        if hasattr(estimator, "fit"):
            check_is_fitted(estimator)
    except NotFittedError as error:
        raise ValueError(f"the {kind} is not fitted: call its fit before it is saved or served") from error
    if not default_method(estimator):
        hint = ": it labels only the rows that it was fitted on" if hasattr(estimator, "fit_predict") else ""
        raise ValueError(f"a {kind} has neither predict nor transform{hint}")
    return estimator


def _is_predictable(fitted: BaseEstimator, inputs: Sequence[TensorMetadata]) -> bool:
    """Whether a call costs what its rows say: scikit-learn's own code alone, and no text of any length.

    Somebody else's estimator or function may take a second for one row and nothing for the next.
    """
    parts = [fitted, *fitted.get_params(deep=True).values()]
    own = all(
        type(part).__module__.startswith("sklearn.")
        for part in parts
        if isinstance(part, BaseEstimator) or (callable(part) and not isinstance(part, type))
    )
    return own and not any(tensor.datatype is BYTES for tensor in inputs)


def _n_jobs(config: ModelConfig, budget: ThreadBudget) -> int:
    wanted = config.parameters.get("n_jobs", 1)
    if type(wanted) is not int or wanted < 1:
        raise ValueError(f"parameter 'n_jobs' must be a positive integer, got {wanted!r}")
    return min(wanted, budget.per_call)


def _parameters(fitted: BaseEstimator, saved_with: str | None) -> Mapping[str, object]:
    """What the REST metadata shows of the estimator."""
    facts: dict[str, object] = {"estimator": type(fitted).__name__}
    if is_a(fitted, PIPELINE):
        facts["steps"] = [type(step).__name__ for _, step in fitted.steps if not isinstance(step, str)]
    if labels := class_labels(fitted):
        facts["classes"] = labels
    names = recall(fitted, "feature_names_in_")
    if names is not None:
        facts["feature_names"] = [str(name) for name in names]
    facts["sklearn_version"] = sklearn.__version__
    if saved_with:
        facts["sklearn_version_saved"] = saved_with
    return facts
