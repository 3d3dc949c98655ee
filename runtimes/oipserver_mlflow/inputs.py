"""What a model's signature asks for, as tensors; and from tensors what `PyFuncModel.predict` takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from mlflow.types.schema import Schema
from mlflow.utils.proto_json_utils import dataframe_from_parsed_json

from oipserver import BYTES, FP64, Array, Arrays, BadRequest, Datatype, TensorMetadata
from oipserver_mlflow.cells import Cell, Json, Number, Text, Unfit, cell_of, cell_of_dtype, fill, json_bytes
from oipserver_mlflow.width import check_records

MATRIX = "input-0"
ROWS = "rows"
TEXTS = "texts"
COLUMNS = "columns"
_ROW = {"form": "one JSON object per row, by column name"}


class Layout(ABC):
    """One way to ask.

    Attributes:
        schema: what MLflow checks the data of its scoring paths with; None for nothing.
    """

    schema: Schema | None = None
    inputs: Sequence[TensorMetadata]
    named_inputs: Sequence[TensorMetadata] = ()

    @abstractmethod
    def data(self, inputs: Arrays) -> Any:
        """What `PyFuncModel.predict` takes.

        Raises:
            BadRequest: an element is not what its column holds.
            MlflowException: MLflow cannot convert a row.
        """

    @abstractmethod
    def tensors(self, data: Any) -> dict[str, Array]:
        """The inverse, of data that MLflow has checked with `schema`.

        Raises:
            BadRequest: data that no tensor of this model carries.
        """

    @abstractmethod
    def blank(self, number: int) -> dict[str, Array]:
        """A made-up request of one row, with `number` in every place of a number."""

    @property
    def declared(self) -> int:
        """Columns or tensors of the schema; 0 without one."""
        return 0 if self.schema is None else len(self.schema.inputs)

    @property
    def has_batch_axis(self) -> bool:
        """Whether the first axis of every tensor is free."""
        return all(tensor.shape[:1] == (-1,) for tensor in self.inputs)


def layout_of(schema: Schema, by_type_hint: bool) -> Layout:
    """The layout of an input schema.

    Args:
        by_type_hint: it was told by the type hints of `predict`, which then takes a list.

    Raises:
        ValueError: a tensor that the protocol cannot carry.
    """
    if by_type_hint:
        return Items(schema)
    if schema.is_tensor_spec():
        return Tensors(schema)
    datatype = _matrix_type(schema)
    if datatype is not None and not schema.has_input_names():
        return Matrix(schema, datatype)
    return Columns(schema, datatype)


class Tensors(Layout):
    """Tensor specs: an array, or a dictionary of arrays where they have names."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._named = schema.has_input_names()
        names = [spec.name or MATRIX for spec in schema.inputs]
        self._dtypes = {name: spec.type for name, spec in zip(names, schema.inputs, strict=True)}
        self._cells = {name: cell_of_dtype(dtype, name) for name, dtype in self._dtypes.items()}
        self.inputs = tuple(
            TensorMetadata(name, self._cells[name].datatype, tuple(map(int, spec.shape)))
            for name, spec in zip(names, schema.inputs, strict=True)
        )

    def data(self, inputs: Arrays) -> Any:
        arrays = {name: self._array(name, tensor) for name, tensor in inputs.items()}
        return arrays if self._named else arrays[MATRIX]

    def _array(self, name: str, tensor: Array) -> Array:
        dtype = self._dtypes[name]
        array = self._cells[name].decode(tensor)
        return array.astype(dtype) if dtype.kind in "US" else array

    def tensors(self, data: Any) -> dict[str, Array]:
        arrays = data if self._named else {MATRIX: data}
        try:
            return {name: cell.encode(np.asarray(arrays[name])) for name, cell in self._cells.items()}
        except KeyError as error:
            raise BadRequest(f"input {error} is missing") from None
        except Unfit as error:
            raise BadRequest(f"a tensor cannot hold what was sent: {error}") from None

    def blank(self, number: int) -> dict[str, Array]:
        return {each.name: _blank(self._cells[each.name], each.shape, number) for each in self.inputs}


class Matrix(Layout):
    """Columns without names, numbers of one type: a data frame from one matrix."""

    def __init__(self, schema: Schema, datatype: Datatype) -> None:
        self.schema = schema
        self._cell = Number(datatype)
        self.inputs = (TensorMetadata(MATRIX, datatype, (-1, len(schema.inputs))),)

    def data(self, inputs: Arrays) -> Any:
        return pd.DataFrame(inputs[MATRIX])

    def tensors(self, data: Any) -> dict[str, Array]:
        try:
            return {MATRIX: self._cell.encode(data.to_numpy())}
        except Unfit as error:
            raise BadRequest(f"a column cannot hold what was sent: {error}") from None

    def blank(self, number: int) -> dict[str, Array]:
        return {MATRIX: _blank(self._cell, self.inputs[0].shape, number)}


class Columns(Layout):
    """Columns: a data frame from one tensor each.

    Where they have names, numbers of one type may come as one matrix too, and anything as rows: there a
    text may be null.
    """

    def __init__(self, schema: Schema, matrix: Datatype | None) -> None:
        self.schema = self._schema = schema
        specs, named = schema.inputs, schema.has_input_names()
        self._named = named
        names = [spec.name if named else f"input-{position}" for position, spec in enumerate(specs)]
        if len(set(names)) < len(names):
            raise ValueError(f"the signature names a column twice: {', '.join(names)}")
        self._cells = {name: cell_of(spec.type) for name, spec in zip(names, specs, strict=True)}
        self._keys = pd.Index(names if named else range(len(names)))
        self.inputs = tuple(
            _column(name, cell, not spec.required)
            for (name, cell), spec in zip(self._cells.items(), specs, strict=True)
        )
        forms = [TensorMetadata(ROWS, BYTES, (-1, 1), optional=True, parameters=_ROW)] if named else []
        if named and matrix is not None and len(names) > 1:
            forms.append(TensorMetadata(MATRIX, matrix, (-1, len(names)), optional=True))
        self.named_inputs = tuple(form for form in forms if form.name not in self._cells)
        self._forms = {form.name: form.datatype for form in self.named_inputs}

    def data(self, inputs: Arrays) -> Any:
        if ROWS in inputs and ROWS in self._forms:
            return dataframe_from_parsed_json(self._records(inputs[ROWS]), "records", self._schema)
        if MATRIX in inputs and MATRIX in self._forms:
            return pd.DataFrame(inputs[MATRIX], columns=self._keys)
        return pd.DataFrame(
            {
                key: cell.decode(inputs[name][:, 0])
                for key, (name, cell) in zip(self._keys, self._cells.items(), strict=True)
                if name in inputs
            }
        )

    def _records(self, tensor: Array) -> list[dict[str, Any]]:
        """A missing text is NaN, as pandas makes it where other rows have one: neighbours change nothing."""
        records = _records(tensor)
        check_records(records, len(self._cells))
        texts = [name for name, cell in self._cells.items() if isinstance(cell, Text)]
        for record in records:
            record.update({name: np.nan for name in texts if name in record and record[name] is None})
        return records

    def tensors(self, data: Any) -> dict[str, Array]:
        frame = self._frame(data)
        try:
            if MATRIX in self._forms:
                return {MATRIX: Number(self._forms[MATRIX]).encode(frame.to_numpy())}
            return {
                name: self._cells[name].encode(frame[name].to_numpy())[:, np.newaxis]
                for name in frame.columns
            }
        except Unfit as error:
            if ROWS in self._forms:
                return {ROWS: _row_texts(frame)}
            raise BadRequest(f"a column cannot hold what was sent: {error}") from None

    def _frame(self, data: Any) -> Any:
        """A data frame with our names.  MLflow keeps the caller's own where the signature has none."""
        if not self._named:
            return data.set_axis(list(self._cells), axis="columns")
        frame = data if isinstance(data, pd.DataFrame) else _frame(data, self._keys)
        optional = {each.name for each in self.inputs if each.optional}
        if missing := [key for key in self._keys if key not in frame.columns and key not in optional]:
            raise BadRequest(f"the model misses columns: {', '.join(missing)}")
        return frame[[key for key in self._keys if key in frame.columns]]

    def blank(self, number: int) -> dict[str, Array]:
        return {name: _blank(cell, (1, 1), number) for name, cell in self._cells.items()}


class Items(Layout):
    """A list with one value per row, as the type hints of `predict` say."""

    def __init__(self, schema: Schema) -> None:
        self._cell = cell_of(schema.inputs[0].type)
        self.inputs = (TensorMetadata(MATRIX, self._cell.datatype, (-1, 1)),)

    def data(self, inputs: Arrays) -> Any:
        return self._cell.decode(inputs[MATRIX][:, 0]).tolist()

    def tensors(self, data: Any) -> dict[str, Array]:
        if not isinstance(data, list):
            raise BadRequest(f"'inputs' must be a list, got {type(data).__name__}")
        try:
            values = self._cell.encode(fill(data, (len(data),)) if self._cell.datatype is BYTES else data)
        except (Unfit, ValueError) as error:
            raise BadRequest(f"'inputs' cannot be carried: {error}") from None
        return {MATRIX: values.reshape(-1, 1)}

    def blank(self, number: int) -> dict[str, Array]:
        return {MATRIX: _blank(self._cell, (1, 1), number)}


class Anything(Layout):
    """No signature, nor anything to tell one from: an array, a data frame, a dictionary of arrays."""

    inputs = (TensorMetadata(MATRIX, FP64, (-1, -1)),)
    named_inputs = (
        TensorMetadata(ROWS, BYTES, (-1, 1), optional=True, parameters=_ROW),
        TensorMetadata(TEXTS, BYTES, (-1,), optional=True),
        TensorMetadata(COLUMNS, BYTES, (1,), optional=True, parameters={"form": "a JSON object of lists"}),
    )
    has_batch_axis = False  # nobody knows

    def data(self, inputs: Arrays) -> Any:
        if len(inputs) != 1:
            forms = ", ".join(f"'{each.name}'" for each in (*self.inputs, *self.named_inputs))
            raise BadRequest(f"the model takes one of {forms}, got {len(inputs)} of them")
        if ROWS in inputs:
            records = _records(inputs[ROWS])
            check_records(records, self.declared)
            return pd.DataFrame(records)
        if TEXTS in inputs:
            return Text().decode(inputs[TEXTS]).astype(str)
        if COLUMNS in inputs:
            return {name: np.asarray(each) for name, each in _records(inputs[COLUMNS])[0].items()}
        return inputs[MATRIX]

    def tensors(self, data: Any) -> dict[str, Array]:
        if isinstance(data, np.ndarray) and data.dtype.kind in "biuf" and data.ndim in (1, 2):
            return {MATRIX: data.reshape(len(data), -1).astype(np.float64)}
        if isinstance(data, np.ndarray) and data.dtype.kind == "U" and data.ndim == 1:
            return {TEXTS: Text().encode(data)}
        if isinstance(data, dict):
            return {COLUMNS: fill([json_bytes(data)], (1,))}
        if isinstance(data, list):
            data = _frame(data)
        if not isinstance(data, pd.DataFrame):
            raise BadRequest("this model has no signature: send a data frame, a matrix of numbers, or texts")
        return {ROWS: _row_texts(data)}

    def blank(self, number: int) -> dict[str, Array]:
        return {MATRIX: np.full((1, 1), number, dtype=np.float64)}


def _matrix_type(schema: Schema) -> Datatype | None:
    """The datatype of columns that are numbers of one type and all required; None for others."""
    cells = [cell_of(kind) for kind in schema.input_types()]
    datatypes = {cell.datatype for cell in cells if isinstance(cell, Number)}
    same = len(datatypes) == 1 and all(isinstance(cell, Number) for cell in cells)
    return datatypes.pop() if same and not schema.optional_input_names() else None


def _column(name: str, cell: Cell, optional: bool) -> TensorMetadata:
    parameters: dict[str, object] = {"optional": True} if optional else {}
    if isinstance(cell, Json):
        parameters["form"] = "JSON"
    return TensorMetadata(name, cell.datatype, (-1, 1), optional=optional, parameters=parameters)


def _records(tensor: Array) -> list[dict[str, Any]]:
    records = Json().decode(tensor).ravel().tolist()
    for position, record in enumerate(records):
        if not isinstance(record, dict):
            raise BadRequest(f"element {position} must be a JSON object")
    return records


def _frame(data: Any, columns: Any = None) -> Any:
    try:
        return pd.DataFrame(data, columns=None if isinstance(data, dict) else columns)
    except (ValueError, TypeError) as error:
        raise BadRequest(f"no data frame can be made of the request: {error}") from None


def _row_texts(frame: Any) -> Array:
    """A JSON object per row."""
    try:
        return fill(map(json_bytes, frame.to_dict(orient="records")), (len(frame), 1))
    except TypeError as error:
        raise BadRequest(f"a row cannot be carried: {error}") from None


def _blank(cell: Cell, shape: Sequence[int], number: int) -> Array:
    value = number if isinstance(cell, Number) else cell.blank
    sizes = tuple(1 if size == -1 else size for size in shape)
    if isinstance(value, bytes):
        return fill([value] * int(np.prod(sizes)), sizes)
    return np.full(sizes, value, dtype=cell.datatype.dtype)
