"""Models of all kinds of tensors: with and without rows, several inputs, limits on values, FP16, a stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from oipserver_python import Input, Output, function

ROWS = [Output("y", "FP64", [-1, 2])]


@function(inputs=[Input("x", "FP64", [-1, 2])], outputs=ROWS, batchable=True)
def double(x: Any) -> Any:
    return x * 2


@function(
    inputs=[Input("x", "FP64", [-1, 2], minimum=0.5, maximum=10)],
    outputs=ROWS,
    batchable=True,
)
def limited(x: Any) -> Any:
    return x * 2


@function(
    inputs=[
        Input("text", "BYTES", [-1, 1], min_length=2, max_length=8),
        Input("color", "BYTES", [-1, 1], categories=["red", "green"]),
        Input("count", "INT32", [-1, 1], minimum=1, maximum=3),
        Input("loud", "BOOL", [-1, 1], optional=True),
    ],
    outputs=[Output("said", "BYTES", [-1, 1])],
    batchable=True,
)
def say(text: Any, color: Any, count: Any, loud: Any = None) -> Any:
    return [[word * int(times)] for (word,), (times,) in zip(text, count, strict=True)]


@function(
    inputs=[Input("image", "FP32", [2, 3, 2])],
    outputs=[Output("sum", "FP32", [1]), Output("bright", "BOOL", [1])],
)
def total(image: Any) -> Any:
    return [image.sum()], [bool(image.sum() > 1)]


@function(inputs=[Input("h", "FP16", [-1, 2])], outputs=[Output("f", "FP32", [-1, 2])], batchable=True)
def half(h: Any) -> Any:
    return h.astype("float32")


@function(
    inputs=[Input("n", "INT64", [1], minimum=0, maximum=5)],
    outputs=[Output("i", "INT64", [1])],
    example={"n": [2]},
)
def count(n: Any) -> Iterator[int]:
    yield from range(int(n[0]))
