"""What the columns of the training data held, as far as the fitted estimator still knows.

Encoders remember their categories and imputers their fill values; a column of which nothing is remembered
is a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from oipserver import BOOL, BYTES, FP64, Datatype
from oipserver_sklearn.kinds import is_a

if TYPE_CHECKING:
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

PIPELINE = "sklearn.pipeline.Pipeline"
COLUMN_TRANSFORMER = "sklearn.compose.ColumnTransformer"
SIMPLE_IMPUTER = "sklearn.impute.SimpleImputer"
VECTORIZERS = tuple(
    f"sklearn.feature_extraction.text.{name}" for name in ("CountVectorizer", "HashingVectorizer")
)

Value: TypeAlias = bool | float | str


@dataclass(frozen=True, slots=True)
class Column:
    """One column that the estimator reads.

    Attributes:
        example: a value that it may hold; None where any number will do.
    """

    datatype: Datatype = FP64
    example: Value | None = None


ANY_NUMBER = Column()
Columns: TypeAlias = list[Column | None]  # None stands for a column that is dropped unread


def recall(estimator: Any, attribute: str) -> Any:
    """A fitted attribute of the estimator, or of the first of its parts that see its input; else None."""
    found = getattr(estimator, attribute, None)
    if found is None and (parts := parts_of(estimator)):
        return recall(parts[0], attribute)
    return found


def likely_width(estimator: Any) -> int:
    """Columns for a trial where the first step does not tell: what a later step takes, else 1."""
    steps = _steps(estimator) if is_a(estimator, PIPELINE) else []
    return next((width for step in steps if (width := recall(step, "n_features_in_"))), 1)


def entry_of(estimator: Any) -> Any:
    """The innermost estimator that sees the input first."""
    parts = parts_of(estimator)
    return entry_of(parts[0]) if parts else estimator


def reads_text(estimator: Any) -> bool:
    """Whether the input is a list of documents, not a table."""
    return is_a(entry_of(estimator), *VECTORIZERS)


def columns_of(estimator: Any, width: int) -> Columns:
    """The `width` columns that `estimator` was fitted on."""
    if is_a(estimator, COLUMN_TRANSFORMER):
        return _of_column_transformer(estimator, width)
    if is_a(estimator, PIPELINE):
        return _of_pipeline(estimator, width)
    own = _own_columns(estimator)
    if len(own) == width:
        return own
    found: Columns = [None] * width
    for part in parts_of(estimator):
        found = _merged(found, columns_of(part, width))
    return found if parts_of(estimator) else [ANY_NUMBER] * width


def parts_of(estimator: Any) -> list[Any]:
    """The fitted estimators inside `estimator` that are given its input as it comes."""
    if is_a(estimator, PIPELINE):
        return _steps(estimator)[:1]
    if is_a(estimator, "sklearn.pipeline.FeatureUnion"):
        return [part for _, part in estimator.transformer_list if not isinstance(part, str)]
    if is_a(estimator, "sklearn.frozen.FrozenEstimator"):
        return [estimator.estimator]
    for attribute in ("best_estimator_", "regressor_", "_preprocessor"):
        if getattr(estimator, attribute, None) is not None:
            return [getattr(estimator, attribute)]
    if calibrated := getattr(estimator, "calibrated_classifiers_", None):
        return [pair.estimator for pair in calibrated]
    several = getattr(estimator, "estimators_", None)
    return [part for part in several if hasattr(part, "fit")] if isinstance(several, list) else []


def _steps(pipeline: Pipeline) -> list[Any]:
    return [step for _, step in pipeline.steps if step is not None and step != "passthrough"]


def _of_pipeline(pipeline: Pipeline, width: int) -> Columns:
    """Of the first step, and of what follows for as long as imputers leave the columns in their places."""
    steps = _steps(pipeline)
    found: Columns = columns_of(steps[0], width) if steps else [ANY_NUMBER] * width
    for step, following in pairwise(steps):
        if not is_a(step, SIMPLE_IMPUTER):
            break
        found = _merged(columns_of(following, width), found)
    return found


def _of_column_transformer(transformer: ColumnTransformer, width: int) -> Columns:
    found: Columns = [None] * width
    for name, part, _ in transformer.transformers_:
        if isinstance(part, str) and part == "drop":
            continue
        # The positions are resolved nowhere else: `transformers_` keeps names, slices and masks as given.
        positions = transformer._transformer_to_input_indices[name]
        for position, column in zip(positions, _of_part(part, len(positions)), strict=True):
            found[position] = _better(found[position], column)
    return found


def _of_part(part: Any, width: int) -> Columns:
    if isinstance(part, str):  # "passthrough"
        return [ANY_NUMBER] * width
    return [Column(BYTES, "word")] * width if reads_text(part) else columns_of(part, width)


def _own_columns(estimator: Any) -> Columns:
    if is_a(estimator, SIMPLE_IMPUTER):
        return [_of_values([value]) for value in estimator.statistics_]
    categories = getattr(estimator, "categories_", None)
    return [_of_values(values) for values in categories] if isinstance(categories, list) else []


def _of_values(values: Iterable[Any]) -> Column:
    """A column of these values: text as soon as one of them is text."""
    known = [value.item() if hasattr(value, "item") else value for value in values]
    texts = [value for value in known if isinstance(value, str)]
    if texts:
        return Column(BYTES, texts[0])
    if known and all(isinstance(value, bool) for value in known):
        return Column(BOOL, known[0])
    # Integer categories are compared by value, so that FP64 serves them too; NaN is no example.
    numbers = [float(value) for value in known if isinstance(value, int | float) and value == value]
    return Column(FP64, numbers[0]) if numbers else ANY_NUMBER


def _merged(preferred: Sequence[Column | None], other: Sequence[Column | None]) -> Columns:
    return [_better(*pair) for pair in zip(preferred, other, strict=True)]


def _better(preferred: Column | None, other: Column | None) -> Column | None:
    """The one that knows more: a known example, then a number, then nothing."""
    if preferred is None or (preferred is ANY_NUMBER and other is not None):
        return other
    return preferred
