"""Every shape that a user's function may have, and what it may return."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oipserver_python import Input, InvalidInput, Output, PythonRuntime, function

from oipserver import Arrays, Model, ModelConfig
from oipserver.core.contract import Contract
from oipserver.core.errors import InferenceFailed
from oipserver.core.messages import InferenceRequest
from tests.support import PATIENCE, Plane, first_column, outcome, request, run

X = [Input("x", "FP64", [-1, 2])]
Y = [Output("y", "FP64", [-1, 2])]
ROWS = np.array([[1.0, 2.0], [3.0, 4.0]])


def served(target: object, **parameters: object) -> Model:
    model = PythonRuntime().wrap(target, ModelConfig(name="m", runtime="python", parameters=parameters))
    assert model is not None
    return model


def answer(target: object, inputs: Arrays | None = None, **parameters: Any) -> Any:
    model = served(target)
    try:
        outputs = [output.name for output in model.outputs]
        return model.predict({"x": ROWS} if inputs is None else inputs, outputs, parameters)
    finally:
        model.close()


# --- shapes of functions ---


def by_input_name(x: Any) -> Any:
    return x * 2


def under_another_name(rows: Any, factor: float = 2.0) -> Any:
    return rows * factor


def all_in_a_dict(inputs: Any) -> Any:
    return {"y": inputs["x"] * 2}


def as_keywords(**tensors: Any) -> Any:
    return (tensors["x"] * 2,)


def only_by_keyword(*, x: Any) -> Any:
    return (x * 2).tolist()


def with_parameters(x: Any, parameters: Any) -> Any:
    return x * parameters.get("factor", 2)


async def asynchronous(x: Any) -> Any:
    await asyncio.sleep(0)
    return x * 2


def written_into(x: Any) -> Any:
    x *= 2
    return x


def one_piece(x: Any) -> Iterator[Any]:
    yield x * 2


SHAPES = [
    by_input_name,
    under_another_name,
    all_in_a_dict,
    as_keywords,
    only_by_keyword,
    with_parameters,
    asynchronous,
    written_into,
    one_piece,
]


@pytest.mark.parametrize("plain", SHAPES, ids=lambda plain: plain.__name__)
def test_every_shape_of_function_is_called(plain: Callable[..., Any]) -> None:
    given = ROWS.copy()
    given.flags.writeable = False  # as the views of a request are
    found = answer(function(inputs=X, outputs=Y)(plain), {"x": given})["y"]
    assert found.dtype == np.float64
    assert found.tolist() == [[2, 4], [6, 8]]
    assert given.tolist() == ROWS.tolist()


def test_an_answer_is_not_written_into_by_the_next_call() -> None:
    kept = np.zeros((2, 2))

    def infer(x: Any) -> Any:
        kept[:] = x
        return kept

    model = served(function(inputs=X, outputs=Y)(infer))
    first = model.predict({"x": ROWS}, ["y"], {})
    model.predict({"x": -ROWS}, ["y"], {})
    assert first["y"].tolist() == ROWS.tolist()
    model.close()


def test_an_example_has_every_input_that_a_request_must_have() -> None:
    @function(inputs=[*X, Input("z", "FP64", [-1, 2])], outputs=Y, example={"x": ROWS})
    def infer(x: Any, z: Any) -> Any:
        return x + z

    with pytest.raises(ValueError, match=r"infer\.example: expected a dict of arrays for x, z"):
        served(infer)


def test_a_masked_array_comes_as_a_plain_one() -> None:
    @function(inputs=X, outputs=Y)
    def infer(x: Any) -> Any:
        return np.ma.masked_array(x, mask=[[True, False], [False, False]])

    assert type(answer(infer)["y"]) is np.ndarray


def test_requests_without_any_input_travel_alone() -> None:
    @function(inputs=[Input("x", "FP64", [-1, 2], optional=True)], outputs=Y, batchable=True)
    def infer(x: Any = None) -> Any:
        return np.zeros((1, 2)) if x is None else x

    model = served(infer)
    contract = Contract(model, "m", batched=True)
    empty = InferenceRequest("m", [], id="", deadline=0.0)
    assert contract.check(empty).key is None
    assert contract.check(request(1, 2)).key is not None
    model.close()


def test_a_marked_function_stays_a_function() -> None:
    assert function(inputs=X, outputs=Y)(by_input_name) is by_input_name
    assert by_input_name(3) == 6


def test_request_parameters_reach_the_function_that_names_them() -> None:
    assert answer(function(inputs=X, outputs=Y)(with_parameters), factor=3)["y"].tolist() == [[3, 6], [9, 12]]
    assert served(function(inputs=X, outputs=Y)(with_parameters)).parameter_names == ("*",)
    assert served(function(inputs=X, outputs=Y)(by_input_name)).parameter_names == ()


@pytest.mark.parametrize(
    ("plain", "complaint"),
    [
        (lambda a, b: a, "takes (a, b), its declared inputs are x: give it parameters of these names"),
        (lambda: 0, "takes (), its declared inputs are x"),
        (lambda x, /: x, "its declared inputs are x"),
    ],
)
def test_a_signature_that_does_not_fit_is_told_at_load(plain: Callable[..., Any], complaint: str) -> None:
    with pytest.raises(ValueError, match="declared inputs") as caught:
        served(function(inputs=X, outputs=Y)(plain))
    assert complaint in str(caught.value)


def test_an_optional_input_takes_the_default_of_the_function() -> None:
    scale = Input("scale", "FP64", [1], optional=True)

    @function(inputs=[*X, scale], outputs=Y)
    def scaled(x: Any, scale: Any = 10.0) -> Any:
        return x * scale

    assert answer(scaled)["y"].tolist() == [[10, 20], [30, 40]]
    assert answer(scaled, {"x": ROWS, "scale": np.array([2.0])})["y"].tolist() == [[2, 4], [6, 8]]
    with pytest.raises(ValueError, match="input 'scale' is optional, so 'scale' needs a default"):
        served(function(inputs=[*X, scale], outputs=Y)(lambda x, scale: x))


def test_an_input_may_have_a_name_that_python_does_not_allow() -> None:
    @function(inputs=[Input("input-0", "FP64", [-1]), Input("input-1", "FP64", [-1])], outputs=[Y[0]])
    def added(**tensors: Any) -> Any:
        return np.stack([tensors["input-0"], tensors["input-1"]], axis=1)

    assert answer(added, {"input-0": ROWS[0], "input-1": ROWS[1]})["y"].tolist() == [[1, 3], [2, 4]]


class Affine:
    """Written as a user would: nothing to inherit."""

    inputs = X
    outputs = Y
    batchable = True

    def __init__(self) -> None:
        self.story: list[str] = []

    def load(self, path: Path, config: ModelConfig) -> None:
        self.story.append(f"load {config.name}")
        self.shift = 1.0
        assert path == Path.cwd()

    def infer(self, x: Any) -> Any:
        return x + self.shift

    async def close(self) -> None:
        self.story.append("close")


def test_a_class_is_made_loaded_asked_and_closed() -> None:
    affine = Affine()
    model = served(affine)
    assert (model.batchable, model.has_batch_axis, model.may_run_inline) == (True, True, False)
    assert model.predict({"x": ROWS}, ["y"], {})["y"].tolist() == [[2, 3], [4, 5]]
    model.close()
    assert affine.story == ["load m", "close"]
    assert served(Affine).platform == "python"


def test_what_was_loaded_is_closed_when_its_declarations_are_wrong() -> None:
    affine = Affine()
    affine.outputs = []
    with pytest.raises(ValueError, match="'Affine' declares no outputs"):
        served(affine)
    assert affine.story == ["load m", "close"]


def test_what_is_of_no_served_kind_is_left_to_other_runtimes() -> None:
    config = ModelConfig(name="m", runtime="")
    for other in (object(), lambda x: x, dict, 3):
        assert PythonRuntime().wrap(other, config) is None


def test_declarations_may_be_made_in_load() -> None:
    class Late:
        inputs = X

        def load(self) -> None:
            self.outputs = [Output("late", "INT64", [1])]

        def infer(self, x: Any) -> Any:
            return 3

    late = Late()
    late.load()
    assert answer(late)["late"].tolist() == [3]


# --- what comes back ---

LABELS = Output("label", "BYTES", [-1])
RETURNS: list[tuple[Any, Any, Any]] = [
    (Output("y", "FP32", [-1]), [1, 2], [1.0, 2.0]),
    (Output("y", "FP32", [1]), 2.5, [2.5]),
    (Output("y", "FP64", [-1, 1]), np.float32(2), [[2.0]]),
    (Output("y", "UINT8", [-1]), [1, 255], [1, 255]),
    (Output("y", "INT64", [2]), np.array([1, 2], np.int8), [1, 2]),
    (Output("y", "FP64", []), 4, 4.0),
    (Output("y", "BOOL", [-1]), [True, False], [True, False]),
    (LABELS, ["cat", b"\xff"], [b"cat", b"\xff"]),
    (LABELS, "cat", [b"cat"]),
    (LABELS, np.array(["cat", "horse"]), [b"cat", b"horse"]),
    (LABELS, np.array([b"cat"]), [b"cat"]),
    (Output("label", "BYTES", [-1, 1]), [["a"], ["b"]], [[b"a"], [b"b"]]),
    (Output("y", "FP64", [-1]), (1.0, 2.0), [1.0, 2.0]),
]


@pytest.mark.parametrize(("declared", "returned", "expected"), RETURNS)
def test_what_a_function_returns_becomes_what_is_declared(
    declared: Any, returned: object, expected: object
) -> None:
    found = answer(function(inputs=X, outputs=[declared])(lambda x: returned))[declared.name]
    assert found.dtype == declared.datatype.dtype
    assert found.tolist() == expected


WRONG: list[tuple[Any, Any, str]] = [
    (Output("y", "INT64", [-1]), np.array([0.5]), "'y': got float64 of shape [1], declared as INT64"),
    (Output("y", "UINT8", [-1]), [256], "'y': got 256, out of range for UINT8"),
    (Output("y", "FP32", [-1]), [1e300], "'y': got 1e+300, out of range for FP32"),
    (Output("y", "FP64", [-1]), None, "'y': got a NoneType, declared as FP64"),
    (Output("y", "FP64", [-1]), [[1], [1, 2]], "'y': got a list that makes no array"),
    (Output("y", "BOOL", [-1]), [1], "'y': got int64 of shape [1], declared as BOOL"),
    (LABELS, [3], "'label': got a int among its elements, declared as BYTES"),
    (Y[0], {"z": ROWS}, "returned a dict with z, announced y"),
]


@pytest.mark.parametrize(("declared", "returned", "complaint"), WRONG)
def test_what_cannot_become_it_is_told(declared: Any, returned: object, complaint: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        answer(function(inputs=X, outputs=[declared])(lambda x: returned))
    assert complaint in str(caught.value)


@pytest.mark.parametrize("returned", [(ROWS, ["a", "b"]), {"label": ["a", "b"], "y": ROWS}])
def test_several_outputs_come_as_a_tuple_or_a_dict(returned: object) -> None:
    found = answer(function(inputs=X, outputs=[*Y, LABELS])(lambda x: returned))
    assert found["y"].tolist() == ROWS.tolist()
    assert found["label"].tolist() == [b"a", b"b"]


@pytest.mark.parametrize(
    ("returned", "came"), [(ROWS, "a ndarray"), ((1, 2, 3), "a tuple of 3"), ([ROWS, "a"], "a list")]
)
def test_a_wrong_count_of_outputs_is_told(returned: object, came: str) -> None:
    with pytest.raises(TypeError, match=f"returned {came}, expected a tuple or dict of y, label"):
        answer(function(inputs=X, outputs=[*Y, LABELS])(lambda x: returned))


# --- row by row ---


def test_a_function_of_one_row_is_called_for_each() -> None:
    seen = []

    @function(
        inputs=[*X, Input("name", "BYTES", [-1])],
        outputs=[Output("total", "FP64", [-1]), Output("greeting", "BYTES", [-1, 1])],
        per_row=True,
    )
    def one(x: Any, name: Any) -> Any:
        seen.append(x.shape)
        return x.sum(), [b"hello " + name]

    names = np.array([b"ann", b"bob"], dtype=np.object_)
    found = answer(one, {"x": ROWS, "name": names})
    assert found["total"].tolist() == [3.0, 7.0]
    assert found["greeting"].tolist() == [[b"hello ann"], [b"hello bob"]]
    assert seen == [(2,), (2,)]
    model = served(one)
    assert (model.has_batch_axis, model.batchable) == (True, False)


def test_rows_of_different_shapes_make_no_answer() -> None:
    sizes = iter([1, 2])
    ragged = function(inputs=X, outputs=[Output("y", "FP64", [-1, -1])], per_row=True)(
        lambda x: np.zeros(next(sizes))
    )
    with pytest.raises(TypeError, match="output 'y': rows returned different shapes"):
        answer(ragged)


def test_an_async_function_of_one_row() -> None:
    @function(inputs=X, outputs=Y, per_row=True)
    async def later(x: Any) -> Any:
        await asyncio.sleep(0)
        return x * 2

    assert answer(later)["y"].tolist() == [[2, 4], [6, 8]]


# --- declarations that make no sense ---


@pytest.mark.parametrize(
    ("declare", "complaint"),
    [
        (lambda: function(outputs=Y)(lambda x: x), "declares no inputs: give inputs=[Input("),
        (lambda: function(inputs=X)(lambda x: x), "declares no outputs: give outputs=[Output("),
        (lambda: function(inputs=[*X, *X], outputs=Y)(lambda x: x), "inputs: 'x' is declared twice"),
        (lambda: function(inputs=X, outputs=[Output("y", "FP64", [3])], batchable=True)(lambda x: x),
         "is batchable, so output 'y' must begin with the batch axis -1, its shape is [3]"),
        (lambda: function(inputs=X, outputs=Y, batchable=True)(one_piece),
         "is a generator: it answers one request at a time and cannot have a batch"),
        (lambda: function(inputs=X, outputs=Y, example={"z": [1]})(lambda x: x),
         "example: expected a dict of arrays for x"),
        (lambda: function(inputs=X, outputs=Y, requirements="numpy")(lambda x: x), "expected a list such as"),
    ],
)  # fmt: skip
def test_a_declaration_that_makes_no_sense_is_told_at_load(
    declare: Callable[[], object], complaint: str
) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        served(declare())
    assert complaint in str(caught.value)


def test_the_configuration_declares_what_the_code_does_not() -> None:
    model = served(
        function()(by_input_name),
        inputs=[{"name": "x", "datatype": "INT64", "shape": [-1], "minimum": 1}],
        outputs=[{"name": "y", "datatype": "INT64", "shape": [-1]}],
    )
    assert model.inputs[0].parameters == {"minimum": 1}
    assert model.predict({"x": np.array([1, 2])}, ["y"], {})["y"].tolist() == [2, 4]


# --- under the scheduler ---


def test_rows_of_several_callers_come_in_one_call() -> None:
    calls: list[int] = []
    gate, entered = threading.Event(), threading.Semaphore(0)

    @function(inputs=X, outputs=Y, batchable=True)
    def double(x: Any) -> Any:
        calls.append(len(x))
        entered.release()
        if not gate.wait(PATIENCE):
            raise TimeoutError
        return x * 2

    async def scenario() -> None:
        gate.set()
        async with Plane({"m": served(double)}) as plane:
            calls.clear()
            gate.clear()
            while entered.acquire(blocking=False):
                continue
            first = asyncio.ensure_future(plane.data.infer(request(0)))
            assert await asyncio.to_thread(entered.acquire, timeout=PATIENCE)
            others = [asyncio.ensure_future(plane.data.infer(request(value))) for value in range(1, 9)]
            await asyncio.sleep(0)
            gate.set()
            answers = await asyncio.gather(first, *others)
            assert [first_column(each) for each in answers] == [[2.0 * value] for value in range(9)]

    run(scenario())
    assert calls == [1, 8]


def test_without_opting_in_requests_travel_alone() -> None:
    calls: list[tuple[int, ...]] = []

    @function(inputs=X, outputs=Y)
    def double(x: Any) -> Any:
        calls.append(x.shape)
        return x * 2

    async def scenario() -> None:
        async with Plane({"m": served(double)}) as plane:
            calls.clear()
            await asyncio.gather(*(plane.data.infer(request(value)) for value in range(4)))

    run(scenario())
    assert calls == [(1, 2)] * 4


@pytest.mark.parametrize("failure", [SystemExit(3), KeyboardInterrupt(), RuntimeError("no"), MemoryError()])
def test_whatever_an_async_function_raises_fails_that_request_alone(failure: BaseException) -> None:
    @function(inputs=X, outputs=Y)
    async def double(x: Any) -> Any:
        if x[0, 0] == 7:
            raise failure
        return x * 2

    async def scenario() -> None:
        async with Plane({"m": served(double)}) as plane:
            assert isinstance(await outcome(plane.data.infer(request(7))), InferenceFailed)
            assert first_column(await plane.data.infer(request(2))) == [4.0]

    run(scenario())


def test_a_function_that_fails_on_zeros_is_loaded_all_the_same() -> None:
    @function(inputs=X, outputs=Y)
    def inverse(x: Any) -> Any:
        if not x.all():
            raise ZeroDivisionError
        return 2 / x

    async def scenario() -> None:
        async with Plane({"m": served(inverse)}) as plane:
            assert plane.data.ready()
            assert first_column(await plane.data.infer(request(4))) == [0.5]

    run(scenario())


def test_a_function_that_fails_on_its_own_example_is_not_served() -> None:
    @function(inputs=X, outputs=Y, example={"x": [[0.0, 0.0]]})
    def broken(x: Any) -> Any:
        raise ZeroDivisionError

    async def scenario() -> None:
        async with Plane({"m": served(broken)}) as plane:
            assert "FAILED" in plane.data.ready_reason()

    run(scenario())


# --- generators ---


def test_a_generator_streams_and_is_closed_with_its_caller() -> None:
    story = []

    class Counter:
        inputs = X
        outputs = Y

        def stream(self, x: Any) -> Iterator[Any]:
            try:
                for factor in range(100):
                    story.append(factor)
                    yield x * factor
            finally:
                story.append(-1)

    model = served(Counter)
    assert model.decoupled
    answers = model.stream({"x": ROWS}, ["y"], {})
    assert [next(answers)["y"][0, 1] for _ in range(3)] == [0.0, 2.0, 4.0]
    answers.close()
    assert story == [0, 1, 2, -1]


def test_an_async_generator_streams_and_is_closed_with_its_caller() -> None:
    story = []

    @function(inputs=X, outputs=Y)
    async def count(x: Any, parameters: Any) -> AsyncIterator[Any]:
        try:
            for factor in range(parameters["times"]):
                await asyncio.sleep(0)
                yield x * factor
        finally:
            story.append("closed")

    model = served(count)
    assert [piece["y"][0, 0] for piece in model.stream({"x": ROWS}, ["y"], {"times": 4})] == [0, 1, 2, 3]
    answers = model.stream({"x": ROWS}, ["y"], {"times": 4})
    next(answers)
    answers.close()
    assert story == ["closed", "closed"]
    model.close()
    with pytest.raises(RuntimeError, match="model 'm' is closed"):
        next(model.stream({"x": ROWS}, ["y"], {"times": 4}))


def test_one_answer_is_wanted_of_a_generator_that_yields_several() -> None:
    closed = []

    @function(inputs=X, outputs=Y)
    def several(x: Any) -> Iterator[Any]:
        try:
            yield x
            yield x
            raise AssertionError("nobody asked for a third")
        finally:
            closed.append(True)

    with pytest.raises(InvalidInput, match="generate_stream over HTTP or ModelStreamInfer over gRPC"):
        answer(several)
    assert closed == [True]

    @function(inputs=X, outputs=Y)
    def nothing(x: Any) -> Iterator[Any]:
        yield from ()

    with pytest.raises(RuntimeError, match="yielded no answer"):
        answer(nothing)


def test_infer_and_stream_may_stand_side_by_side() -> None:
    class Both:
        inputs = X
        outputs = Y

        def infer(self, x: Any) -> Any:
            return x

        def stream(self, x: Any) -> Iterator[Any]:
            yield x
            yield x * 2

    model = served(Both())
    assert model.decoupled
    assert model.predict({"x": ROWS}, ["y"], {})["y"].tolist() == ROWS.tolist()
    assert len(list(model.stream({"x": ROWS}, ["y"], {}))) == 2


def test_a_plain_function_streams_its_one_answer() -> None:
    model = served(function(inputs=X, outputs=Y)(by_input_name))
    assert [piece["y"].tolist() for piece in model.stream({"x": ROWS}, ["y"], {})] == [[[2, 4], [6, 8]]]


def test_closing_cancels_what_an_async_function_left_running() -> None:
    story = []

    @function(inputs=X, outputs=Y)
    async def leaves_a_task(x: Any) -> Any:
        began = asyncio.Event()

        async def forever() -> None:
            try:
                began.set()
                await asyncio.Event().wait()
            finally:
                story.append("cancelled")

        self_held.append(asyncio.ensure_future(forever()))
        await began.wait()
        return x

    self_held: list[Any] = []
    assert answer(leaves_a_task)["y"].tolist() == ROWS.tolist()
    assert story == ["cancelled"]
