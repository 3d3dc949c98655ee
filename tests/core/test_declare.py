"""Declarations of tensors: what they make, and what is said of those that make no sense."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from oipserver.core.constraint import Constraint
from oipserver.core.contract import Contract
from oipserver.core.datatypes import BOOL, BYTES, FP64, INT64
from oipserver.core.declare import Input, Output, declared
from oipserver.core.messages import TensorMetadata
from tests.support import Doubler


def test_an_input_says_everything_that_metadata_shows() -> None:
    age = Input(
        "age", "FP64", [-1, 1], minimum=0, maximum=130, optional=True, allow_nan=False, description="in years"
    )
    assert age == TensorMetadata(
        "age",
        FP64,
        (-1, 1),
        allow_nan=False,
        optional=True,
        constraint=Constraint(0, 130),
        parameters={"description": "in years", "minimum": 0, "maximum": 130, "optional": True},
    )
    assert Output("y", INT64, [2]) == TensorMetadata("y", INT64, (2,))


def test_a_configuration_says_the_same() -> None:
    words = {"name": "t", "datatype": "BYTES", "shape": [-1], "min_length": 1, "categories": ["a", "b"]}
    assert declared([words], "here", Input) == (
        Input("t", "BYTES", [-1], min_length=1, categories=["a", "b"]),
    )
    made = Output("y", "BOOL", [])
    assert declared([made], "here", Output) == (made,)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "input: name must be a text that is not empty, got "),
    ({"name": 3}, "input: name must be a text that is not empty, got 3"),
    ({"datatype": "fp64"}, "input 'x': datatype must be one of BOOL, UINT8"),
    ({"datatype": None}, "got 'None'"),
    ({"shape": 3}, "input 'x': shape must be a list of at most 32 sizes, got 3"),
    ({"shape": [-1, "3"]}, "input 'x': shape holds 3, expected sizes from 0, or -1 for any"),
    ({"shape": [-2]}, "input 'x': shape holds -2"),
    ({"shape": [True]}, "input 'x': shape holds True"),
    ({"shape": [1] * 33}, "at most 32 sizes"),
    ({"minimum": 2, "maximum": 1}, "input 'x': minimum 2 is above maximum 1"),
    ({"minimum": "0"}, "input 'x': minimum must be a number, got 0"),
    ({"minimum": True}, "input 'x': minimum must be a number, got True"),
    ({"maximum": math.nan}, "input 'x': maximum must be a number, got nan"),
    ({"min_length": 1}, "input 'x': min_length is a limit of BYTES tensors, the datatype is FP64"),
    ({"datatype": "BYTES", "minimum": 1}, "input 'x': minimum is a limit of numbers, the datatype is BYTES"),
    ({"datatype": "BOOL", "minimum": 1}, "the datatype is BOOL"),
    ({"datatype": "BYTES", "max_length": -1}, "max_length must be a count of bytes, got -1"),
    ({"datatype": "BYTES", "min_length": 3, "max_length": 2}, "min_length 3 is above max_length 2"),
    ({"categories": "abc"}, "tensor 'x': categories must be a list, got abc"),
    ({"categories": ["a"]}, "input 'x': categories of FP64 must be numbers, got a"),
    ({"datatype": "INT64", "categories": [0.5]}, "categories of INT64 must be integers, got 0.5"),
    ({"datatype": "BYTES", "categories": [1]}, "categories of BYTES must be texts, got 1"),
    ({"datatype": "BOOL", "categories": [1]}, "categories of BOOL must be true or false, got 1"),
    ({"minimum": math.inf}, "input 'x': minimum inf is out of range for FP64"),
    ({"maximum": 10**400}, "input 'x': maximum must be a number up to 1.79"),
    ({"datatype": "INT8", "minimum": 300}, "input 'x': minimum 300 is out of range for INT8"),
    ({"datatype": "UINT8", "maximum": -1}, "input 'x': maximum -1 is out of range for UINT8"),
    ({"datatype": "UINT8", "categories": [1, -1]}, "input 'x': there is no -1 in UINT8"),
    ({"datatype": "FP16", "categories": [70_000]}, "input 'x': there is no 70000 in FP16"),
    ({"categories": [math.nan]}, "input 'x': there is no nan in FP64"),
    ({"datatype": "BYTES", "categories": ["\ud800"]}, "input 'x': there is no ? in BYTES"),
    ({"optional": "no"}, "input 'x': optional must be true or false, got no"),
    ({"allow_nan": 0}, "input 'x': allow_nan must be true or false, got 0"),
    ({"description": 1}, "input 'x': description must be a text, got 1"),
]


@pytest.mark.parametrize(("words", "complaint"), WRONG)
def test_a_wrong_declaration_is_told_with_the_tensor_and_the_word(words: Any, complaint: str) -> None:
    words = {"name": "x", "datatype": "FP64", "shape": [-1], **words}
    with pytest.raises(ValueError, match=r"\w") as in_code:
        Input(**words)
    assert complaint in str(in_code.value)
    with pytest.raises(ValueError, match=r"\w") as in_file:
        declared([words], "parameters.inputs", Input)
    assert str(in_file.value).startswith("parameters.inputs[0]: ")
    assert complaint in str(in_file.value)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"name": "x"}, "here: expected a list of tensors, got a dict"),
        ([3], "here[0]: expected a table with name, datatype and shape, got 3"),
        ([{"name": "x", "shape": [1]}], "here[0]: misses datatype"),
        ([{"nane": "x"}], "here[0]: unknown word 'nane', did you mean 'name'?"),
        ([{"optional": True}], "here[0]: unknown word 'optional'"),
        ([{"name": "x", "datatype": "FP64", "shape": [1]}] * 2, "here: 'x' is declared twice"),
    ],
)
def test_a_list_that_is_none_is_told_with_its_place(given: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        declared(given, "here", Output)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "tensor",
    [
        Input("x", "FP64", [-1], minimum=0.5),
        Input("x", "INT64", [-1], minimum=3),
        Input("x", "FP64", [-1], maximum=-2.5),
        Input("x", "FP64", [-1], minimum=0.25, maximum=0.5),
        Input("x", "FP64", [-1], minimum=-math.inf, maximum=math.inf),
        Input("x", "FP16", [-1], maximum=70_000),
        Input("x", "INT64", [-1], categories=[7, 8]),
        Input("x", "BOOL", [-1], categories=[True]),
        Input("x", "BYTES", [-1], categories=["a"]),
        Input("x", "BYTES", [-1], min_length=3),
        Input("x", "BYTES", [-1, 2]),
        Input("x", "UINT8", [-1]),
    ],
    ids=lambda tensor: str(tensor.parameters),
)
def test_the_example_of_a_declaration_keeps_it(tensor: TensorMetadata) -> None:
    model = Doubler()
    model.inputs = (tensor,)
    example = Contract(model, "m", batched=True).example(3, ("y",)).inputs["x"]
    assert example.dtype == tensor.datatype.dtype
    assert len(example) == 3
    assert (tensor.constraint or Constraint()).violation(example) is None


def test_plain_values() -> None:
    assert Constraint().plainest(text=False) == 0
    assert Constraint().plainest(text=True) == b""
    assert np.full(2, Constraint(categories=(True,)).plainest(text=False), BOOL.dtype).tolist() == [
        True,
        True,
    ]
    assert BYTES.dtype == np.object_
