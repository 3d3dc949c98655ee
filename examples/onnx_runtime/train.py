"""Fits a small classifier of three kinds of points, and writes it as a graph of three nodes: points.onnx."""

import numpy as np
import onnx
from onnx import TensorProto, helper

random = np.random.default_rng(0)
centres = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
labels = random.integers(0, 3, 300)
points = centres[labels] + random.normal(0.0, 0.5, (300, 2))

# Least squares on one column per label; the highest column is the answer.
ones = np.ones((300, 1))
weights, *_ = np.linalg.lstsq(np.hstack([points, ones]), np.eye(3)[labels], rcond=None)

graph = helper.make_graph(
    [
        helper.make_node("Gemm", ["point", "weights", "bias"], ["score"]),
        helper.make_node("ArgMax", ["score"], ["label"], axis=1, keepdims=1),
    ],
    "points",
    [helper.make_tensor_value_info("point", TensorProto.FLOAT, ["rows", 2])],
    [
        helper.make_tensor_value_info("label", TensorProto.INT64, ["rows", 1]),
        helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows", 3]),
    ],
    [
        onnx.numpy_helper.from_array(weights[:2].astype(np.float32), "weights"),
        onnx.numpy_helper.from_array(weights[2].astype(np.float32), "bias"),
    ],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
onnx.checker.check_model(model)
onnx.save(model, "points.onnx")
found = (np.hstack([points, ones]) @ weights).argmax(axis=1)
print(f"points.onnx: {(found == labels).mean():.0%} of {len(labels)} points are right")
