"""ONNX models in oipserver: `oipserver --runtime onnx --model-uri model.onnx`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

import oipserver
from oipserver import (
    BYTES,
    Array,
    Arrays,
    InvalidInput,
    Model,
    ModelConfig,
    Parameters,
    Runtime,
    TensorMetadata,
)

DATATYPES = {
    "tensor(bool)": oipserver.BOOL,
    "tensor(uint8)": oipserver.UINT8,
    "tensor(uint16)": oipserver.UINT16,
    "tensor(uint32)": oipserver.UINT32,
    "tensor(uint64)": oipserver.UINT64,
    "tensor(int8)": oipserver.INT8,
    "tensor(int16)": oipserver.INT16,
    "tensor(int32)": oipserver.INT32,
    "tensor(int64)": oipserver.INT64,
    "tensor(float16)": oipserver.FP16,
    "tensor(float)": oipserver.FP32,
    "tensor(double)": oipserver.FP64,
    "tensor(string)": oipserver.BYTES,
}


class OnnxRuntime(Runtime):
    """Serves what onnxruntime can load.

    Parameters of the model's configuration:
        threads: for one call; 1 when not given.
        batchable: false for a graph whose rows are not independent.
    """

    def load(self, path: Path, config: ModelConfig) -> Model:
        """The graph in an `.onnx` file, or in the `model.onnx` of a directory."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _threads(config)
        file = path / "model.onnx" if path.is_dir() else path
        session = onnxruntime.InferenceSession(file, options, providers=onnxruntime.get_available_providers())
        return OnnxModel(session, bool(config.parameters.get("batchable", True)))


class OnnxModel(Model):
    """A session; a first axis of any size in every tensor is taken for the batch."""

    platform = "onnx"

    def __init__(self, session: onnxruntime.InferenceSession, batchable: bool) -> None:
        self.inputs = tuple(map(_announce, session.get_inputs()))
        self.outputs = tuple(map(_announce, session.get_outputs()))
        self.has_batch_axis = all(tensor.shape[:1] == (-1,) for tensor in (*self.inputs, *self.outputs))
        self.batchable = batchable and self.has_batch_axis
        self.parameters = {"onnxruntime_version": onnxruntime.__version__}
        self._session = session
        self._texts = {tensor.name for tensor in self.inputs if tensor.datatype is BYTES}

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        """The outputs asked for, and no others are computed.

        Raises:
            InvalidInput: text that is not UTF-8, or a shape that the graph does not take.
        """
        given = {name: _decoded(array) if name in self._texts else array for name, array in inputs.items()}
        try:
            answers = self._session.run(list(outputs), given)
        except InvalidArgument as error:
            raise InvalidInput(str(error)) from error
        return {name: _encoded(answer) for name, answer in zip(outputs, answers, strict=True)}


def _threads(config: ModelConfig) -> int:
    threads = config.parameters.get("threads", 1)
    if type(threads) is not int or threads < 1:
        raise ValueError(f"parameter 'threads' must be a whole number from 1, got {threads!r}")
    return threads


def _announce(tensor: onnxruntime.NodeArg) -> TensorMetadata:
    """A size that has a name instead of a number may be any."""
    if tensor.type not in DATATYPES:
        raise ValueError(f"tensor '{tensor.name}' is a {tensor.type}, which the protocol does not carry")
    shape = tuple(size if isinstance(size, int) else -1 for size in tensor.shape)
    return TensorMetadata(tensor.name, DATATYPES[tensor.type], shape)


def _decoded(array: Array) -> Array:
    try:
        return np.array([text.decode() for text in array.flat], np.object_).reshape(array.shape)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"a text is not UTF-8: {error}") from error


def _encoded(array: Array) -> Array:
    if array.dtype != np.object_:
        return array
    return np.array([text.encode() for text in array.flat], np.object_).reshape(array.shape)
