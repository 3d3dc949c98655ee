"""Steps that transform, and pipelines of steps that are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn import get_config

from oipserver import Array
from oipserver_sklearn.direct.arrays import Compute, Computes, is_finite


def standard_scaler(estimator: Any) -> Computes:
    """Minus the mean, by the deviation."""
    mean = estimator.mean_ if estimator.with_mean else None
    scale = estimator.scale_ if estimator.with_std else None

    def transform(rows: Array) -> Array | None:
        scaled = rows.copy("K") if mean is None else rows - mean
        if scale is not None:
            scaled /= scale
        return scaled if is_finite(scaled) else None

    return {"transform": transform} if _answers_arrays(estimator) else {}


def min_max_scaler(estimator: Any) -> Computes:
    """Into a range."""
    factor, offset = estimator.scale_, estimator.min_
    limits = estimator.feature_range if estimator.clip else None

    def transform(rows: Array) -> Array | None:
        scaled: Array = rows * factor
        scaled += offset
        if not is_finite(scaled):
            return None
        return scaled if limits is None else np.clip(scaled, *limits, out=scaled)

    return {"transform": transform} if _answers_arrays(estimator) else {}


def components(estimator: Any) -> Computes:
    """Projections on principal components."""
    axes = estimator.components_.T
    centre = estimator.mean_.reshape(1, -1) @ axes
    scale = None
    if estimator.whiten:
        scale = np.sqrt(estimator.explained_variance_)
        scale = np.maximum(scale, np.finfo(scale.dtype).eps)

    def transform(rows: Array) -> Array | None:
        projected: Array = rows @ axes
        projected -= centre
        if scale is not None:
            projected /= scale
        return projected if is_finite(projected) else None

    return {"transform": transform} if _answers_arrays(estimator) else {}


def _answers_arrays(estimator: Any) -> bool:
    """No data frames: `set_output` can ask for them."""
    asked: Mapping[str, str | None] = getattr(estimator, "_sklearn_output_config", {})
    return (asked.get("transform") or get_config()["transform_output"]) == "default"


def steps_of(pipeline: Any) -> list[Any]:
    """The steps that do something."""
    return [step for _, step in pipeline.steps if step is not None and step != "passthrough"]


def chained(known: Sequence[Computes]) -> Computes:
    """The methods of a pipeline, given those of its steps."""
    if not known or not all("transform" in step for step in known[:-1]):
        return {}
    transforms = [step["transform"] for step in known[:-1]]
    return {method: _chain([*transforms, last]) for method, last in known[-1].items()}


def _chain(computes: Sequence[Compute]) -> Compute:
    def chain(rows: Array) -> Any:
        values: Any = rows
        for compute in computes:
            values = compute(values)
            if values is None:
                return None
        return values

    return chain
