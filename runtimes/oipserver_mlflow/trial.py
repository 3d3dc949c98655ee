"""What a model answers, found out by asking it while it is loaded.

Nothing is announced that was not tried, where it can be tried: with the example that was logged with the
model, else with made-up rows.  A model that takes neither keeps its signature's promise, or answers one JSON
text.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from mlflow.models import infer_signature
from mlflow.types.schema import ColSpec, Schema, TensorSpec

from oipserver import Arrays
from oipserver_mlflow.inputs import Anything, Layout, layout_of
from oipserver_mlflow.outputs import Form, learn, promised, take_apart
from oipserver_mlflow.scoring import checked

log = logging.getLogger("oipserver.mlflow")

_ROWS = (2, 3)


@dataclass(frozen=True, slots=True)
class Signature:
    """How to ask, and what comes back.

    Attributes:
        form: None when each answer is one JSON text.
        example: a request that the model has answered; None when there was none.
        has_batch_axis: as many rows come back as were sent.
        declared: the model was logged with a signature.
    """

    layout: Layout
    form: Form | None
    example: Arrays | None
    has_batch_axis: bool
    declared: bool


def sign(pyfunc: Any) -> Signature:
    """The signature of a loaded model, from what was logged with it and from trials.

    Raises:
        TypeError: it returned None.
        ValueError: its inputs cannot be carried.
    """
    metadata = pyfunc.metadata
    schema, outputs = metadata.get_input_schema(), metadata.get_output_schema()
    if schema is not None:
        layout = layout_of(schema, metadata._is_signature_from_type_hint())
        return _tried(pyfunc, layout, outputs, declared=True)
    guessed = _guess(pyfunc)
    if guessed is not None:
        layout = layout_of(guessed, by_type_hint=False)
        layout.schema = None  # a guess is not to refuse anything
        signature = _tried(pyfunc, layout, outputs, declared=False)
        if signature.example is not None:
            return signature
    return _tried(pyfunc, Anything(), outputs, declared=False)


def _tried(pyfunc: Any, layout: Layout, outputs: Schema | None, declared: bool) -> Signature:
    for example in _examples(pyfunc, layout):
        answers = _ask(pyfunc, layout, example)
        if not answers:
            continue
        batch = layout.has_batch_axis and len(answers) == len(_ROWS) and _follows(answers)
        form = learn(answers, outputs, free=isinstance(layout, Anything))
        return Signature(layout, form, example, batch, declared)
    promise = promised(outputs)
    batch = layout.has_batch_axis and promise is not None and promise.has_batch_axis
    return Signature(layout, promise, None, batch, declared)


def _examples(pyfunc: Any, layout: Layout) -> Iterator[Arrays]:
    """Requests that the model may take: the logged one, zeros, ones."""
    if pyfunc.input_example is not None:
        try:
            yield layout.tensors(checked(pyfunc.input_example, layout.schema))
        except Exception as error:
            log.info("the logged input example cannot be used: %s", error)
    yield layout.blank(0)
    yield layout.blank(1)


def _ask(pyfunc: Any, layout: Layout, example: Arrays) -> list[Any]:
    """The answers to as many rows as `_ROWS` says; to the example as it is, when that fails; else none."""
    attempts = [[_resized(example, rows) for rows in _ROWS]] if layout.has_batch_axis else []
    for requests in (*attempts, [example]):
        try:
            return [pyfunc.predict(layout.data(request)) for request in requests]
        except Exception as error:
            log.info("a trial failed: %s: %s", type(error).__name__, str(error).partition("\n")[0])
    return []


def _resized(example: Arrays, rows: int) -> Arrays:
    return {name: np.resize(array, (rows, *array.shape[1:])) for name, array in example.items()}


def _follows(answers: list[Any]) -> bool:
    return all(
        array.shape[:1] == (rows,)
        for answer, rows in zip(answers, _ROWS, strict=True)
        for array in take_apart(answer).arrays.values()
    )


def _guess(pyfunc: Any) -> Schema | None:
    """An input schema for a model without one: of the logged example, else of the library's own model."""
    if pyfunc.input_example is not None:
        try:
            return infer_signature(pyfunc.input_example).inputs
        except Exception as error:
            log.info("the logged input example tells no signature: %s", error)
    try:
        raw = pyfunc.get_raw_model()
    except Exception:  # a flavor without one
        return None
    names = _first(raw, "feature_names_in_", "feature_names", "feature_name_")
    width = _first(raw, "n_features_in_", "num_features", "num_feature")
    if names is not None and len(names):
        return Schema([ColSpec("double", str(name)) for name in names])
    return Schema([TensorSpec(np.dtype(np.float64), (-1, int(width)))]) if width else None


def _first(model: Any, *attributes: str) -> Any:
    """The first attribute, or answer of the method, that there is."""
    for attribute in attributes:
        try:
            found = getattr(model, attribute)
            found = found() if callable(found) else found
        except Exception as error:  # of a model that is not fitted, or it has another meaning there
            log.debug("%s: %s", attribute, error)
        else:
            if found is not None:
                return found
    return None
