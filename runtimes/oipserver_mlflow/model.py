"""A pyfunc model as a Model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.types.schema import DataType

from oipserver import (
    BYTES,
    Array,
    Arrays,
    BadRequest,
    InvalidInput,
    Model,
    ModelConfig,
    Parameters,
    TensorMetadata,
)
from oipserver_mlflow.outputs import DOCUMENT, Form, whole
from oipserver_mlflow.scoring import MlflowScoring, first_line, told
from oipserver_mlflow.trial import Signature, sign

# Flavors whose models compute each row by itself.
ROW_BY_ROW = frozenset(
    "mlflow." + name
    for name in (
        "catboost", "h2o", "keras", "lightgbm", "onnx", "paddle", "pytorch", "sklearn", "spark",
        "statsmodels", "tensorflow", "xgboost",
    )
)  # fmt: skip
_DOCUMENT = TensorMetadata(DOCUMENT, BYTES, (1,), parameters={"form": "JSON"})
_CALLERS_FAULT = ("BAD_REQUEST", "INVALID_PARAMETER_VALUE")


def serve(pyfunc: Any, config: ModelConfig) -> MlflowModel:
    """The model for a `PyFuncModel`.

    Raises:
        ValueError: inputs that cannot be carried, a model that returns None, or a wrong configuration.
    """
    try:
        signature = sign(pyfunc)
    except TypeError as error:
        raise ValueError(str(error)) from error
    flavor = str(pyfunc.loader_module)
    return MlflowModel(pyfunc, signature, _batchable(config, flavor), flavor in ROW_BY_ROW)


class MlflowModel(Model):
    """Anything that `mlflow.pyfunc.load_model` loads.

    Args:
        batchable: rows are independent.
        library: a known library computes, not the user's own code.
    """

    platform = "mlflow"

    def __init__(self, pyfunc: Any, signature: Signature, batchable: bool, library: bool) -> None:
        layout, form = signature.layout, signature.form
        self._pyfunc = pyfunc
        self._layout = layout
        self._form = form
        self._params = {param.name: param for param in _params(pyfunc)}
        self._errors = (ValueError, TypeError) if library else (ValueError,)
        # What was not declared could not be checked before: what goes wrong then is told to the caller.
        self._blames_data = not signature.declared
        self._answered = signature.example is not None
        self.inputs = layout.inputs
        self.named_inputs = layout.named_inputs
        self.has_batch_axis = signature.has_batch_axis
        self.batchable = batchable and self.has_batch_axis
        announced = () if form is None else tuple(each.metadata for each in form.outputs)
        # Without a batch axis no answer need look like the one before: it is to be had whole as well.
        self._whole = not self.has_batch_axis and all(each.name != DOCUMENT for each in announced)
        whole_too = (_DOCUMENT,) if self._whole else ()
        self.outputs = announced or whole_too
        self.optional_outputs = whole_too if announced else ()
        self.scoring = MlflowScoring(layout, None if self._whole else form)
        self.example = signature.example
        self.parameter_names = tuple(self._params)
        self.parameters = _facts(pyfunc, self._params)
        self.holds = (pyfunc,)

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        """The answer of the pyfunc model, whole or in tensors.

        Raises:
            BadRequest: MLflow refuses the data or a parameter.
            InvalidInput: the model refuses a value.
            TypeError: it returned None, or not what it announces.
        """
        data = self._data(inputs)
        params = {name: self._param(name, value) for name, value in parameters.items()}
        answer = self._ask(data, params or None)
        self._answered = True
        found: dict[str, Array] = {}
        if self._whole and DOCUMENT in outputs:
            found |= whole(answer)
        if self._form is not None and found.keys() < set(outputs):
            found |= self._tensors(self._form, answer)
        return found

    def _tensors(self, form: Form, answer: Any) -> dict[str, Array]:
        try:
            return form.arrays(answer)
        except TypeError as error:
            if self._blames_data and answer is not None:
                raise BadRequest(f"{error}; the output '{DOCUMENT}' takes any answer") from error
            raise

    def _data(self, inputs: Arrays) -> Any:
        try:
            return self._layout.data(inputs)
        except MlflowException as error:
            raise BadRequest(told(error)) from error

    def _ask(self, data: Any, params: dict[str, Any] | None) -> Any:
        try:
            return self._pyfunc.predict(data, params=params)
        except MlflowException as error:
            if error.error_code in _CALLERS_FAULT:
                raise BadRequest(told(error)) from error
            raise
        except self._errors as error:
            raise InvalidInput(first_line(error)) from error
        except Exception as error:
            if self._blames_data or not self._answered:
                raise InvalidInput(f"{type(error).__name__}: {first_line(error)}") from error
            raise

    def _param(self, name: str, value: Any) -> Any:
        """Lists and objects come as JSON text."""
        spec = self._params[name]
        if not isinstance(value, str) or (spec.shape is None and isinstance(spec.dtype, DataType)):
            return value
        try:
            return json.loads(value)
        except ValueError:
            raise BadRequest(f"parameter '{name}' must be JSON text") from None


def _params(pyfunc: Any) -> Sequence[Any]:
    schema = pyfunc.metadata.get_params_schema()
    return [] if schema is None else list(schema.params)


def _batchable(config: ModelConfig, flavor: str) -> bool:
    wanted = config.parameters.get("batchable", flavor in ROW_BY_ROW)
    if not isinstance(wanted, bool):
        raise ValueError(f"parameter 'batchable' must be true or false, got {wanted!r}")
    return wanted


def _facts(pyfunc: Any, params: Mapping[str, Any]) -> Mapping[str, object]:
    """What the REST metadata shows of the model."""
    metadata = pyfunc.metadata
    facts: dict[str, object] = {"flavor": str(pyfunc.loader_module).removeprefix("mlflow.")}
    if params:
        facts["params"] = [json.loads(json.dumps(spec.to_dict(), default=str)) for spec in params.values()]
    if metadata.run_id:
        facts["run_id"] = metadata.run_id
    facts["mlflow_version"] = mlflow.__version__
    if metadata.mlflow_version and metadata.mlflow_version != mlflow.__version__:
        facts["mlflow_version_saved"] = metadata.mlflow_version
    return facts
