"""MLflow models as Models: what each kind announces and answers, and whose fault it is when it does not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import pytest

pytest.importorskip("mlflow", reason="the mlflow extra is not installed")

import mlflow
from mlflow.models import infer_signature
from mlflow.models.signature import ModelSignature
from mlflow.types.schema import ColSpec, Schema, TensorSpec
from oipserver_mlflow import MlflowRuntime

from oipserver import BYTES, FP32, FP64, INT32, INT64, Array, Datatype, InvalidInput, Model, ModelConfig
from oipserver.core.errors import BadRequest, Fault, InferenceFailed
from oipserver.core.messages import InferenceRequest, InferenceResponse, Tensor
from tests.runtimes import mlflow_models
from tests.runtimes.mlflow_models import FRAME, TWO, X, Y, python_model, returning, save
from tests.support import Plane, outcome, run

ROWS = X[[0, 60, 140]]


def load(path: Path, trust: bool = True, **parameters: object) -> Model:
    config = ModelConfig(name="m", runtime="mlflow", trust_pickle=trust, parameters=parameters)
    return MlflowRuntime().load(path, config)


async def answer_of(
    model: Model, tensors: dict[str, Array], parameters: dict[str, Any] | None = None, **outputs: Any
) -> InferenceResponse:
    """The answer through the data plane, whose contract holds the model to what it announces."""
    datatypes = {"f4": FP32, "f8": FP64, "i4": INT32, "i8": INT64}
    listed = [
        Tensor(name, datatypes.get(array.dtype.str[1:], BYTES), array) for name, array in tensors.items()
    ]
    request = InferenceRequest(
        "m", listed, "1", time.monotonic() + 30, parameters=parameters or {}, **outputs
    )
    async with Plane({"m": model}) as plane:
        return await plane.data.infer(request)


def ask(model: Model, tensors: dict[str, Array], *parameters: Any, **outputs: Any) -> InferenceResponse:
    return run(answer_of(model, tensors, *parameters, **outputs))


def refused(model: Model, tensors: dict[str, Array], **parameters: Any) -> Fault:
    with pytest.raises(Fault) as caught:
        ask(model, tensors, parameters)
    return caught.value


def texts(*values: str) -> Array:
    return np.array([[value.encode()] for value in values], dtype=object)


def two(rows: int) -> dict[str, Array]:
    return {"a": np.ones((rows, 1)), "b": np.zeros((rows, 1))}


# What `predict` returns for so many rows; the announced outputs; what is answered for three rows.
RETURNS: list[tuple[Callable[[int], Any], list[tuple[str, Datatype, tuple[int, ...]]], list[Any]]] = [
    (lambda n: np.arange(n), [("output-1", INT64, (-1, 1))], [[[0], [1], [2]]]),
    (lambda n: np.zeros((n, 2), np.float32), [("output-1", FP32, (-1, 2))], [[[0, 0]] * 3]),
    (lambda n: np.array(["x"] * n), [("output-1", BYTES, (-1, 1))], [[[b"x"]] * 3]),
    (lambda n: np.array([b"\xff"] * n), [("output-1", BYTES, (-1, 1))], [[[b"\xff"]] * 3]),
    (lambda n: pd.Series(np.ones(n)), [("output-1", FP64, (-1, 1))], [[[1.0]] * 3]),
    (lambda n: pd.Series(["x"] * n, name="label"), [("label", BYTES, (-1, 1))], [[[b"x"]] * 3]),
    (
        lambda n: pd.DataFrame({"p": np.ones(n), "q": ["x"] * n, "r": pd.to_datetime(["2024-01-02"] * n)}),
        [("p", FP64, (-1, 1)), ("q", BYTES, (-1, 1)), ("r", BYTES, (-1, 1))],
        [[[1.0]] * 3, [[b"x"]] * 3, [[b"2024-01-02T00:00:00.000000"]] * 3],
    ),
    (lambda n: pd.DataFrame(np.ones((n, 2))), [("output-1", FP64, (-1, 2))], [[[1.0, 1.0]] * 3]),
    (lambda n: [0.5] * n, [("output-1", FP64, (-1, 1))], [[[0.5]] * 3]),
    (lambda n: ["x"] * n, [("output-1", BYTES, (-1, 1))], [[[b"x"]] * 3]),
    (lambda n: [[1, 2]] * n, [("output-1", INT64, (-1, 2))], [[[1, 2]] * 3]),
    (lambda n: [{"k": 1}] * n, [("output-1", BYTES, (-1, 1))], [[[b'{"k": 1}']] * 3]),
    (
        lambda n: [list(range(k)) for k in range(n)],
        [("output-1", BYTES, (-1, 1))],
        [[[b"[]"], [b"[0]"], [b"[0, 1]"]]],
    ),
    (
        lambda n: {"p": np.ones((n, 2)), "q": np.arange(n)},
        [("p", FP64, (-1, 2)), ("q", INT64, (-1, 1))],
        [[[1.0, 1.0]] * 3, [[0], [1], [2]]],
    ),
    (lambda n: 0.5, [("output-1", FP64, (1,))], [[0.5]]),
    (lambda n: "done", [("output-1", BYTES, (1,))], [[b"done"]]),
    (lambda n: np.float32(2), [("output-1", FP32, (1,))], [[2.0]]),
    (lambda n: {"n": n, "of": "rows"}, [("n", INT64, (1,)), ("of", BYTES, (1,))], [[3], [b"rows"]]),
]  # fmt: skip


@pytest.mark.parametrize(("value", "announced", "answered"), RETURNS)
def test_every_return_type(
    tmp_path: Path, value: Callable[[int], Any], announced: list[Any], answered: list[Any]
) -> None:
    model = load(returning(value)(tmp_path / "m"))
    assert [(each.name, each.datatype, each.shape) for each in model.outputs] == announced
    answer = ask(model, two(3))
    assert [tensor.name for tensor in answer.outputs] == [name for name, _, _ in announced]
    assert [tensor.data.tolist() for tensor in answer.outputs] == answered


def test_a_model_that_returns_none_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="returned None"):
        load(returning(lambda rows: None)(tmp_path / "m"))


def test_none_for_a_request_is_the_models_failure(tmp_path: Path) -> None:
    model = load(returning(lambda rows: np.ones(rows) if rows != 5 else None)(tmp_path / "m"), batchable=True)
    assert isinstance(refused(model, two(5)), InferenceFailed)


def test_an_answer_of_another_datatype_is_the_models_failure(tmp_path: Path) -> None:
    model = load(returning(lambda rows: np.ones(rows, int if rows != 5 else float))(tmp_path / "m"))
    assert isinstance(refused(model, two(5)), InferenceFailed)


def test_the_signature_decides_between_datatypes_of_a_kind(tmp_path: Path) -> None:
    outputs = Schema([TensorSpec(np.dtype(np.float32), (-1,))])
    signature = ModelSignature(inputs=TWO, outputs=outputs)
    model = load(python_model(tmp_path / "m", lambda data, params: data["a"].to_numpy(), signature=signature))
    assert model.outputs[0].datatype is FP32
    assert ask(model, two(2)).outputs[0].data.dtype == np.float32


def test_the_specifications_iris(tmp_path: Path) -> None:
    model = load(mlflow_models.iris(tmp_path / "m"))
    (declared,), (output,) = model.inputs, model.outputs
    assert (declared.name, declared.datatype, declared.shape) == ("input-0", FP64, (-1, 4))
    assert (output.name, output.datatype, output.shape) == ("output-1", INT64, (-1, 1))
    assert model.batchable
    assert ask(model, {"input-0": ROWS}).outputs[0].data.tolist() == [[0], [1], [2]]


@pytest.mark.parametrize("make", [mlflow_models.iris_frame, mlflow_models.unsigned_iris])
def test_columns_of_one_type_come_as_columns_as_a_matrix_or_as_rows(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    model = load(make(tmp_path / "m"))
    assert [tensor.name for tensor in model.inputs] == list(FRAME.columns)
    columns = {name: ROWS[:, [place]] for place, name in enumerate(FRAME.columns)}
    rows = texts(*(json.dumps(dict(zip(FRAME.columns, row, strict=True))) for row in ROWS.tolist()))
    answers = [ask(model, form).outputs[0].data for form in (columns, {"input-0": ROWS}, {"rows": rows})]
    assert (answers[0] == answers[1]).all()
    assert (answers[0] == answers[2]).all()


def test_mixed_columns_optional_ones_and_nulls(tmp_path: Path) -> None:
    model = load(mlflow_models.cities(tmp_path / "m"))
    assert [(each.name, each.datatype, each.optional) for each in model.inputs] == [
        ("city", BYTES, False),
        ("age", FP64, False),
        ("rooms", INT64, True),
    ]
    columns = {"city": texts("Rome", "Oslo"), "age": np.array([[3.5], [17.0]])}
    assert ask(model, columns).outputs[0].data.tolist() == [[b"young"], [b"old"]]
    assert ask(model, {**columns, "rooms": np.ones((2, 1), int)}).outputs[0].data.tolist() == [
        [b"young"],
        [b"old"],
    ]
    rows = texts('{"city": null, "age": 3.5}')
    assert ask(model, {"rows": rows}).outputs[0].data.tolist() == [[b"young"]]


def test_an_example_that_was_logged_is_what_a_picky_model_is_tried_with(tmp_path: Path) -> None:
    def picky(data: Any, params: Any) -> Any:
        if (data["a"] != 7).any():
            raise ValueError("a must be 7")
        return {"score": data["a"].to_numpy()}

    signature = ModelSignature(inputs=TWO)
    example = pd.DataFrame({"a": [7.0], "b": [0.0]})
    model = load(python_model(tmp_path / "m", picky, signature=signature, input_example=example))
    assert [each.name for each in model.outputs] == ["score"]
    fault = refused(model, two(2))
    assert isinstance(fault, InvalidInput)
    assert fault.message == "a must be 7"


def test_a_model_that_takes_no_made_up_rows_answers_json(tmp_path: Path) -> None:
    def picky(data: Any, params: Any) -> Any:
        return {
            "seen": {"a": [10 / (value - 7) / value for value in data["a"] if value > 1]},
            "b": 1 / sum(data["b"]),
        }

    model = load(
        python_model(
            tmp_path / "m",
            picky,
            signature=ModelSignature(inputs=Schema([ColSpec("string", "a"), ColSpec("string", "b")])),
        )
    )
    assert [(each.name, each.shape) for each in model.outputs] == [("predictions", (1,))]
    assert isinstance(refused(model, {"a": texts("x"), "b": texts("y")}), InvalidInput)


def test_moments_bytes_and_objects(tmp_path: Path) -> None:
    model = load(mlflow_models.moments(tmp_path / "m"))
    tensors = {
        "when": texts("2024-05-06T07:08:09", "2000-01-01T00:30:00+01:00"),  # 1999 in UTC
        "raw": np.array([[b"abc"], [b"\xff"]], dtype=object),
        "who": texts('{"name": "Ann", "marks": [1.5]}', '{"name": "Bo", "marks": []}'),
    }
    answer = {tensor.name: tensor.data.ravel().tolist() for tensor in ask(model, tensors).outputs}
    assert answer == {"year": [2024, 1999], "size": [3, 1], "name": [b"Ann1", b"Bo0"]}
    for name, wrong in (("when", "soon"), ("who", "{"), ("who", '{"name": 1, "marks": []}')):
        fault = refused(model, {**tensors, name: texts(wrong, wrong)})
        assert type(fault) is BadRequest, fault


def test_named_tensors_come_as_a_dictionary(tmp_path: Path) -> None:
    model = load(mlflow_models.named_tensors(tmp_path / "m"))
    tensors = {"image": np.ones((2, 2, 3), np.float32), "bias": np.array([0.5, 1.5], np.float32)}
    assert ask(model, tensors).outputs[0].data.tolist() == [[1.5], [2.5]]


def test_type_hints_make_a_list(tmp_path: Path) -> None:
    model = load(mlflow_models.hinted(tmp_path / "m"))
    assert ask(model, {"input-0": texts("a", "é")}).outputs[0].data.tolist() == [[b"A"], ["É".encode()]]


def test_without_a_signature_everything_is_answered_whole_too(tmp_path: Path) -> None:
    model = load(mlflow_models.unsigned(tmp_path / "m"))
    assert not model.has_batch_axis
    assert ask(model, {"input-0": ROWS}).outputs[0].data.tolist() == (ROWS * 2).tolist()
    assert type(refused(model, {"rows": texts('{"a": "x"}')})) is BadRequest
    (whole,) = ask(model, {"rows": texts('{"a": 1, "t": "x"}')}, outputs=["predictions"]).outputs
    assert json.loads(whole.data[0]) == [{"a": 1, "t": "x"}]


def test_parameters_have_defaults_and_types(tmp_path: Path) -> None:
    model = load(mlflow_models.table_with_params(tmp_path / "m"))
    assert [each["name"] for each in model.parameters["params"]] == ["factor", "tag", "list"]  # type: ignore[attr-defined]
    assert ask(model, two(1)).outputs[0].data.tolist() == [[2.0]]
    answer = ask(model, two(1), {"factor": 3.0, "tag": "x", "list": "[1, 2, 3]"})
    assert [tensor.data.tolist() for tensor in answer.outputs] == [[[3.0]], [[b"x"]], [[3]]]
    fault = refused(model, two(1), factor="much")
    assert type(fault) is BadRequest
    assert "factor" in fault.message


def test_mlflows_own_refusal_is_a_400_and_a_bug_is_not_told(tmp_path: Path) -> None:
    def strict(data: Any, params: Any) -> Any:
        import mlflow.exceptions

        if data["a"][0] == 1:
            raise mlflow.exceptions.MlflowException.invalid_parameter_value("a must not be 1")
        if data["a"][0] == 2:
            raise KeyError("a secret of the model")
        return data["a"]

    model = load(python_model(tmp_path / "m", strict, signature=ModelSignature(inputs=TWO)))
    fault = refused(model, two(1))
    assert (type(fault), fault.message) == (BadRequest, "a must not be 1")
    fault = refused(model, {**two(1), "a": np.full((1, 1), 2.0)})
    assert isinstance(fault, InferenceFailed)
    assert "secret" not in fault.message


def test_rows_of_callers_are_merged_for_libraries_and_on_demand(tmp_path: Path) -> None:
    custom = returning(lambda rows: np.ones(rows))(tmp_path / "custom")
    assert not load(custom).batchable
    assert load(custom, batchable=True).batchable
    assert not load(mlflow_models.iris(tmp_path / "iris"), batchable=False).batchable
    with pytest.raises(ValueError, match="batchable"):
        load(custom, batchable="yes")


def test_where_the_mlmodel_file_may_be(tmp_path: Path) -> None:
    folder = mlflow_models.iris(tmp_path / "run" / "model")
    for path in (folder, folder / "MLmodel", folder.parent):
        assert load(path).outputs[0].name == "output-1"
    with pytest.raises(FileNotFoundError, match="no MLmodel"):
        load(tmp_path)
    mlflow_models.iris(tmp_path / "run" / "other")
    with pytest.raises(ValueError, match="model, other"):
        load(folder.parent)


def test_what_was_fetched_is_loaded_only_when_it_is_trusted(tmp_path: Path) -> None:
    witness = tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> Any:
            return Path.touch, (witness,)

    folder = python_model(tmp_path / "m", lambda data, params: data)
    pickled = cloudpickle.dumps(Hostile())
    (folder / "python_model.pkl").write_bytes(pickled)
    with pytest.raises(ValueError, match="trust"):
        load(folder, trust=False)
    assert not witness.exists()


def test_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = mlflow_models.iris(tmp_path / "m")
    text = (folder / "MLmodel").read_text()
    (folder / "MLmodel").write_text(
        text.replace("loader_module: mlflow.sklearn", "loader_module: no_such_flavor")
    )
    with pytest.raises(ImportError, match="'no_such_flavor'"):
        load(folder)
    (folder / "MLmodel").write_text(text.replace("python_function:", "other:"))
    with pytest.raises(ValueError, match="python_function"):
        load(folder)


def test_a_loaded_model_is_wrapped(tmp_path: Path) -> None:
    config = ModelConfig(name="m", runtime="mlflow")
    wrapped = MlflowRuntime().wrap(mlflow.pyfunc.load_model(str(mlflow_models.iris(tmp_path / "m"))), config)
    assert wrapped is not None
    assert wrapped.outputs[0].name == "output-1"
    assert MlflowRuntime().wrap(object(), config) is None


# --- flavors -----------------------------------------------------------------------------------------------


def xgboost_model(path: Path) -> Path:
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed")
    import mlflow.xgboost

    model = xgboost.XGBClassifier(n_estimators=3, max_depth=2, n_jobs=1).fit(FRAME, Y)
    return save(
        path, mlflow.xgboost.save_model, model, signature=infer_signature(FRAME, model.predict(FRAME))
    )


def booster(path: Path) -> Path:
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed")
    import mlflow.xgboost

    model = xgboost.train({"max_depth": 2, "nthread": 1}, xgboost.DMatrix(X, Y), num_boost_round=3)
    return save(path, mlflow.xgboost.save_model, model, signature=infer_signature(X))


def lightgbm_model(path: Path) -> Path:
    lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed")
    import mlflow.lightgbm

    model = lightgbm.LGBMClassifier(n_estimators=3, n_jobs=1, verbose=-1).fit(X, Y)
    return save(path, mlflow.lightgbm.save_model, model, signature=infer_signature(X, model.predict(X)))


def torch_model(path: Path) -> Path:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    import mlflow.pytorch

    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    signature = infer_signature(X.astype(np.float32), np.zeros((150, 3), np.float32))
    return save(path, mlflow.pytorch.save_model, model, signature=signature, serialization_format="pickle")


def tensorflow_model(path: Path) -> Path:
    tensorflow = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    import mlflow.tensorflow

    model = tensorflow.keras.Sequential([tensorflow.keras.Input((4,)), tensorflow.keras.layers.Dense(3)])
    signature = infer_signature(X.astype(np.float32), np.zeros((150, 3), np.float32))
    return save(path, mlflow.tensorflow.save_model, model, signature=signature)


FLAVORS = [mlflow_models.iris, xgboost_model, booster, lightgbm_model, torch_model, tensorflow_model]


@pytest.mark.parametrize("make", FLAVORS)
def test_every_flavor_answers_as_mlflow_does_and_blames_the_caller(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    folder = make(tmp_path / "m")
    model = load(folder)
    dtype = model.inputs[0].datatype.dtype
    expected = np.asarray(mlflow.pyfunc.load_model(str(folder)).predict(_data(model, ROWS.astype(dtype))))
    (output,) = ask(model, {"input-0": ROWS.astype(dtype)}).outputs
    assert model.batchable
    assert output.name == "output-1"
    assert output.data.dtype == expected.dtype
    np.testing.assert_allclose(output.data.reshape(expected.shape), expected, rtol=1e-6)
    for wrong in (ROWS[:, :3], ROWS[:0], ROWS[np.newaxis], np.array([["a", "b", "c", "d"]], dtype=object)):
        fault = refused(model, {"input-0": wrong})
        assert type(fault) is BadRequest, fault
    with_nan = run(outcome(answer_of(model, {"input-0": np.full((2, 4), np.nan, dtype)})))
    assert isinstance(with_nan, InferenceResponse | BadRequest)


def _data(model: Model, rows: Array) -> Any:
    return pd.DataFrame(rows, columns=FRAME.columns) if len(model.inputs) > 1 else rows
