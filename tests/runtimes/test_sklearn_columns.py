"""Models of named mixed columns, and of texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from oipserver_sklearn import SklearnRuntime
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from oipserver import BOOL, BYTES, FP64, Array, InvalidInput, Model, ModelConfig

FRAME = pd.DataFrame(
    {
        "age": [20.0, np.nan, 40.0, 50.0, 31.0, 62.0],
        "fare": [7.2, 71.0, 8.0, 53.1, 8.4, 11.1],
        "deck": [3, 1, 3, 2, 1, 2],
        "port": ["Ūtena", "Cork", "Ūtena", "Cork", "Ūtena", "Cork"],
        "alone": [True, False, True, False, False, True],
        "ticket": ["a1", "b2", "c3", "d4", "e5", "f6"],
    }
)
SURVIVED = np.array([0, 1, 1, 0, 1, 0])

PREPARE = ColumnTransformer(
    [
        ("age", make_pipeline(SimpleImputer(), StandardScaler()), ["age"]),
        ("number", StandardScaler(), ["fare"]),
        ("category", OneHotEncoder(), ["port", "deck", "alone"]),
    ]
)


def wrap(estimator: Any) -> Model:
    model = SklearnRuntime().wrap(estimator, ModelConfig(name="test", runtime="sklearn"))
    assert model is not None
    return model


def tensors(model: Model, frame: pd.DataFrame) -> dict[str, Array]:
    """The rows of a frame, as a request brings them."""

    def column(name: str) -> Array:
        if frame[name].dtype.kind in "biuf":
            return np.asarray(frame[[name]])
        return np.array([[value.encode()] for value in frame[name]], dtype=object)

    return {
        tensor.name: column(tensor.name).astype(tensor.datatype.dtype, copy=False) for tensor in model.inputs
    }


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return make_pipeline(PREPARE, LogisticRegression()).fit(FRAME, SURVIVED)


def test_one_input_per_column_that_is_read(pipeline: Any) -> None:
    model = wrap(pipeline)
    assert {tensor.name: tensor.datatype for tensor in model.inputs} == {
        "age": FP64,
        "fare": FP64,
        "deck": FP64,
        "port": BYTES,
        "alone": BOOL,
    }
    assert {tensor.shape for tensor in model.inputs} == {(-1, 1)}
    assert model.named_inputs == ()


def test_answers_as_the_pipeline_itself(pipeline: Any) -> None:
    model = wrap(pipeline)
    answers = model.predict(tensors(model, FRAME), ["predict", "predict_proba", "decision_function"], {})
    assert answers["predict"].dtype == np.int64
    assert answers["predict"].tolist() == pipeline.predict(FRAME).reshape(-1, 1).tolist()
    np.testing.assert_allclose(answers["predict_proba"], pipeline.predict_proba(FRAME), rtol=1e-12)
    assert answers["decision_function"].shape == (6, 1)


def test_nan_is_allowed_column_by_column(pipeline: Any) -> None:
    allowed = {t.name: t.allow_nan for t in wrap(pipeline).inputs if t.datatype is FP64}
    assert allowed == {"age": True, "fare": False, "deck": False}


def test_the_example_is_a_valid_row(pipeline: Any) -> None:
    model = wrap(pipeline)
    assert model.example is not None
    assert model.example["port"].tolist() == [[b"Cork"]]
    assert model.example["deck"].tolist() == [[1.0]]
    assert model.predict(model.example, ["predict"], {})["predict"].shape == (1, 1)


def test_an_unknown_category_is_the_callers_fault(pipeline: Any) -> None:
    model = wrap(pipeline)
    rows = tensors(model, FRAME[:1])
    rows["port"] = np.array([[b"Mars"]], dtype=object)
    with pytest.raises(InvalidInput, match=r"unknown categories.*Mars"):
        model.predict(rows, ["predict"], {})


def test_text_must_be_utf8(pipeline: Any) -> None:
    model = wrap(pipeline)
    rows = tensors(model, FRAME[:1])
    rows["port"] = np.array([[b"\xff\xfe"]], dtype=object)
    with pytest.raises(InvalidInput, match="input 'port' holds text that is not valid UTF-8"):
        model.predict(rows, ["predict"], {})


def test_a_search_over_such_a_pipeline_has_the_same_inputs(pipeline: Any) -> None:
    search = GridSearchCV(make_pipeline(PREPARE, LogisticRegression()), {"logisticregression__C": [1]}, cv=2)
    assert wrap(search.fit(FRAME, SURVIVED)).inputs == wrap(pipeline).inputs


def test_columns_chosen_by_type_and_left_over() -> None:
    prepare = ColumnTransformer(
        [("text", OrdinalEncoder(), make_column_selector(dtype_include=["object", "string"]))],
        remainder="passthrough",
    )
    model = wrap(prepare.fit(FRAME[["deck", "port", "fare"]]))
    assert [(t.name, t.datatype) for t in model.inputs] == [("deck", FP64), ("port", BYTES), ("fare", FP64)]
    answer = model.predict(tensors(model, FRAME), ["transform"], {})["transform"]
    np.testing.assert_array_equal(answer, prepare.transform(FRAME).astype(float))
    assert answer.dtype == np.float64


def test_unnamed_columns_that_nobody_reads() -> None:
    rows = np.arange(24.0).reshape(6, 4) % 7
    prepare = ColumnTransformer([("some", StandardScaler(), [0, 2])], remainder="drop")
    pipeline = make_pipeline(prepare, LogisticRegression()).fit(rows, [0, 1] * 3)
    model = wrap(pipeline)
    assert [tensor.shape for tensor in model.inputs] == [(-1, 4)]
    answer = model.predict({model.inputs[0].name: rows}, ["predict"], {})["predict"]
    np.testing.assert_array_equal(answer.ravel(), pipeline.predict(rows))


def test_text_behind_an_imputer() -> None:
    impute = make_pipeline(SimpleImputer(strategy="constant", fill_value="none"), OneHotEncoder())
    prepare = ColumnTransformer([("text", impute, ["port"]), ("number", "passthrough", ["fare"])])
    model = wrap(prepare.fit(FRAME))
    assert [(t.name, t.datatype) for t in model.inputs] == [("fare", FP64), ("port", BYTES)]
    assert model.outputs[0].shape == (-1, 3)


def test_an_encoder_of_a_frame() -> None:
    encoder = OrdinalEncoder().fit(FRAME[["port", "deck"]])
    model = wrap(encoder)
    assert [t.datatype for t in model.inputs] == [BYTES, FP64]
    answer = model.predict(tensors(model, FRAME), ["transform"], {})["transform"]
    np.testing.assert_array_equal(answer, encoder.transform(FRAME[["port", "deck"]]))


def test_an_encoder_of_unnamed_texts_takes_one_matrix() -> None:
    encoder = OneHotEncoder().fit(np.array([["a", "x"], ["b", "y"]], dtype=object))
    model = wrap(encoder)
    assert [(t.name, t.datatype, t.shape) for t in model.inputs] == [("input-0", BYTES, (-1, 2))]
    answer = model.predict({"input-0": np.array([[b"b", b"x"]], dtype=object)}, ["transform"], {})
    assert answer["transform"].tolist() == [[0.0, 1.0, 1.0, 0.0]]


def test_unnamed_mixed_columns_are_refused() -> None:
    encoder = OneHotEncoder().fit(np.array([["a", 1], ["b", 2]], dtype=object))
    with pytest.raises(ValueError, match="unnamed columns of text and numbers: fit it on a data frame"):
        wrap(encoder)


def test_boosting_with_categories_of_text() -> None:
    frame = FRAME[["fare", "port"]].assign(port=FRAME["port"].astype("category"))
    frame = pd.concat([frame] * 10, ignore_index=True)
    boosting = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2)
    boosting.fit(frame, frame["port"] == "Cork")
    model = wrap(boosting)
    assert [(t.name, t.datatype) for t in model.inputs] == [("fare", FP64), ("port", BYTES)]
    rows = tensors(model, FRAME)
    assert (
        model.predict(rows, ["predict"], {})["predict"][:, 0].tolist() == (FRAME["port"] == "Cork").tolist()
    )


def test_columns_of_numbers_only_are_one_matrix_or_named() -> None:
    prepare = ColumnTransformer([("scale", StandardScaler(), ["fare"]), ("keep", "passthrough", ["deck"])])
    model = wrap(prepare.fit(FRAME[["deck", "fare"]]))
    assert [(t.name, t.shape) for t in model.inputs] == [("input-0", (-1, 2))]
    assert [t.name for t in model.named_inputs] == ["deck", "fare"]
    answer = model.predict({"input-0": FRAME[["deck", "fare"]].to_numpy()}, ["transform"], {})["transform"]
    np.testing.assert_allclose(answer, prepare.transform(FRAME[["deck", "fare"]]))


DOCUMENTS = ["you are kind", "what a lovely day", "you are awful", "horrible, awful day"]
TOXIC = np.array(["no", "no", "yes", "yes"])


@pytest.mark.parametrize(
    "reader",
    [
        TfidfVectorizer(),
        CountVectorizer(),
        HashingVectorizer(n_features=64),
        FeatureUnion([("words", TfidfVectorizer()), ("letters", TfidfVectorizer(analyzer="char"))]),
    ],
)
def test_a_text_pipeline_takes_documents(reader: Any) -> None:
    pipeline = make_pipeline(reader, LogisticRegression()).fit(DOCUMENTS, TOXIC)
    model = wrap(pipeline)
    assert [(t.name, t.datatype, t.shape) for t in model.inputs] == [("input-0", BYTES, (-1, 1))]
    texts = ["you are awful", "lovely ☀", ""]
    documents = np.array([[text.encode()] for text in texts], dtype=object)
    answers = model.predict({"input-0": documents}, ["predict", "predict_proba"], {})
    assert answers["predict"].tolist() == [[label.encode()] for label in pipeline.predict(texts)]
    np.testing.assert_allclose(answers["predict_proba"], pipeline.predict_proba(texts))


def test_a_document_must_be_utf8() -> None:
    model = wrap(make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(DOCUMENTS, TOXIC))
    with pytest.raises(InvalidInput, match="input 'input-0' holds text that is not valid UTF-8"):
        model.predict({"input-0": np.array([[b"\xc3\x28"]], dtype=object)}, ["predict"], {})


def test_text_and_numbers_side_by_side() -> None:
    frame = pd.DataFrame({"body": DOCUMENTS, "length": [12.0, 17.0, 13.0, 19.0]})
    prepare = ColumnTransformer(
        [("words", TfidfVectorizer(), "body"), ("size", StandardScaler(), ["length"])]
    )
    pipeline = make_pipeline(prepare, LogisticRegression()).fit(frame, TOXIC)
    model = wrap(pipeline)
    assert [(t.name, t.datatype) for t in model.inputs] == [("body", BYTES), ("length", FP64)]
    answer = model.predict(tensors(model, frame), ["predict"], {})["predict"]
    assert answer[:, 0].tolist() == [label.encode() for label in pipeline.predict(frame)]
