"""What a fitted estimator takes and answers, found out by calling it.

Nothing is announced that was not tried: every method is called on made-up rows while the model is loaded,
and its answer decides datatype and shape.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import get_tags

from oipserver import BYTES, FP64, Array
from oipserver_sklearn.caught import caught_warnings
from oipserver_sklearn.columns import (
    ANY_NUMBER,
    COLUMN_TRANSFORMER,
    Column,
    Value,
    columns_of,
    entry_of,
    likely_width,
    reads_text,
    recall,
)
from oipserver_sklearn.kinds import is_a
from oipserver_sklearn.layout import Layout, Matrix, NamedMatrix, Table, Texts
from oipserver_sklearn.outputs import Output, announce, dense
from oipserver_sklearn.private_copy import private_copy

log = logging.getLogger("oipserver.sklearn")

METHODS = ("predict", "transform", "predict_proba", "decision_function")


@dataclass(frozen=True, slots=True)
class Signature:
    """What `sign` found out.

    Attributes:
        outputs: the default one first.
        allow_nan: one entry per column of the layout.
        example: a valid row, one value per column.
    """

    layout: Layout
    outputs: Sequence[Output]
    allow_nan: Sequence[bool]
    example: Sequence[Value]


def sign(fitted: BaseEstimator, name: str, n_jobs: int) -> Signature:
    """The signature of a private copy of `fitted`, called `name` in the log.

    Raises:
        ImportError: the model needs data frames and pandas is not installed.
        ValueError: nothing that can be answered from tensors.
    """
    with caught_warnings():
        layout, served = _layout(fitted, n_jobs)
        example = _example(layout, served)
        outputs = list(_outputs(layout, served, example, name))
        return Signature(layout, outputs, _allow_nan(layout, fitted, outputs[0], example), example)


def default_method(estimator: object) -> str | None:
    """What is answered when the caller names no output; None when there is nothing to answer."""
    return next((method for method in METHODS[:2] if hasattr(estimator, method)), None)


def _layout(fitted: BaseEstimator, n_jobs: int) -> tuple[Layout, Any]:
    """How to bring tensors to the estimator, and its private copy that takes them so."""
    served = private_copy(fitted, n_jobs)
    if reads_text(fitted):
        return Texts(), served
    names = recall(fitted, "feature_names_in_")
    names = [] if names is None else [str(name) for name in names]
    width = recall(fitted, "n_features_in_") or len(names)
    if not width:
        return Matrix([ANY_NUMBER] * likely_width(fitted), width=-1), served
    known = columns_of(fitted, width)
    read = [column for column in known if column is not None]
    if not names:
        spare = read[0] if read else ANY_NUMBER  # in place of a column that nobody reads
        return _unnamed([column or spare for column in known], width), served
    if len(read) < width or any(column.datatype is not FP64 for column in read):
        used = [name for name, column in zip(names, known, strict=True) if column is not None]
        return Table(read, used), served
    # A data frame costs several times what a small model itself does: plain arrays where they will do.
    framed, plain = NamedMatrix(read, names), Matrix(read, width, names)
    nameless = private_copy(fitted, n_jobs, named=False)
    return (plain, nameless) if _agree(plain, nameless, framed, served) else (framed, served)


def _unnamed(columns: Sequence[Column], width: int) -> Matrix:
    """One matrix; its columns are of one kind, since nothing tells them apart."""
    texts = [column.datatype is BYTES for column in columns]
    if all(texts):
        return Matrix(columns, width)
    if any(texts):
        raise ValueError(
            "the model was fitted on unnamed columns of text and numbers: fit it on a data frame"
        )
    return Matrix([Column(FP64, column.example) for column in columns], width)


def _agree(plain: Layout, nameless: Any, framed: Layout, named: Any) -> bool:
    """Whether the copy without names gives the same answers to arrays, and that without a complaint."""
    inputs = plain.tensors([_row(plain, 0.0), _row(plain, 1.0), list(range(len(plain.columns)))])
    methods = [method for method in METHODS if hasattr(nameless, method)]
    try:
        with caught_warnings() as caught:
            ours = [getattr(nameless, method)(plain.rows(inputs)) for method in methods]
        theirs = [getattr(named, method)(framed.rows(inputs)) for method in methods]
        equal = all(_equal(dense(one), dense(other)) for one, other in zip(ours, theirs, strict=True))
    except Exception:
        return False
    return equal and not any("feature names" in str(entry.message) for entry in caught)


def _equal(one: Array, other: Array) -> bool:
    """Floats may differ by rounding: the two forms lie in memory differently."""
    if one.dtype.kind == "f":
        return np.allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True)
    return np.array_equal(one, other)


def _row(layout: Layout, number: float) -> list[Value]:
    return [number if column.example is None else column.example for column in layout.columns]


def _example(layout: Layout, estimator: Any) -> list[Value]:
    """A row that the default method takes: zeros where any number will do, or ones.

    Raises:
        ValueError: it takes neither.
    """
    method = getattr(estimator, default_method(estimator) or "")
    refusal = ""
    for number, copies in product((0.0, 1.0), (False, True)):
        row = _row(layout, number)
        if isinstance(layout, Matrix):
            layout.copies = copies  # the trial's tensors are read-only: an estimator that writes shows here
        try:
            method(layout.rows(layout.tensors([row, row])))
        except Exception as error:
            refusal = refusal or f"{type(error).__name__}: {first_line(error)}"
        else:
            return row
    raise ValueError(f"{type(estimator).__name__} fails on the rows made up to try it: {refusal}")


def _outputs(layout: Layout, estimator: Any, example: list[Value], name: str) -> Iterator[Output]:
    """The default output, then every other method that answers.

    Raises:
        ValueError: the default method's answer cannot be announced.
    """
    inputs = layout.tensors([example, example])
    default = default_method(estimator)
    for method in METHODS:
        if not hasattr(estimator, method):
            continue
        try:
            yield announce(estimator, method, getattr(estimator, method)(layout.rows(inputs)), rows=2)
        except Exception as error:
            if method == default:
                raise
            log.info("model '%s': %s is not offered: %s", name, method, first_line(error))


def _allow_nan(layout: Layout, fitted: Any, output: Output, example: list[Value]) -> list[bool]:
    """For each column, whether NaN is taken.  The tag decides for a single estimator.

    Pipelines and meta-estimators do not pass the tags of their parts on, so that they are tried.
    """
    columns = layout.columns
    if not _is_composite(fitted):
        return [bool(get_tags(fitted).input_tags.allow_nan)] * len(columns)
    numbers = [position for position, column in enumerate(columns) if column.datatype is FP64]
    if _takes(layout, output, _with_nan(example, numbers)):
        return [True] * len(columns)
    if not is_a(entry_of(fitted), COLUMN_TRANSFORMER):
        return [False] * len(columns)
    return [
        position not in numbers or _takes(layout, output, _with_nan(example, [position]))
        for position in range(len(columns))
    ]


def _is_composite(estimator: BaseEstimator) -> bool:
    return any(isinstance(value, BaseEstimator) for value in estimator.get_params(deep=True).values())


def _with_nan(row: Sequence[Value], positions: Sequence[int]) -> list[Value]:
    return [float("nan") if position in positions else value for position, value in enumerate(row)]


def _takes(layout: Layout, output: Output, row: list[Value]) -> bool:
    try:
        output.call(layout.rows(layout.tensors([row])))
    except Exception:
        return False
    return True


def first_line(error: Exception) -> str:
    """What went wrong, without the numpy details that may follow."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
