"""Classification: the highest values with index and label, on both fronts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from oipserver.core.classification import MAX_CLASSES, Classification
from oipserver.core.datatypes import BOOL, BYTES, FP16, FP32, FP64, INT64, UINT64, Datatype
from oipserver.core.errors import BadRequest
from oipserver.core.messages import Tensor as CoreTensor
from oipserver.core.messages import TensorMetadata
from tests.protocol.fronts import Front, Output, Tensor, raw

FLOWERS = [[5.1, 3.5, 1.4, 0.2], [6.2, 2.9, 4.3, 1.3], [6.9, 3.1, 5.4, 2.1]]
NAMES = ["setosa", "versicolor", "virginica"]


def flowers(count: int = 3) -> Tensor:
    return Tensor("input-0", "FP64", [count, 4], [*chain(*FLOWERS[:count])])


@pytest.fixture(scope="session")
def probabilities(models: Path) -> Any:
    return joblib.load(models.parent / "species.joblib").predict_proba(FLOWERS)


def check(texts: list[Any] | None, row: Any) -> None:
    """The texts of one row: digits of the last place depend on how many rows are computed together."""
    order = sorted(range(len(row)), key=lambda index: -row[index])
    split = [text.split(":", 1) for text in texts or ()]
    assert split
    assert [label for _, label in split] == [f"{index}:{NAMES[index]}" for index in order[: len(split)]]
    assert [float(value) for value, _ in split] == pytest.approx(
        [row[index] for index in order[: len(split)]]
    )


@pytest.mark.parametrize("more", [{}, {"binary_data": True}, {"binary_data": False}])
@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_the_highest_values_with_the_labels_of_the_model(
    front: Front, probabilities: Any, count: int, more: Mapping[str, Any]
) -> None:
    wanted = {"predict_proba": {"classification": count, **more}, "predict": {}}
    answer = front.infer("species", [flowers()], wanted)
    assert list(answer) == ["predict_proba", "predict"]
    best = answer["predict_proba"]
    assert (best.datatype, best.shape) == ("BYTES", [3, min(count, 3)])
    width = min(count, 3)
    assert len(best.data or ()) == 3 * width
    for number, row in enumerate(probabilities):
        check((best.data or [])[number * width : (number + 1) * width], row)
    assert answer["predict"].data == NAMES


def test_requests_of_one_kind_have_their_own_counts(front: Front, probabilities: Any) -> None:
    """The same document but for the count, again and again, as the server remembers documents."""
    for count in (1, 2, 1, 3, 2):
        answer = front.infer("species", [flowers(1)], {"predict_proba": {"classification": count}})
        assert answer["predict_proba"].shape == [1, count]
        check(answer["predict_proba"].data, probabilities[0])


def test_without_labels_there_is_value_and_index(front: Front) -> None:
    answer = front.infer("double", [Tensor("x", "FP64", [2, 2], [1, 2, 4, 3])], {"y": {"classification": 2}})
    assert answer["y"] == Output(
        "BYTES", [2, 2], ["4.0:1", "2.0:0", "8.0:0", "6.0:1"], answer["y"].parameters
    )


def test_without_a_batch_axis_there_is_one_list(front: Front) -> None:
    answer = front.infer("squares", [Tensor("n", "INT64", [1], [5])], {"squares": {"classification": 3}})
    assert (answer["squares"].shape, answer["squares"].data) == ([3], ["16.0:4", "9.0:3", "4.0:2"])


def test_in_a_stream(fronts: dict[str, Any]) -> None:
    """Two requests over one call; the second one is of an output that has no order."""
    word = [Tensor("word", "BYTES", [1], ["ab"]), Tensor("times", "INT64", [1], [2])]
    good = fronts["grpc"].request(
        "double", [Tensor("x", "FP64", [1, 2], [1, 2])], {"y": {"classification": 1}}
    )
    bad = fronts["grpc"].request("repeat", word, {"text": {"classification": 1}})
    first, second = fronts["grpc"].stream(good, bad)
    assert [*first.infer_response.raw_output_contents] == [raw(["4.0:1"], "BYTES")]
    assert "takes numbers" in second.error_message


def test_where_answers_are_generated(fronts: dict[str, Any]) -> None:
    document = {
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}],
        "outputs": [{"name": "y", "parameters": {"classification": 1}}],
    }
    answer = fronts["http"].ask("POST", "models/double/generate", document)
    assert answer.json()["outputs"][0]["data"] == ["4.0:1"]


@pytest.mark.parametrize(
    ("output", "parameters", "words"),
    [
        ("text", {"classification": 1}, "takes numbers, but this output is BYTES"),
        ("long", {"classification": 1}, "takes numbers, but this output is BOOL"),
        ("text", {"classification": 0}, "must be a number from 1, got '0'"),
        ("text", {"classification": -1}, "must be a number from 1, got '-1'"),
        ("text", {"classification": True}, "must be a number from 1, got 'True'"),
        ("text", {"classification": "3"}, "must be a number from 1, got '3'"),
    ],
)
def test_what_is_not_fit_for_it(front: Front, output: str, parameters: Any, words: str) -> None:
    inputs = [Tensor("word", "BYTES", [1], ["ab"]), Tensor("times", "INT64", [1], [2])]
    assert words in front.refused("BAD_REQUEST", "repeat", inputs, {output: parameters})
    assert front.infer("repeat", inputs, {})["text"].data == ["abab"]


def test_an_unknown_output_is_named(front: Front) -> None:
    words = front.refused("BAD_REQUEST", "species", [flowers()], {"nothing": {"classification": 1}})
    assert "has no output 'nothing'" in words


def test_more_texts_than_the_loop_has_time_for(front: Front) -> None:
    tensor, count = Tensor("n", "INT64", [1], [3]), MAX_CLASSES + 1
    words = front.refused("BAD_REQUEST", "squares", [tensor], {"squares": {"classification": count}})
    assert f"at most {MAX_CLASSES} values in one answer; {count} are asked for" in words


def classify(datatype: Datatype, rows: list[list[Any]], count: int, classes: Any = None) -> list[list[str]]:
    array = np.array(rows, datatype.dtype)
    parameters = {} if classes is None else {"classes": classes}
    choice = Classification(count)
    choice.bind(TensorMetadata("y", datatype, (-1, *array.shape[1:]), parameters=parameters), True, len(rows))
    answer = choice.deliver(CoreTensor("y", datatype, array))
    assert answer.datatype is BYTES
    return [[text.decode() for text in row] for row in answer.data]


@pytest.mark.parametrize(
    ("datatype", "row", "best"),
    [
        (INT64, [-(2**63), 2**63 - 1, 2**63 - 2], ["9223372036854775807:1", "9223372036854775806:2"]),
        (UINT64, [0, 2**64 - 1, 2**63], ["18446744073709551615:1", "9223372036854775808:2"]),
        (FP32, [0.1, 0.9, 0.9], ["0.9:1", "0.9:2"]),
        (FP16, [0.5, -0.5, 0.25], ["0.5:0", "0.25:2"]),
        (FP64, [1e-300, 0.1 + 0.2, -0.0], ["0.30000000000000004:1", "1e-300:0"]),
        (FP64, [float("nan"), 1.0, float("-inf")], ["1.0:1", "-inf:2"]),
        (FP64, [float("inf"), 1.0, 2.0], ["inf:0", "2.0:2"]),
    ],
)
def test_every_number_has_its_place(datatype: Datatype, row: list[Any], best: list[str]) -> None:
    assert classify(datatype, [row, row], 2) == [best, best]


def test_equal_values_stand_in_the_order_of_their_indices() -> None:
    assert classify(INT64, [[7, 7, 8, 7]], 4) == [["8:2", "7:0", "7:1", "7:3"]]


def test_several_axes_of_a_row_are_one_list() -> None:
    assert classify(INT64, [[[1, 2], [4, 3]]], 2) == [["4:2", "3:3"]]


@pytest.mark.parametrize("classes", [["a", "b"], [["a"], ["b"], ["c"]], "abc"])
def test_labels_that_do_not_fit_are_left_out(classes: Any) -> None:
    assert classify(INT64, [[1, 3, 2]], 1, classes) == [["3:1"]]


def test_labels_may_be_anything_that_json_has() -> None:
    assert classify(INT64, [[1, 3, 2]], 3, [0, "grün", True]) == [["3:1:grün", "2:2:True", "1:0:0"]]
    assert json.dumps(classify(INT64, [[1]], 1, ["a:b"])) == '[["1:0:a:b"]]'


def test_bool_has_no_order() -> None:
    with pytest.raises(BadRequest, match="BOOL"):
        Classification(1).bind(TensorMetadata("y", BOOL, (-1, 2)), True, 1)
