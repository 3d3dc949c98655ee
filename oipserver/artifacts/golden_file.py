"""The file of golden rows beside a model: read before the model serves, written when it was trained.

A list of rows, or `{"rtol": ..., "atol": ..., "rows": [...]}`.  A row has `inputs` and `outputs` with the
tensors of the protocol's JSON form, or the `request` and `response` documents themselves; both may have
`parameters`, `rtol` and `atol`.  Several rows may stand in one, where the first axis is the batch.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oipserver.core.codec import decode_list
from oipserver.core.contract import Contract
from oipserver.core.datatypes import BYTES, datatype_of, parse_datatype
from oipserver.core.errors import Fault, printable
from oipserver.core.golden import GoldenRow
from oipserver.core.messages import Array, Arrays, InferenceRequest, Tensor
from oipserver.core.model import Model
from oipserver.core.model_config import ModelConfig
from oipserver.core.user_code import CodeUri

NAME = "golden.json"
MAX_BYTES = 256 * 2**20
_BASE64 = {"content_type": "base64"}


def read_golden(path: Path, config: ModelConfig) -> Sequence[GoldenRow]:
    """The golden rows of the model at `path`; none when it has no such file.

    The parameter `golden` names the file, relative to the model's folder; `false` is none.  Without it,
    the file is `golden.json` in the model's directory; beside a model file, `<its stem>.golden.json` or
    `golden.json`.

    Raises:
        FileNotFoundError: the file that the parameter names is not there.
        ValueError: it holds something else; the text says where.
    """
    file = _file(path, config)
    if file is None:
        return ()
    try:
        return _rows(json.loads(_text(file)))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{file.name}': {error}") from error


def write_golden(model: Model, inputs: Arrays, file: Path) -> None:
    """Write what `model` answers to `inputs` (declared names, all rows at once) as golden rows.

    Raises:
        Fault: the inputs are not the model's, or it fails on them.
    """
    contract = Contract(model, "model", batched=model.has_batch_axis)
    arrays = {name: _as_tensor_data(array) for name, array in inputs.items()}
    tensors = [Tensor(name, datatype_of(array.dtype), array) for name, array in arrays.items()]
    work = contract.check(InferenceRequest("model", tensors, "", 0.0))
    answer = contract.check_answer(
        model.predict(work.inputs, work.outputs, work.parameters), work.outputs, work.rows
    )
    declared = {tensor.name: tensor for tensor in (*model.inputs, *model.named_inputs)}
    row = {
        "inputs": [
            _document(Tensor(name, declared[name].datatype, work.inputs[name])) for name in work.inputs
        ],
        "outputs": [_document(Tensor(name, contract.output(name).datatype, answer[name])) for name in answer],
    }
    file.write_text(json.dumps([row]) + "\n")


def _file(path: Path, config: ModelConfig) -> Path | None:
    given = config.parameters.get("golden")
    if given is False:
        return None
    folder = path if path.is_dir() else path.parent
    if given is not None:
        if not isinstance(given, str) or not given:
            raise ValueError(f"parameter 'golden' must be the path of a file, or false, got {given!r}")
        file = folder / given
        if not file.is_file():
            raise FileNotFoundError(f"parameter 'golden': there is no file '{file}'")
        return file
    if CodeUri.parse(config.model_uri).module:  # it has no folder
        return None
    names = (NAME,) if path.is_dir() else (f"{path.stem}.{NAME}", NAME)
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _text(file: Path) -> str:
    with file.open("rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is longer than {MAX_BYTES} bytes")
    return data.decode()


def _rows(document: object) -> Sequence[GoldenRow]:
    outer = document if isinstance(document, dict) else {"rows": document}
    rows = outer.get("rows")
    if not isinstance(rows, list) or not rows:
        raise ValueError("expected a list of rows, or an object with 'rows'")
    return [_row(row, outer, f"rows[{number}]") for number, row in enumerate(rows)]


def _row(row: object, outer: Mapping[str, Any], place: str) -> GoldenRow:
    if not isinstance(row, dict):
        raise ValueError(f"{place}: expected an object")
    request, response = row.get("request", row), row.get("response", row)
    if not isinstance(request, dict) or not isinstance(response, dict):
        raise ValueError(f"{place}: 'request' and 'response' must be objects")
    parameters = request.get("parameters", {})
    if not isinstance(parameters, dict):
        raise ValueError(f"{place}.parameters: expected an object")
    return GoldenRow(
        inputs=_tensors(request, "inputs", place),
        outputs=_tensors(response, "outputs", place),
        parameters=parameters,
        rtol=_tolerance("rtol", row, outer, place),
        atol=_tolerance("atol", row, outer, place),
    )


def _tolerance(key: str, row: Mapping[str, Any], outer: Mapping[str, Any], place: str) -> float | None:
    value = row.get(key, outer.get(key))
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value < float("inf"):
        raise ValueError(f"{place}: '{key}' must be a number from 0")
    return float(value)


def _tensors(document: Mapping[str, Any], part: str, place: str) -> Sequence[Tensor]:
    tensors = document.get(part)
    if not isinstance(tensors, list) or not tensors:
        raise ValueError(f"{place}: '{part}' must be a list of tensors")
    return [_tensor(tensor, f"{place}.{part}[{number}]") for number, tensor in enumerate(tensors)]


def _tensor(document: object, place: str) -> Tensor:
    if not isinstance(document, dict) or not isinstance(document.get("name"), str):
        raise ValueError(f"{place}: expected a tensor with 'name', 'datatype', 'shape' and 'data'")
    name, shape, data = document["name"], document.get("shape"), document.get("data")
    if not isinstance(shape, list) or not isinstance(data, list):
        raise ValueError(f"{place}: 'shape' and 'data' must be lists")
    try:
        datatype = parse_datatype(document.get("datatype"), name)
        array = decode_list(data, datatype, shape, name)
    except Fault as fault:
        raise ValueError(f"{place}: {fault.message}") from fault
    if datatype is BYTES and document.get("parameters") == _BASE64:
        array = _from_base64(array, place)
    return Tensor(name, datatype, array)


def _from_base64(array: Array, place: str) -> Array:
    try:
        return _objects([b64decode(element, validate=True) for element in array.flat], array.shape)
    except binascii.Error as error:
        raise ValueError(f"{place}: {printable(str(error))}") from error


def _document(tensor: Tensor) -> dict[str, Any]:
    document = {"name": tensor.name, "datatype": str(tensor.datatype), "shape": list(tensor.data.shape)}
    if tensor.datatype is not BYTES:
        return document | {"data": tensor.data.ravel().tolist()}
    try:
        return document | {"data": [element.decode() for element in tensor.data.flat]}
    except UnicodeDecodeError:
        encoded = [b64encode(element).decode() for element in tensor.data.flat]
        return document | {"data": encoded, "parameters": _BASE64}


def _as_tensor_data(values: object) -> Array:
    """Text as an object array of bytes, anything else as it is."""
    array = np.asarray(values)
    if array.dtype.kind not in "OSU":
        return array
    elements = [
        element.encode() if isinstance(element, str) else element for element in array.ravel().tolist()
    ]
    return _objects(elements, array.shape)


def _objects(elements: Sequence[object], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array.reshape(shape)
