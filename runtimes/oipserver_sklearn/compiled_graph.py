"""From a fitted estimator to a session of ONNX Runtime.

This module and `compiled_trees` need onnx, skl2onnx and onnxruntime: they are imported where a model is to be
compiled, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime
import skl2onnx
from skl2onnx.common.data_types import BooleanTensorType, DoubleTensorType, StringTensorType
from sklearn.base import is_classifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

from oipserver import BOOL, BYTES, Datatype
from oipserver_sklearn.caught import caught_warnings
from oipserver_sklearn.compiled_imputer import convert_imputer, imputer_shape
from oipserver_sklearn.compiled_trees import CONVERTERS, DOMAIN, SHAPES, VERSION

ENGINE = f"onnxruntime {onnxruntime.__version__}, skl2onnx {skl2onnx.__version__}"

_ERRORS_ONLY = 3


def session(
    estimator: Any, inputs: Mapping[str, tuple[Datatype, int]], raw_scores: bool, threads: int
) -> onnxruntime.InferenceSession:
    """`estimator` compiled.  The first output is of predict or transform, the second has the scores.

    Args:
        inputs: datatype and columns of each tensor, by name.
        raw_scores: the scores are those of decision_function, not of predict_proba.
        threads: that one call may use.

    Raises:
        Exception: of any kind, from skl2onnx or from ONNX Runtime: it cannot be compiled.
    """
    with caught_warnings():
        graph = skl2onnx.convert_sklearn(
            estimator,
            initial_types=[(name, _type(*kind)) for name, kind in inputs.items()],
            custom_conversion_functions={**CONVERTERS, SimpleImputer: convert_imputer},
            custom_shape_calculators={**SHAPES, SimpleImputer: imputer_shape},
            options=_options(estimator, raw_scores),
        )
    for opset in graph.opset_import:
        if opset.domain == DOMAIN and any(node.op_type == "TreeEnsemble" for node in graph.graph.node):
            opset.version = VERSION
    return onnxruntime.InferenceSession(
        graph.SerializeToString(), _session_options(threads), providers=["CPUExecutionProvider"]
    )


def _type(datatype: Datatype, columns: int) -> Any:
    kinds = {BYTES: StringTensorType, BOOL: BooleanTensorType}
    return kinds.get(datatype, DoubleTensorType)([None, columns])


def _options(estimator: Any, raw_scores: bool) -> dict[int, dict[str, bool]] | None:
    """For the classifier at the end: arrays of scores, not a dictionary per row."""
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    if not is_classifier(last):
        return None
    options = {"zipmap": False} if not isinstance(last, LinearSVC) else {}
    return {id(last): {**options, "raw_scores": True} if raw_scores else options}


def _session_options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A thread that spins while it waits takes the core from the event loop.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _ERRORS_ONLY
    return options
