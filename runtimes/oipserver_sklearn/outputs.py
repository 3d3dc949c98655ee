"""What an estimator answers: one `Output` per method, announced after a trial call.

Rule: what is announced is what is answered.  Whatever dtype a method returns, it leaves as INT64, FP64,
BOOL or BYTES, with the batch as its first axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import is_regressor

from oipserver import BOOL, BYTES, FP64, INT64, Array, Datatype, TensorMetadata

_BY_KIND = {"b": BOOL, "i": INT64, "u": INT64, "f": FP64}


@dataclass(frozen=True, slots=True)
class Output:
    """One method of an estimator.

    Attributes:
        estimator: the one that is served.
        call: the bound method; takes what a `Layout` makes.
        array: brings what it returns to the announced datatype and shape.
    """

    metadata: TensorMetadata
    estimator: Any
    call: Callable[[Any], Any]
    array: Callable[[Any], Array]


def announce(estimator: Any, method: str, raw: Any, rows: int) -> Output:
    """The output called `method`, given what that method returned for a trial of `rows` rows.

    Raises:
        ValueError: the answer is not one array with a row per row: targets differ in their classes, or the
            first axis is not the batch.
    """
    answer = dense(raw)
    if len(answer) != rows:
        raise ValueError(f"{method} returned {len(answer)} rows for {rows}")
    shape = answer.shape[1:] or (1,)
    datatype = _datatype(estimator, method, answer)
    metadata = TensorMetadata(method, datatype, (-1, *shape), parameters=_labels(estimator, method, shape))
    return Output(metadata, estimator, getattr(estimator, method), _converter(datatype, shape))


def class_labels(estimator: Any) -> list[Any]:
    """`classes_` as JSON carries it: a list of labels, or one such list per target; empty without classes."""
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        return []
    return [_plain(label) for label in (classes.tolist() if isinstance(classes, np.ndarray) else classes)]


def _plain(label: Any) -> Any:
    if isinstance(label, np.ndarray | list):
        return [_plain(inner) for inner in (label.tolist() if isinstance(label, np.ndarray) else label)]
    if isinstance(label, np.generic):
        return _plain(label.item())
    return label if isinstance(label, bool | int | float | str) else _text(label).decode(errors="replace")


def _labels(estimator: Any, method: str, shape: tuple[int, ...]) -> dict[str, object]:
    """The labels that belong to the columns of `predict_proba`."""
    if method != "predict_proba":
        return {}
    labels = class_labels(estimator)
    per_target = bool(labels) and isinstance(labels[0], list)
    fits = len(labels) == shape[0] and per_target == (len(shape) == 2)
    return {"classes": labels} if fits else {}


def _datatype(estimator: Any, method: str, answer: Array) -> Datatype:
    if answer.dtype.kind not in _BY_KIND:
        return _of_objects(estimator, answer) if method == "predict" else BYTES
    if method != "predict" or is_regressor(estimator):
        return FP64
    return _BY_KIND[answer.dtype.kind]


def _of_objects(estimator: Any, answer: Array) -> Datatype:
    """Labels in an object array: what all known labels have in common, text if nothing else."""
    kind = np.array(class_labels(estimator) or answer.ravel().tolist()).dtype.kind
    return FP64 if is_regressor(estimator) else _BY_KIND.get(kind, BYTES)


def _converter(datatype: Datatype, shape: tuple[int, ...]) -> Callable[[Any], Array]:
    dtype = datatype.dtype

    def numbers(raw: Any) -> Array:
        answer = dense(raw)
        return answer.reshape(len(answer), *shape).astype(dtype, copy=False)

    def texts(raw: Any) -> Array:
        answer = dense(raw)
        encoded = np.empty(answer.size, dtype=np.object_)
        encoded[:] = [_text(value) for value in answer.flat]
        return encoded.reshape(len(answer), *shape)

    return texts if datatype is BYTES else numbers


def dense(raw: Any) -> Array:
    """An array of the batch: of a sparse matrix, a data frame, or a list with one array per target."""
    if isinstance(raw, np.ndarray):
        return raw
    if isinstance(raw, list) and raw and isinstance(raw[0], np.ndarray):
        return np.stack(raw, axis=1)
    return raw.toarray() if hasattr(raw, "toarray") else np.asarray(raw)


def _text(value: object) -> bytes:
    return bytes(value) if isinstance(value, bytes) else str(value).encode()
