"""The configuration of a model in Triton's words, on both fronts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.protocol.fronts import Front


def tensor(name: str, data_type: str, *dims: int) -> Mapping[str, Any]:
    return {"name": name, "data_type": data_type, "dims": list(dims)}


def group(name: str) -> list[Mapping[str, Any]]:
    return [{"name": name, "kind": "KIND_CPU", "count": 1}]


CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "species": {
        "platform": "sklearn",
        "backend": "sklearn",
        "max_batch_size": 1024,
        "input": [tensor("input-0", "TYPE_FP64", 4)],
        "output": [
            tensor("predict", "TYPE_STRING", 1),
            tensor("predict_proba", "TYPE_FP64", 3),
            tensor("decision_function", "TYPE_FP64", 3),
        ],
        "dynamic_batching": {},
    },
    "counted": {
        "platform": "python",
        "backend": "python",
        "max_batch_size": 64,
        "input": [tensor("x", "TYPE_FP64", 2)],
        "output": [tensor("y", "TYPE_FP64", 2)],
        "dynamic_batching": {},
    },
    "repeat": {
        "platform": "python",
        "backend": "python",
        "max_batch_size": 1024,
        "input": [tensor("word", "TYPE_STRING"), tensor("times", "TYPE_INT64")],
        "output": [tensor("text", "TYPE_STRING"), tensor("long", "TYPE_BOOL")],
        "dynamic_batching": {},
    },
    "squares": {
        "platform": "python",
        "backend": "python",
        "max_batch_size": 0,
        "input": [tensor("n", "TYPE_INT64", 1)],
        "output": [tensor("squares", "TYPE_FP32", -1)],
    },
}


def said(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without what protobuf says of fields that are not set."""
    tensors: dict[str, Any] = {
        key: [{name: value for name, value in one.items() if value is not False} for one in config[key]]
        for key in ("input", "output")
    }
    batching = config.get("dynamic_batching")
    if batching is not None:
        tensors["dynamic_batching"] = {name: value for name, value in batching.items() if value}
    return {**config, **tensors}


@pytest.mark.parametrize("model", CONFIGS)
def test_the_configuration(front: Front, model: str) -> None:
    expected = {"name": model, "instance_group": group(model), **CONFIGS[model]}
    assert said(front.config(model)) == expected
