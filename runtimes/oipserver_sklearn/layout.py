"""How a request's tensors become what an estimator takes: a matrix, a data frame, or a list of texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from oipserver import BYTES, FP64, Array, Arrays, Datatype, InvalidInput, TensorMetadata
from oipserver_sklearn.columns import Column, Value

INPUT = "input-0"


class Layout(ABC):
    """One way to lay out columns.  `columns` are those that a request brings, in order."""

    columns: Sequence[Column]

    @abstractmethod
    def rows(self, inputs: Arrays) -> Any:
        """What the estimator's methods take, made anew at each call: an estimator may write into it.

        Raises:
            InvalidInput: text that is not UTF-8.
        """

    @abstractmethod
    def tensors(self, rows: Sequence[Sequence[Value]]) -> dict[str, Array]:
        """The declared inputs that hold these rows, one value per column."""

    @abstractmethod
    def inputs(self, allow_nan: Sequence[bool]) -> tuple[TensorMetadata, ...]:
        """The declared inputs; `allow_nan` has one entry per column."""

    def named_inputs(self, allow_nan: Sequence[bool]) -> tuple[TensorMetadata, ...]:
        """The same columns as one tensor each, where that is another form than `inputs`."""
        return ()


class Matrix(Layout):
    """One tensor of numbers, or of texts: shape [-1, columns].

    Args:
        width: as announced; -1 where the estimator does not tell.
        names: the columns' own names; empty when it has none.
    """

    def __init__(self, columns: Sequence[Column], width: int, names: Sequence[str] = ()) -> None:
        self.columns = columns
        self.copies = False  # for estimators that write into their input
        self._width = width
        self._datatype = columns[0].datatype
        self._names = tuple(names) if len(set(names)) == len(names) and INPUT not in names else ()

    def rows(self, inputs: Arrays) -> Any:
        matrix = inputs.get(INPUT)
        if matrix is None:
            return np.hstack([inputs[name] for name in self._names])
        if self._datatype is BYTES:
            return _texts(matrix, INPUT)
        return matrix.copy() if self.copies else matrix

    def tensors(self, rows: Sequence[Sequence[Value]]) -> dict[str, Array]:
        return {INPUT: _tensor(rows, self._datatype)}

    def inputs(self, allow_nan: Sequence[bool]) -> tuple[TensorMetadata, ...]:
        return (TensorMetadata(INPUT, self._datatype, (-1, self._width), any(allow_nan)),)

    def named_inputs(self, allow_nan: Sequence[bool]) -> tuple[TensorMetadata, ...]:
        return tuple(
            TensorMetadata(name, FP64, (-1, 1), allowed)
            for name, allowed in zip(self._names, allow_nan, strict=False)
        )


class NamedMatrix(Matrix):
    """A matrix, given to the estimator as a data frame."""

    def __init__(self, columns: Sequence[Column], names: Sequence[str]) -> None:
        super().__init__(columns, len(columns), names)
        self._pandas = _pandas()
        self._index = self._pandas.Index(names)

    def rows(self, inputs: Arrays) -> Any:
        return self._pandas.DataFrame(super().rows(inputs), columns=self._index)


class Texts(Layout):
    """One tensor of documents: BYTES, shape [-1, 1], given to the estimator as a list of str."""

    columns = (Column(BYTES, "word"),)

    def rows(self, inputs: Arrays) -> list[str]:
        documents: list[str] = _texts(inputs[INPUT], INPUT)[:, 0].tolist()
        return documents

    def tensors(self, rows: Sequence[Sequence[Value]]) -> dict[str, Array]:
        return {INPUT: _tensor(rows, BYTES)}

    def inputs(self, allow_nan: Sequence[bool]) -> tuple[TensorMetadata, ...]:
        return (TensorMetadata(INPUT, BYTES, (-1, 1)),)


class Table(Layout):
    """One tensor per named column, each of shape [-1, 1], given to the estimator as a data frame."""

    def __init__(self, columns: Sequence[Column], names: Sequence[str]) -> None:
        self.columns = columns
        self._datatypes = {name: column.datatype for name, column in zip(names, columns, strict=True)}
        if len(self._datatypes) < len(columns):
            raise ValueError(f"the model's columns need different names: {', '.join(names)}")
        self._pandas = _pandas()

    def rows(self, inputs: Arrays) -> Any:
        return self._pandas.DataFrame(
            {
                name: (_texts(inputs[name], name) if datatype is BYTES else inputs[name])[:, 0]
                for name, datatype in self._datatypes.items()
            }
        )

    def tensors(self, rows: Sequence[Sequence[Value]]) -> dict[str, Array]:
        by_column = zip(self._datatypes.items(), zip(*rows, strict=True), strict=True)
        return {
            name: _tensor([[value] for value in values], datatype) for (name, datatype), values in by_column
        }

    def inputs(self, allow_nan: Sequence[bool]) -> tuple[TensorMetadata, ...]:
        return tuple(
            TensorMetadata(name, datatype, (-1, 1), allowed)
            for (name, datatype), allowed in zip(self._datatypes.items(), allow_nan, strict=True)
        )


def _tensor(rows: Sequence[Sequence[Value]], datatype: Datatype) -> Array:
    """Read-only, as the rows of a request may be."""
    if datatype is BYTES:
        tensor = np.array([[str(value).encode() for value in row] for row in rows], dtype=np.object_)
    else:
        tensor = np.array(rows, dtype=datatype.dtype)
    tensor.flags.writeable = False
    return tensor


def _texts(tensor: Array, name: str) -> Array:
    """The same array with each bytes decoded."""
    texts = np.empty(tensor.size, dtype=np.object_)
    try:
        texts[:] = [value.decode() for value in tensor.flat]
    except UnicodeDecodeError as error:
        raise InvalidInput(f"input '{name}' holds text that is not valid UTF-8") from error
    return texts.reshape(tensor.shape)


def _pandas() -> Any:
    """Imported only for models that were fitted on a data frame: it takes a third of a second."""
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise ImportError(
            "a model fitted on a data frame needs pandas: pip install 'oipserver[sklearn]'"
        ) from error
    return pandas
