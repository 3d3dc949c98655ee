"""MLflow's scoring protocol: `/invocations` in four JSON forms and CSV, read and written as MLflow does."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_schema
from mlflow.pyfunc.scoring_server import SUPPORTED_FORMATS, infer_and_parse_data, parse_csv_input
from mlflow.types.schema import Schema

from oipserver import Arrays, BadRequest, Parameters
from oipserver_mlflow.inputs import Items, Layout
from oipserver_mlflow.outputs import DOCUMENT, Form
from oipserver_mlflow.width import check_csv, check_objects, check_split

_MAX_TOLD = 300


class MlflowScoring:
    """Reads requests of the scoring paths as tensors of one model, and writes its answers.

    Args:
        form: None when the answer is asked for as one JSON text.
    """

    media_types: Sequence[str] = ("application/json", "text/csv")
    version: str = mlflow.__version__

    def __init__(self, layout: Layout, form: Form | None) -> None:
        self._layout = layout
        self._form = form
        self.outputs: Sequence[str] = () if form is not None else (DOCUMENT,)

    def read(self, body: bytes, media_type: str) -> tuple[Arrays, Parameters]:
        """The tensors and the parameters in `body`; takes its time, so not for the event loop.

        Raises:
            BadRequest: MLflow, or no tensor of this model, can carry what was sent.
        """
        try:
            if media_type == "text/csv":
                return self._tensors(self._table(body.decode())), {}
            document = _object(body)
            return self._tensors(self._parsed(document)), _parameters(document.get("params"))
        except BadRequest:
            raise
        except MlflowException as error:
            raise BadRequest(told(error)) from None
        except Exception as error:
            raise BadRequest(
                f"the body cannot be read: {type(error).__name__}: {first_line(error)}"
            ) from None

    def write(self, answer: Arrays) -> bytes:
        """The JSON answer; NaN and infinities leave as null, as strict parsers know no other way."""
        form = self._form
        predictions = json.loads(answer[DOCUMENT][0]) if form is None else form.document(answer)
        try:
            return json.dumps({"predictions": predictions}, allow_nan=False).encode()
        except ValueError:
            return json.dumps({"predictions": _finite(predictions)}).encode()

    def _table(self, text: str) -> Any:
        check_csv(text, self._layout.declared)
        return parse_csv_input(io.StringIO(text), self._layout.schema)

    def _parsed(self, document: Mapping[str, Any]) -> Any:
        data = {name: value for name, value in document.items() if name in SUPPORTED_FORMATS}
        if len(data) != 1:
            listed = ", ".join(sorted(SUPPORTED_FORMATS))
            raise BadRequest(f"the body must hold exactly one of {listed}, got {len(data)} of them")
        if isinstance(self._layout, Items):
            if "inputs" not in data:
                raise BadRequest(
                    "this model was logged with type hints: its scoring path takes 'inputs' only"
                )
            return data["inputs"]
        ((form, content),) = data.items()
        check = check_split if form == "dataframe_split" else check_objects
        check(content, self._layout.declared)
        return infer_and_parse_data(data, self._layout.schema)

    def _tensors(self, data: Any) -> Arrays:
        return self._layout.tensors(checked(data, self._layout.schema))


def checked(data: Any, schema: Schema | None) -> Any:
    """The data as `PyFuncModel.predict` would hand it to the model.

    Raises:
        MlflowException: it does not fit the schema.
    """
    return data if schema is None else _enforce_schema(data, schema)


def told(error: MlflowException) -> str:
    """MLflow's own words without the data and the schema around them, and without its advertising."""
    text = str(error.message).rpartition(". Error: ")[2].partition(" IMPORTANT:")[0]
    return " ".join(text.split())[:_MAX_TOLD]


def first_line(error: BaseException) -> str:
    """What went wrong, without the details that may follow."""
    lines = str(error).strip().splitlines()
    return lines[0][:_MAX_TOLD] if lines else type(error).__name__


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {first_line(error)}") from None
    if not isinstance(document, dict):
        raise BadRequest(f"the body must be a JSON object, got a {type(document).__name__}")
    return document


def _parameters(params: Any) -> Parameters:
    """Request parameters are scalars: lists and objects travel as JSON text, null as the default."""
    if params is None:
        return {}
    if not isinstance(params, dict):
        raise BadRequest(f"'params' must be an object, got a {type(params).__name__}")
    return {
        name: value if isinstance(value, bool | int | float | str) else json.dumps(value)
        for name, value in params.items()
        if value is not None
    }


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(each) for each in value]
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
