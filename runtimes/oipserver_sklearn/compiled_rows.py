"""Rows as an estimator's methods take them, and as a compiled session is fed with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from oipserver import BOOL, BYTES, FP64, Array, Datatype
from oipserver_sklearn.columns import recall

# Beyond it rows are computed natively: float32 features end at 3.4e38, which a scaler may reach earlier.
LARGEST = 1e15

Known: TypeAlias = frozenset[Any]


class Form(ABC):
    """One way in which rows are laid out.

    Attributes:
        inputs: what the session has: datatype and columns of each tensor, by name.
        width: columns.
    """

    inputs: Mapping[str, tuple[Datatype, int]]
    width: int

    @abstractmethod
    def rows(self, numbers: Array, random: np.random.Generator) -> Any:
        """Rows of these numbers [rows, width]; in columns of categories, some of these at random."""

    @abstractmethod
    def tensors(self, rows: Any) -> list[Array]:
        """The tensors for `inputs`, in their order."""

    @abstractmethod
    def are_ordinary(self, tensors: Sequence[Array], allow_nan: bool) -> bool:
        """Whether compiled and native answers were compared for rows like these.

        All others (infinities, huge numbers, unknown categories, NaN unless `allow_nan`) are left to
        scikit-learn, which refuses them or not.
        """


class MatrixForm(Form):
    """One float64 array.

    Args:
        known: by position, the values of columns that are categories.
    """

    def __init__(self, width: int, known: Mapping[int, Known]) -> None:
        self.width = width
        self.inputs = {"rows": (FP64, width)}
        self._known = {position: np.array(list(values)) for position, values in known.items()}

    def rows(self, numbers: Array, random: np.random.Generator) -> Any:
        numbers = numbers.copy()
        for position, values in self._known.items():
            numbers[:, position] = random.choice(values, len(numbers))
        return numbers

    def tensors(self, rows: Any) -> list[Array]:
        return [rows]

    def are_ordinary(self, tensors: Sequence[Array], allow_nan: bool) -> bool:
        (rows,) = tensors
        return _are_ordinary(rows, allow_nan) and all(
            np.isin(rows[:, position], values).all() for position, values in self._known.items()
        )


class FrameForm(Form):
    """A data frame; each of its columns is a tensor of shape [rows, 1].

    Args:
        frame: rows of the kind that will come.
        known: by name, the values of columns that are categories.

    Raises:
        NotImplementedError: a column of text that is none.
    """

    def __init__(self, frame: Any, known: Mapping[str, Known]) -> None:
        self._make = type(frame)
        self._known = known
        self.inputs = {name: (_datatype(frame[name]), 1) for name in frame.columns}
        self.width = len(self.inputs)
        for name, (datatype, _) in self.inputs.items():
            if datatype is BYTES and not known.get(name):
                raise NotImplementedError(f"column '{name}' holds text of any kind")

    def rows(self, numbers: Array, random: np.random.Generator) -> Any:
        columns = zip(self.inputs, numbers.T, strict=True)
        return self._make({name: self._column(name, values, random) for name, values in columns})

    def _column(self, name: str, numbers: Array, random: np.random.Generator) -> Array:
        datatype = self.inputs[name][0]
        if datatype is BOOL:
            return numbers > 0
        if name not in self._known:
            return numbers
        dtype = np.object_ if datatype is BYTES else np.float64
        return random.choice(np.array(sorted(self._known[name]), dtype=dtype), len(numbers))

    def tensors(self, rows: Any) -> list[Array]:
        return [rows[name].to_numpy().reshape(-1, 1) for name in self.inputs]

    def are_ordinary(self, tensors: Sequence[Array], allow_nan: bool) -> bool:
        return all(
            self._known[name].issuperset(column[:, 0].tolist())
            if name in self._known
            else column.dtype.kind == "b" or _are_ordinary(column, allow_nan)
            for name, column in zip(self.inputs, tensors, strict=True)
        )


def _are_ordinary(numbers: Array, allow_nan: bool) -> bool:
    # Never true with NaN or infinity, and one pass without a temporary array.
    if np.vdot(numbers, numbers) <= LARGEST**2:
        return True
    ordinary = np.abs(numbers) <= LARGEST
    return bool((ordinary | np.isnan(numbers)).all() if allow_nan else ordinary.all())


def _datatype(column: Any) -> Datatype:
    if column.dtype.kind == "f":
        return FP64
    return BOOL if column.dtype.kind == "b" else BYTES


def form_of(rows: Any, estimator: Any) -> Form:
    """How rows like `rows` are laid out.

    Raises:
        NotImplementedError: text that no list of categories bounds.
    """
    if isinstance(rows, list) or (isinstance(rows, np.ndarray) and rows.dtype.kind != "f"):
        raise NotImplementedError("the model reads text")
    entry = estimator.steps[0][1] if isinstance(estimator, Pipeline) else estimator
    if isinstance(rows, np.ndarray):
        return MatrixForm(rows.shape[1], _known(entry, rows.shape[1]))
    names = recall(estimator, "feature_names_in_")
    known = _known(entry, len(names))
    return FrameForm(rows, {str(names[position]): values for position, values in known.items()})


def _known(entry: Any, width: int) -> dict[int, Known]:
    """By position, what a column held in training, where an encoder remembers its categories."""
    if not isinstance(entry, ColumnTransformer):
        return {place: values for place, values in enumerate(_categories(entry, width)) if values}
    known: dict[int, Known] = {}
    for name, part, _ in entry.transformers_:
        positions = entry._transformer_to_input_indices[name]
        for position, values in zip(positions, _categories(part, len(positions)), strict=True):
            if values:
                known[position] = known.get(position, values) & values
    return known


def _categories(part: Any, width: int) -> Sequence[Known]:
    """Per column of `part`, the categories of its encoder; empty where there is none."""
    steps = [step for _, step in part.steps] if isinstance(part, Pipeline) else [part]
    lists = [found for step in steps if (found := getattr(step, "categories_", None)) is not None]
    found = lists[0] if lists and len(lists[0]) == width else [()] * width
    return [frozenset(value for value in values if value == value) for values in found]
