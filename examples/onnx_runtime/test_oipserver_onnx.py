"""The runtime keeps oipserver's contract, with a graph of each kind that it treats differently."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from oipserver_onnx import OnnxRuntime
from onnx import TensorProto, helper

from oipserver import InstanceGroup, ModelConfig
from oipserver.testing import check_runtime


def save(path: Path, operator: str, kind: int, shape: list[object], **attributes: object) -> Path:
    """A graph of one node from `x` to `y`, which has the same datatype and shape."""
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"], **attributes)],
        "one",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path / "model.onnx")
    return path / "model.onnx"


@pytest.mark.parametrize(
    "kind", [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.FLOAT16]
)
def test_numbers(tmp_path: Path, kind: int) -> None:
    report = check_runtime("onnx", save(tmp_path, "Abs", kind, ["n", 4]))
    assert report.rows_compared > 1


def test_text(tmp_path: Path) -> None:
    rows = np.array([[b"one"], ["zwölf".encode()]], np.object_)
    report = check_runtime(
        OnnxRuntime, save(tmp_path, "Identity", TensorProto.STRING, ["n", 1]), request={"x": rows}
    )
    assert report.inputs == ("x BYTES [-1, 1]",)


def test_a_folder_on_several_threads(tmp_path: Path) -> None:
    save(tmp_path, "Sigmoid", TensorProto.FLOAT, ["n", 4])
    config = ModelConfig("m", "onnx", parameters={"threads": 2}, instance_group=InstanceGroup(count=2))
    check_runtime(OnnxRuntime, tmp_path, config)


def test_no_batch(tmp_path: Path) -> None:
    report = check_runtime(OnnxRuntime, save(tmp_path, "Abs", TensorProto.FLOAT, [3, 3]))
    assert (report.outputs, report.rows_compared) == (("y FP32 [3, 3]",), 0)


def test_rows_that_depend_on_each_other(tmp_path: Path) -> None:
    path = save(tmp_path, "Softmax", TensorProto.FLOAT, ["n", 2], axis=0)
    with pytest.raises(AssertionError, match="batchable must be False"):
        check_runtime(OnnxRuntime, path)
    check_runtime(OnnxRuntime, path, ModelConfig("m", "onnx", parameters={"batchable": False}))


def test_a_wrong_parameter(tmp_path: Path) -> None:
    path = save(tmp_path, "Abs", TensorProto.FLOAT, ["n", 2])
    with pytest.raises(AssertionError, match="parameter 'threads' must be a whole number from 1, got 0"):
        check_runtime(OnnxRuntime, path, ModelConfig("m", "onnx", parameters={"threads": 0}))
