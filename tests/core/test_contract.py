"""A request against what a model announces: everything wrong is found here, alone, before the queue."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oipserver.core.contract import Contract, Work
from oipserver.core.datatypes import (
    BF16,
    BOOL,
    BYTES,
    DATATYPES,
    FP16,
    FP32,
    FP64,
    INT8,
    INT64,
    UINT8,
    Datatype,
)
from oipserver.core.errors import BadRequest, Fault, InferenceFailed, Unprocessable
from oipserver.core.messages import Arrays, InferenceRequest, Parameters, Scalar, Tensor, TensorMetadata
from oipserver.core.model import Model
from tests.support import Doubler

F = TypeVar("F", bound=Fault)
Array = npt.NDArray[Any]

NUMERIC = [datatype for datatype in DATATYPES.values() if datatype.kind in "uif"]


class Announcement(Model):
    """A model that announces what a test wants; nothing here computes."""

    platform = "test"
    batchable = True

    def __init__(
        self,
        *inputs: TensorMetadata,
        outputs: Sequence[TensorMetadata] = (TensorMetadata("y", FP64, (-1, 1)),),
        optional: Sequence[TensorMetadata] = (),
        named: Sequence[TensorMetadata] = (),
        parameter_names: Sequence[str] = (),
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.optional_outputs = optional
        self.named_inputs = named
        self.parameter_names = parameter_names

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        raise NotImplementedError


def one_input(
    datatype: Datatype = FP64, shape: tuple[int, ...] = (-1, 3), allow_nan: bool = True
) -> Contract:
    return Contract(Announcement(TensorMetadata("x", datatype, shape, allow_nan)), "m", batched=True)


def table() -> Model:
    """A pipeline: one matrix or, instead, its columns by name."""
    return Announcement(
        TensorMetadata("input-0", FP64, (-1, 2)),
        named=(TensorMetadata("age", FP64, (-1, 1)), TensorMetadata("city", BYTES, (-1, 1))),
    )


def two_inputs() -> Model:
    return Announcement(TensorMetadata("a", FP64, (-1, 1)), TensorMetadata("b", INT64, (-1, 2)))


def tensor(name: str, array: Any, datatype: Datatype = FP64) -> Tensor:
    return Tensor(name, datatype, np.asarray(array, datatype.dtype))


def request(
    *inputs: Tensor, outputs: Sequence[str] = (), parameters: Mapping[str, Scalar] | None = None
) -> InferenceRequest:
    return InferenceRequest(
        "m", list(inputs), id="1", deadline=0.0, outputs=list(outputs), parameters=parameters or {}
    )


def check(model: Model | Contract, *inputs: Tensor, **rest: Any) -> Work:
    contract = model if isinstance(model, Contract) else Contract(model, "m", batched=True)
    return contract.check(request(*inputs, **rest))


def refusal(kind: type[F], model: Model | Contract, *inputs: Tensor, **rest: Any) -> str:
    """The message of exactly this kind of fault."""
    with pytest.raises(kind) as caught:
        check(model, *inputs, **rest)
    assert type(caught.value) is kind
    assert caught.value.message.isprintable()
    return caught.value.message


# --- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x", "input-0", "", "日本", "x " * 1000])
def test_a_single_input_may_have_any_name(name: str) -> None:
    work = check(one_input(), tensor(name, [[1, 2, 3]]))
    assert list(work.inputs) == ["x"]
    assert work.inputs["x"].tolist() == [[1, 2, 3]]


def test_a_single_input_comes_once() -> None:
    row = tensor("x", [[1, 2, 3]])
    assert "input 'x' stands twice" in refusal(BadRequest, one_input(), row, row)
    assert "has no input 'z'; it takes 'x'" in refusal(BadRequest, one_input(), row, tensor("z", [[1]]))


def test_several_inputs_in_any_order() -> None:
    a, b = tensor("a", [[1]]), tensor("b", [[2, 3]], INT64)
    works = [check(two_inputs(), a, b), check(two_inputs(), b, a)]
    for work in works:
        assert list(work.inputs) == ["a", "b"]  # as declared
        assert (work.inputs["a"].tolist(), work.inputs["b"].tolist()) == ([[1]], [[2, 3]])
    assert works[0].key == works[1].key


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a"], "misses input 'b'; it takes 'a', 'b'"),
        (["b"], "misses input 'a'"),
        (["x"], "has no input 'x'; it takes 'a', 'b'"),
        (["A", "b"], "has no input 'A'"),
        (["а", "b"], "has no input 'а'"),  # Cyrillic
        (["a", "b "], "has no input 'b '"),
        (["a", "b", "c"], "has no input 'c'"),
        (["a", "a"], "input 'a' stands twice"),
        (["a", "b", "a"], "input 'a' stands twice"),
        (["a\n", "b"], "has no input 'a?'"),
    ],
)
def test_several_inputs_are_strict(names: list[str], words: str) -> None:
    inputs = [tensor(name, [[1]]) for name in names]
    assert words in refusal(BadRequest, two_inputs(), *inputs)


def test_no_inputs_at_all() -> None:
    assert "misses input 'a', 'b'" in refusal(BadRequest, two_inputs())
    assert "misses input 'x'" in refusal(BadRequest, one_input())


def test_columns_by_name_in_place_of_the_matrix() -> None:
    age, city = tensor("age", [[1], [2]]), tensor("city", [[b"a"], [b"b"]], BYTES)
    for inputs in ([age, city], [city, age]):
        work = check(table(), *inputs)
        assert list(work.inputs) == ["age", "city"]
        assert work.rows == 2


def test_the_matrix_may_have_any_name_but_a_columns() -> None:
    assert list(check(table(), tensor("any", [[1, 2]])).inputs) == ["input-0"]
    assert "misses input 'city'" in refusal(BadRequest, table(), tensor("age", [[1, 2]]))


def test_columns_and_matrix_do_not_mix() -> None:
    age, city = tensor("age", [[1]]), tensor("city", [[b"a"]], BYTES)
    matrix = tensor("input-0", [[1, 2]])
    assert "has no input 'age'; it takes 'input-0'" in refusal(BadRequest, table(), matrix, age)
    assert "has no input 'age'" in refusal(BadRequest, table(), age, city, matrix)
    assert "'age' stands twice" in refusal(BadRequest, table(), age, age)


def test_a_model_of_many_inputs_names_some() -> None:
    model = Announcement(*(TensorMetadata(f"c{number}", FP64, (-1, 1)) for number in range(300)))
    message = refusal(BadRequest, model, tensor("z" * 5000, [[1]]))
    assert "'c0', 'c1'" in message
    assert "and 280 more" in message
    assert len(message) < 600


# --- shapes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "sent", "rows"),
    [
        ((-1, 3), (2, 3), 2),
        ((-1, -1), (2, 7), 2),
        ((-1, 2, -1), (5, 2, 9), 5),
        ((-1,), (4,), 4),
        ((-1,), (4, 1), 4),  # a trailing axis of 1 too much
        ((-1, 1), (4,), 4),  # and one too few
        ((-1, -1), (4,), 4),
        ((-1, 2, 1), (4, 2), 4),
        ((-1, 2), (4, 2, 1), 4),
        ((2, 3), (2, 3), 2),
    ],
)
def test_shapes_that_fit(declared: tuple[int, ...], sent: tuple[int, ...], rows: int) -> None:
    array = np.arange(math.prod(sent), dtype=np.float64).reshape(sent)
    work = check(one_input(shape=declared), tensor("x", array))
    assert work.rows == rows
    assert work.inputs["x"].ndim == len(declared)
    assert work.inputs["x"].ravel().tolist() == array.ravel().tolist()


@pytest.mark.parametrize(
    ("declared", "sent"),
    [
        ((-1, 3), (2, 4)),
        ((-1, 3), (3,)),
        ((-1, 3), (2, 3, 2)),
        ((-1, 3), (2, 3, 1, 1)),
        ((-1, 3), (1, 2, 3)),
        ((-1, 3), ()),
        ((-1,), (4, 2)),
        ((-1, 1), (4, 2)),
        ((-1, 2, 1), (4,)),
        ((4, 3), (5, 3)),
        ((-1, 2, 5), (1, 5, 2)),
        ((-1, 3), (2, 0)),
    ],
)
def test_shapes_that_do_not(declared: tuple[int, ...], sent: tuple[int, ...]) -> None:
    message = refusal(BadRequest, one_input(shape=declared), tensor("any", np.zeros(sent)))
    assert message.startswith(f"input 'any' of model 'm' expects shape {list(declared)}")
    assert message.endswith(f"got {list(sent)}")


def test_a_wrong_column_count_names_expected_and_got() -> None:
    message = refusal(BadRequest, one_input(shape=(-1, 4)), tensor("x", np.zeros((2, 5))))
    assert message == "input 'x' of model 'm' expects shape [-1, 4] (4 columns), got [2, 5]"


@pytest.mark.parametrize(
    ("declared", "sent"),
    [((-1, 3), (0, 3)), ((-1,), (0,)), ((-1, 1), (0,)), ((-1, -1), (5, 0)), ((-1, -1), (0, 0))],
)
def test_an_empty_batch_is_refused(declared: tuple[int, ...], sent: tuple[int, ...]) -> None:
    message = refusal(BadRequest, one_input(shape=declared), tensor("x", np.zeros(sent)))
    assert "input 'x' of model 'm' holds no rows or no columns" in message


def test_rows_without_columns_cost_nothing_and_are_refused() -> None:
    assert "holds no rows or no columns: shape [67108864, 0]" in refusal(
        BadRequest, one_input(shape=(-1, -1)), tensor("x", np.zeros((2**26, 0)))
    )


def test_inputs_must_agree_in_rows() -> None:
    message = refusal(BadRequest, two_inputs(), tensor("a", [[1], [2]]), tensor("b", [[1, 2]], INT64))
    assert "differ in rows: {'a': 2, 'b': 1}" in message


# --- datatypes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("want", DATATYPES.values(), ids=str)
@pytest.mark.parametrize("have", DATATYPES.values(), ids=str)
def test_numpys_same_kind_casts_and_no_others(have: Datatype, want: Datatype) -> None:
    # Unsigned to signed, integer to floating, and within a kind; BOOL and BYTES only to themselves.
    upward = {("u", "u"), ("u", "i"), ("u", "f"), ("i", "i"), ("i", "f"), ("f", "f")}
    value: Any = b"a" if have is BYTES else 1
    sent = tensor("x", [value], have)
    if have is want or (have.kind, want.kind) in upward:
        array = check(one_input(want, (-1,)), sent).inputs["x"]
        assert array.dtype == want.dtype
        assert array.tolist() == [value]
    else:
        message = refusal(BadRequest, one_input(want, (-1,)), sent)
        assert message == f"input 'x' expects datatype {want}, got {have}"


def test_the_declared_datatype_is_not_copied() -> None:
    sent = tensor("x", [[1, 2, 3]])
    assert np.shares_memory(check(one_input(), sent).inputs["x"], sent.data)


def outside(source: Datatype, target: Datatype) -> list[int]:
    """Values of `source` next to what `target` can hold."""
    have, want = np.iinfo(source.dtype), np.iinfo(target.dtype)
    near = (int(want.min) - 1, int(want.max) + 1)
    return [value for value in near if have.min <= value <= have.max]


NARROWING = [
    (have, want)
    for have in NUMERIC
    for want in NUMERIC
    if (have.kind, want.kind) in {("u", "u"), ("u", "i"), ("i", "i")} and outside(have, want)
]


@pytest.mark.parametrize(("have", "want"), NARROWING, ids=str)
def test_integers_are_cast_in_range_only(have: Datatype, want: Datatype) -> None:
    limits = np.iinfo(want.dtype)
    source = np.iinfo(have.dtype)
    fitting = [max(int(limits.min), int(source.min)), int(limits.max)]
    work = check(one_input(want, (-1,)), tensor("x", fitting, have))
    assert work.inputs["x"].tolist() == fitting
    for value in outside(have, want):
        message = refusal(BadRequest, one_input(want, (-1,)), tensor("x", [0, value, 1], have))
        assert message == f"input 'x': {value} is out of range for {want}"


@pytest.mark.parametrize(
    ("have", "want", "value"),
    [
        (FP64, FP32, 1e39),
        (FP64, FP32, -1e39),
        (FP64, BF16, 1e39),
        (FP64, FP16, 65520.0),
        (FP32, FP16, 1e5),
        (DATATYPES["UINT16"], FP16, 65535),
        (INT64, FP16, 100_000),
    ],
    ids=str,
)
def test_a_number_does_not_become_infinite(have: Datatype, want: Datatype, value: float) -> None:
    message = refusal(BadRequest, one_input(want, (-1,)), tensor("x", [0, value], have))
    assert message.endswith(f"is out of range for {want}")
    assert "input" in message or "tensor" in message


def test_infinity_and_nan_survive_a_cast() -> None:
    array = check(one_input(FP32, (-1,)), tensor("x", [math.inf, -math.inf, math.nan])).inputs["x"]
    assert array.dtype == np.float32
    assert array[:2].tolist() == [math.inf, -math.inf]
    assert math.isnan(array[2])


def test_zero_elements_are_cast() -> None:
    unbatched = Contract(Announcement(TensorMetadata("x", INT8, (-1,))), "m", batched=False)
    assert check(unbatched, tensor("x", [], INT64)).inputs["x"].dtype == np.int8


# --- NaN ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("have", [FP16, BF16, FP32, FP64], ids=str)
@pytest.mark.parametrize("want", [FP32, FP64], ids=str)
def test_nan_and_infinity_are_unprocessable_where_refused(
    want: Datatype, have: Datatype, value: float
) -> None:
    sent = tensor("any", [[1, 2, 3], [4, value, 6]], have)
    message = refusal(Unprocessable, one_input(want, allow_nan=False), sent)
    assert message.startswith("input 'any' of model 'm' holds NaN or infinity")
    array = check(one_input(want, allow_nan=True), sent).inputs["x"]
    assert repr(array[1, 1].item()) == repr(value)


def test_finite_numbers_pass_where_nan_does_not() -> None:
    contract = one_input(FP32, allow_nan=False)
    assert check(contract, tensor("x", [[1, -0.0, 3e38]])).rows == 1
    assert check(contract, tensor("x", [[1, 2, 3]], INT64)).rows == 1


@pytest.mark.parametrize("datatype", [INT64, BOOL, BYTES, UINT8], ids=str)
def test_other_datatypes_hold_no_nan(datatype: Datatype) -> None:
    value: Any = b"nan" if datatype is BYTES else 1
    assert check(one_input(datatype, (-1,), allow_nan=False), tensor("x", [value], datatype)).rows == 1


# --- outputs -----------------------------------------------------------------------------------------------


def classifier(**rest: Any) -> Model:
    return Announcement(
        TensorMetadata("x", FP64, (-1, 3)),
        outputs=(TensorMetadata("predict", INT64, (-1, 1)), TensorMetadata("score", FP64, (-1, 1))),
        optional=(TensorMetadata("predict_proba", FP64, (-1, 2)),),
        **rest,
    )


ROW = Tensor("x", FP64, np.array([[1.0, 2.0, 3.0]]))


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ([], ("predict", "score")),
        (["score"], ("score",)),
        (["score", "predict"], ("score", "predict")),
        (["predict_proba"], ("predict_proba",)),
        (["predict_proba", "predict"], ("predict_proba", "predict")),
    ],
)
def test_outputs_are_as_asked_in_order(asked: list[str], answered: tuple[str, ...]) -> None:
    assert check(classifier(), ROW, outputs=asked).outputs == answered


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["z"], "model 'm' has no output 'z'; it has 'predict', 'score', 'predict_proba'"),
        (["predict", "Predict"], "has no output 'Predict'"),
        (["predict", "predict"], "output 'predict' is requested twice"),
        (["predict_proba", "score", "predict_proba"], "output 'predict_proba' is requested twice"),
        ([""], "has no output ''"),
        (["x"], "has no output 'x'"),
    ],
)
def test_outputs_that_cannot_be(asked: list[str], words: str) -> None:
    assert words in refusal(BadRequest, classifier(), ROW, outputs=asked)


def test_the_declaration_of_an_output() -> None:
    contract = Contract(classifier(), "m", batched=True)
    assert [contract.output(name).shape for name in ("predict", "predict_proba")] == [(-1, 1), (-1, 2)]


# --- parameters and batch keys -----------------------------------------------------------------------------


def test_only_declared_parameters_reach_the_model() -> None:
    model = classifier(parameter_names=("temperature", "top_k"))
    work = check(model, ROW, parameters={"temperature": 0.5, "other": 1})
    assert work.parameters == {"temperature": 0.5}
    assert check(classifier(), ROW, parameters={"temperature": 0.5}).parameters == {}


def key(rows: Any = ((1, 2),), datatype: Datatype = FP64, **rest: Any) -> Any:
    model = Announcement(
        TensorMetadata("x", FP64, (-1, -1)),
        outputs=(TensorMetadata("y", FP64, (-1, 1)), TensorMetadata("z", FP64, (-1, 1))),
        parameter_names=("p", "q"),
    )
    found = check(model, tensor("any", rows, datatype), **rest).key
    assert found is not None
    hash(found)
    return found


def test_equal_keys_for_rows_that_may_be_merged() -> None:
    assert key() == key([[5, 6], [7, 8]])  # row counts and values do not matter
    assert key() == key(datatype=INT64) == key(datatype=FP32)  # nor does what was cast
    assert key() == key(parameters={"not_declared": 5})
    assert key() == key(outputs=["y", "z"])
    assert key(parameters={"p": 1, "q": 2}) == key(parameters={"q": 2, "p": 1})


DIFFERENT = {
    "plain": key(),
    "columns": key([[1, 2, 3]]),
    "one output": key(outputs=["y"]),
    "outputs in another order": key(outputs=["z", "y"]),
    **{
        repr(value): key(parameters={"p": value})
        for value in (1, 2, 1.0, True, "1", "True", 0, -0.0, 0.0, "")
    },
    "other parameter": key(parameters={"q": 1}),
    "two parameters": key(parameters={"p": 1, "q": 1}),
}


def test_different_keys_for_all_that_may_not() -> None:
    # Also for parameters that are equal in Python: 1, 1.0 and True are three answers to a model.
    assert len(DIFFERENT) == 16
    assert len(set(DIFFERENT.values())) == len(DIFFERENT)


def test_named_columns_and_a_matrix_are_not_merged() -> None:
    named = check(table(), tensor("age", [[1]]), tensor("city", [[b"a"]], BYTES))
    assert named.key != check(table(), tensor("x", [[1, 2]])).key


def test_a_model_whose_rows_depend_on_each_other_shares_nothing() -> None:
    model = classifier()
    model.batchable = False
    work = check(model, ROW)
    assert (work.key, work.rows) == (None, 1)


def test_what_waits_is_counted_in_bytes() -> None:
    assert check(one_input(FP32), tensor("x", [[1, 2, 3]])).nbytes == 12
    assert check(one_input(BYTES, (-1,)), tensor("x", [b"a" * 1000, b""], BYTES)).nbytes >= 1000


# --- models without a batch axis ---------------------------------------------------------------------------


def test_an_unbatched_model_takes_its_shapes_as_they_are() -> None:
    model = Announcement(TensorMetadata("a", FP64, (3,)), TensorMetadata("b", FP64, ()))
    contract = Contract(model, "m", batched=False)
    work = check(contract, tensor("a", [1, 2, 3]), tensor("b", 5.0))
    assert (work.rows, work.key) == (1, None)
    assert {name: array.shape for name, array in work.inputs.items()} == {"a": (3,), "b": ()}
    assert "expects shape [3], got [4]" in refusal(
        BadRequest, contract, tensor("a", [1, 2, 3, 4]), tensor("b", 1.0)
    )


def test_an_unbatched_answer_may_have_any_first_axis() -> None:
    model = Announcement(TensorMetadata("x", FP64, (3,)), outputs=(TensorMetadata("y", FP64, (-1,)),))
    contract = Contract(model, "m", batched=False)
    for size in (0, 1, 7):
        assert contract.check_answer({"y": np.zeros(size)}, ["y"], 1)["y"].shape == (size,)
    scalar = Announcement(TensorMetadata("x", FP64, (3,)), outputs=(TensorMetadata("y", FP64, ()),))
    answer = Contract(scalar, "m", batched=False).check_answer({"y": np.array(1.5)}, ["y"], 1)
    assert answer["y"].item() == 1.5


# --- answers -----------------------------------------------------------------------------------------------


def test_a_right_answer_is_passed_on_in_order_and_uncopied() -> None:
    contract = Contract(classifier(), "m", batched=True)
    given: dict[str, Array] = {
        "predict": np.zeros((2, 1), np.int64),
        "score": np.zeros((2, 1)),
        "more": np.zeros(1),
    }
    answer = contract.check_answer(given, ("score", "predict"), 2)
    assert list(answer) == ["score", "predict"]
    assert all(answer[name] is given[name] for name in answer)


class Broken(Mapping[str, Array]):
    """A mapping that is none of ours but works."""

    def __getitem__(self, name: str) -> Array:
        return {"y": np.zeros((2, 1))}[name]

    def __iter__(self) -> Any:
        return iter(["y"])

    def __len__(self) -> int:
        return 1


def test_any_mapping_is_an_answer() -> None:
    contract = Contract(Announcement(TensorMetadata("x", FP64, (-1, 1))), "m", batched=True)
    assert contract.check_answer(Broken(), ["y"], 2)["y"].shape == (2, 1)


WRONG_ANSWERS: dict[str, tuple[Any, str]] = {
    "None": (None, "no array for output 'y'"),
    "a list": ([np.zeros((2, 1))], "no array for output 'y'"),
    "an array": (np.zeros((2, 1)), "no array for output 'y'"),
    "missing": ({}, "no array for output 'y'"),
    "another name": ({"Y": np.zeros((2, 1))}, "no array for output 'y'"),
    "None inside": ({"y": None}, "no array for output 'y': NoneType"),
    "a list inside": ({"y": [[1.0], [2.0]]}, "no array for output 'y': list"),
    "a scalar": ({"y": np.float64(1)}, "no array for output 'y': float64"),
    "float32": ({"y": np.zeros((2, 1), np.float32)}, "returned float32 for output 'y', announced FP64"),
    "integers": ({"y": np.zeros((2, 1), np.int64)}, "returned int64 for output 'y', announced FP64"),
    "objects": ({"y": np.zeros((2, 1), np.object_)}, "returned object for output 'y', announced FP64"),
    "big-endian": ({"y": np.zeros((2, 1), ">f8")}, "returned >f8 for output 'y', announced FP64"),
    "fewer rows": ({"y": np.zeros((1, 1))}, "returned 1 rows for 2 in output 'y'"),
    "more rows": ({"y": np.zeros((3, 1))}, "returned 3 rows for 2 in output 'y'"),
    "no rows": ({"y": np.zeros((0, 1))}, "returned 0 rows for 2 in output 'y'"),
    "columns": ({"y": np.zeros((2, 2))}, "returned shape [2, 2] for output 'y', announced [-1, 1]"),
    "flat": ({"y": np.zeros(2)}, "returned shape [2] for output 'y', announced [-1, 1]"),
    "transposed": ({"y": np.zeros((1, 2))}, "returned shape [1, 2] for output 'y'"),
    "rank 0": ({"y": np.array(1.0)}, "returned shape [] for output 'y'"),
}


@pytest.mark.parametrize("case", WRONG_ANSWERS)
def test_an_answer_that_was_not_announced(case: str) -> None:
    answer, words = WRONG_ANSWERS[case]
    contract = Contract(Announcement(TensorMetadata("x", FP64, (-1, 1))), "m", batched=True)
    with pytest.raises(InferenceFailed) as caught:
        contract.check_answer(answer, ("y",), 2)
    assert words in caught.value.message


def test_a_scalar_has_no_batch_axis_so_a_batched_model_cannot_announce_it() -> None:
    model = Announcement(TensorMetadata("x", FP64, (-1,)), outputs=(TensorMetadata("y", FP64, ()),))
    with pytest.raises(ValueError, match="'y' is announced as a scalar"):
        Contract(model, "m", batched=True)
    Contract(model, "m", batched=False)


@pytest.mark.parametrize("wrong", ["text", None, 1, bytearray(b"a"), [b"a"]], ids=repr)
def test_a_bytes_answer_holds_bytes(wrong: object) -> None:
    model = Announcement(TensorMetadata("x", FP64, (-1,)), outputs=(TensorMetadata("y", BYTES, (-1,)),))
    contract = Contract(model, "m", batched=True)
    answer: Array = np.empty(2, np.object_)
    answer[:] = [b"a", np.bytes_(b"b")]
    assert contract.check_answer({"y": answer}, ("y",), 2)["y"] is answer
    answer[1] = wrong
    with pytest.raises(InferenceFailed, match="objects that are not bytes in output 'y'"):
        contract.check_answer({"y": answer}, ("y",), 2)


@given(rows=st.integers(1, 5), returned=st.integers(0, 5))
def test_a_shifted_answer_never_passes(rows: int, returned: int) -> None:
    contract = Contract(Announcement(TensorMetadata("x", FP64, (-1, 1))), "m", batched=True)
    answer = {"y": np.arange(returned, dtype=np.float64).reshape(-1, 1)}
    if rows == returned:
        assert contract.check_answer(answer, ("y",), rows)["y"] is answer["y"]
    else:
        with pytest.raises(InferenceFailed, match=f"returned {returned} rows for {rows}"):
            contract.check_answer(answer, ("y",), rows)


# --- warm-up -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3])
def test_an_example_is_made_from_the_announcement(rows: int) -> None:
    model = Announcement(TensorMetadata("a", FP32, (-1, 4)), TensorMetadata("b", BYTES, (-1, -1)))
    work = Contract(model, "m", batched=True).example(rows, ("y",))
    assert {name: (array.shape, array.dtype.name) for name, array in work.inputs.items()} == {
        "a": ((rows, 4), "float32"),
        "b": ((rows, 1), "object"),
    }
    assert set(work.inputs["b"].flat) == {b""}
    assert (work.rows, work.outputs, work.key) == (rows, ("y",), None)


def test_the_models_own_example_is_repeated() -> None:
    model = Announcement(TensorMetadata("a", INT64, (-1, 2)))
    model.example = {"a": np.array([[1, 2], [3, 4]])}
    work = Contract(model, "m", batched=True).example(3, ("y",))
    assert work.inputs["a"].tolist() == [[1, 2], [3, 4], [1, 2]]


def test_an_unbatched_example_is_left_alone() -> None:
    model = Announcement(TensorMetadata("a", INT64, (2,)))
    model.example = {"a": np.array([1, 2])}
    work = Contract(model, "m", batched=False).example(1, ("y",))
    assert work.inputs["a"].tolist() == [1, 2]


def test_a_tensor_without_axes_is_not_one_with_a_batch() -> None:
    model = Announcement(TensorMetadata("x", FP64, (-1,)), outputs=(TensorMetadata("y", FP64, (-1,)),))
    request = InferenceRequest("m", [Tensor("x", FP64, np.array(1.0))], "id", 1.0)
    for batched in (True, False):
        work = Contract(model, "m", batched=batched).check(request)
        assert work.inputs["x"].shape == (1,)


def test_no_tensors_at_all_miss_the_inputs_whatever_forms_there_are() -> None:
    class Forms(Doubler):
        platform = "test"
        inputs = (TensorMetadata("x", FP64, (-1, 1)),)
        named_inputs = (TensorMetadata("rows", BYTES, (-1, 1), optional=True),)
        outputs = (TensorMetadata("y", FP64, (-1, 1)),)

    request = InferenceRequest(model_name="m", inputs=(), id="", deadline=0.0)
    with pytest.raises(BadRequest, match="model 'm' misses input 'x'"):
        Contract(Forms(), "m", batched=True).check(request)
