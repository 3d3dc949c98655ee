"""SimpleImputer in float64: ONNX's own Imputer knows float32 alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto
from skl2onnx.common.data_types import DoubleTensorType

from oipserver_sklearn.compiled_nodes import Graph


def convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    """NaN replaced by the fitted statistics.

    Raises:
        NotImplementedError: of imputers of text, of those that mark or drop columns or look for other values.
    """
    imputer = operator.raw_operator
    numbers = imputer.statistics_.dtype.kind == "f" and not np.isnan(imputer.statistics_).any()
    if not numbers or imputer.indicator_ is not None or not np.isnan(imputer.missing_values):
        raise NotImplementedError("an imputer of other than numbers for NaN")
    graph = Graph(scope, container)
    rows = [graph.add("Cast", one.full_name, to=TensorProto.DOUBLE) for one in operator.inputs]
    joined = graph.add("Concat", *rows, axis=1) if len(rows) > 1 else rows[0]
    statistics = graph.constants(*imputer.statistics_.tolist())
    graph.add("Where", graph.add("IsNaN", joined), statistics, joined, output=operator.outputs[0].full_name)


def imputer_shape(operator: Any) -> None:
    """As many columns as come in."""
    rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].set_type(DoubleTensorType([rows, operator.raw_operator.n_features_in_]))
