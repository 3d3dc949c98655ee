"""Compiled execution: an estimator's methods computed by ONNX Runtime, where that answers the same.

A method is replaced when it converts and when its answers are those of scikit-learn on the rows that both are
asked about while the model is loaded.  All else stays as it is, and the metadata says why.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from oipserver import GoldenRow, ModelConfig
from oipserver_sklearn.signature import first_line

if TYPE_CHECKING:
    from oipserver_sklearn.compiled_methods import Outcome
    from oipserver_sklearn.model import SklearnModel

log = logging.getLogger("oipserver.sklearn")

MISSING = 'onnxruntime and skl2onnx are not installed: pip install "oipserver[compiled]"'


def execute(
    model: SklearnModel, estimator: Any, config: ModelConfig, golden: Sequence[GoldenRow] = ()
) -> None:
    """Have `model` computed as `config.execution` says, and say so in its parameters.

    Args:
        model: that of `estimator`, computed natively so far.
        golden: real rows that came with the model.
    """
    facts: Mapping[str, object] = {"execution": "native"}
    if config.execution != "native":
        facts = _try(model, estimator, config, golden)
    model.parameters = {**model.parameters, **facts}


def _try(
    model: SklearnModel, estimator: Any, config: ModelConfig, golden: Sequence[GoldenRow]
) -> Mapping[str, object]:
    try:
        from oipserver_sklearn.compiled_methods import ENGINE, compile_methods
    except ImportError as error:
        wanted = (error.name or "").partition(".")[0] in ("onnx", "onnxruntime", "skl2onnx")
        return _native(config, MISSING if wanted else first_line(error))
    outcome = compile_methods(
        model.calls, model._rows(model.example or {}), estimator, config, list(_real(model, golden))
    )
    if not outcome.calls:
        return _native(config, next(iter(outcome.native.values())))
    model.calls.update(outcome.calls)
    for method, reason in outcome.native.items():
        _tell(config, f"{method} is executed natively", reason)
    return _compiled(config, outcome, ENGINE)


def _real(model: SklearnModel, golden: Sequence[GoldenRow]) -> Iterator[Any]:
    """The golden inputs as the model's methods take them; those that need a cast before are left out."""
    declared = {wanted.name: wanted.datatype for wanted in model.inputs}
    for row in golden:
        names = list(declared) if len(declared) == len(row.inputs) == 1 else [one.name for one in row.inputs]
        if {name: one.datatype for name, one in zip(names, row.inputs, strict=True)} == declared:
            yield model._rows({name: one.data for name, one in zip(names, row.inputs, strict=True)})


def _compiled(config: ModelConfig, outcome: Outcome, engine: str) -> Mapping[str, object]:
    checked = {
        method: {"rows": one.rows, "real_rows": one.real_rows, "max_difference": one.difference}
        for method, one in outcome.compared.items()
    }
    log.info(
        "model '%s': executed by %s, same answers as natively within %g: %s",
        config.name, engine, config.execution_tolerance,
        ", ".join(f"{name} on {one.rows} rows" for name, one in outcome.compared.items()),
    )  # fmt: skip
    facts = {
        "execution": "compiled",
        "execution_engine": engine,
        "execution_tolerance": config.execution_tolerance,
        "execution_checked": checked,
    }
    return facts | ({"execution_native": outcome.native} if outcome.native else {})


def _native(config: ModelConfig, reason: str) -> Mapping[str, object]:
    _tell(config, "executed natively", reason)
    return {"execution": "native", "execution_reason": reason}


def _tell(config: ModelConfig, what: str, reason: str) -> None:
    """A warning for who asked for `compiled`; `auto` leaves the choice to us."""
    level = logging.WARNING if config.execution == "compiled" else logging.INFO
    log.log(level, "model '%s': %s: %s", config.name, what, reason)
