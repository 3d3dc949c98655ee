"""ONNX nodes, as our own converters write them into skl2onnx's graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from oipserver import Array


class Graph:
    """What skl2onnx hands to a converter, with a few words for what our converters add.

    Values are known by their names.
    """

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope, self._container = scope, container

    def add(self, kind: str, *inputs: str, output: str = "", domain: str = "", **attributes: Any) -> str:
        """The value that a new node makes of `inputs`; it is called `output` if given."""
        output = output or self._scope.get_unique_variable_name(kind.lower())
        # skl2onnx knows ai.onnx.ml up to version 3: `session` corrects that in the finished graph.
        version = {"op_version": 3} if domain else {}
        name = self._scope.get_unique_operator_name(kind)
        self._container.add_node(
            kind, list(inputs), output, op_domain=domain, name=name, **version, **attributes
        )
        return output

    def constants(self, *values: float) -> str:
        """A float64 array of one dimension."""
        name: str = self._scope.get_unique_variable_name("constants")
        self._container.add_initializer(name, TensorProto.DOUBLE, [len(values)], list(values))
        return name

    def axis(self, number: int) -> str:
        """The number of an axis."""
        name: str = self._scope.get_unique_variable_name("axis")
        self._container.add_initializer(name, TensorProto.INT64, [1], [number])
        return name

    def labels(self, classes: Array) -> str:
        """`classes_` as int64 or as text.

        Raises:
            NotImplementedError: they are neither.
        """
        name: str = self._scope.get_unique_variable_name("classes")
        if classes.dtype.kind in "iubf" and (classes == classes.astype(np.int64)).all():
            numbers = classes.astype(np.int64).tolist()
            self._container.add_initializer(name, TensorProto.INT64, [len(classes)], numbers)
        elif all(isinstance(label, str) for label in classes.tolist()):
            texts = [label.encode() for label in classes.tolist()]
            self._container.add_initializer(name, TensorProto.STRING, [len(classes)], texts)
        else:
            raise NotImplementedError("class labels that are neither whole numbers nor text")
        return name
