"""Tensors as a user declares them: `Input` and `Output` in code, the same words in a configuration file.

Both of these say the same:

    Input("age", "FP64", [-1, 1], minimum=0, maximum=130)
    {"name": "age", "datatype": "FP64", "shape": [-1, 1], "minimum": 0, "maximum": 130}
"""

from __future__ import annotations

import inspect
import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

import numpy as np

from oipserver.core.constraint import Category, Constraint
from oipserver.core.datatypes import BOOL, BYTES, DATATYPES, Datatype
from oipserver.core.errors import printable
from oipserver.core.messages import TensorMetadata

_MAX_RANK = 32
_LARGEST = sys.float_info.max


def Input(  # noqa: N802  reads as what it declares
    name: str,
    datatype: str | Datatype,
    shape: Sequence[int],
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    categories: Sequence[Category] = (),
    min_length: int | None = None,
    max_length: int | None = None,
    optional: bool = False,
    allow_nan: bool = True,
    description: str = "",
) -> TensorMetadata:
    """What a request brings.

    Args:
        datatype: "FP64", "BYTES", ... or the constant of that name.
        shape: the full shape, -1 for any size.
        minimum, maximum: of every number, both included.
        categories: the only values that may occur.
        min_length, max_length: bytes of every element of a BYTES tensor.
        optional: a request may leave it out.
        allow_nan: False refuses NaN and infinities.
        description: for people who read the metadata.

    Raises:
        ValueError: a declaration that makes no sense, naming the tensor and the word.
    """
    constraint = Constraint(minimum, maximum, _tuple(name, categories), min_length, max_length)
    return _declare("input", name, datatype, shape, constraint, optional, allow_nan, description)


def Output(  # noqa: N802
    name: str,
    datatype: str | Datatype,
    shape: Sequence[int],
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    categories: Sequence[Category] = (),
    min_length: int | None = None,
    max_length: int | None = None,
    description: str = "",
) -> TensorMetadata:
    """What an answer holds; as `Input`.  An answer that breaks it is the model's failure."""
    constraint = Constraint(minimum, maximum, _tuple(name, categories), min_length, max_length)
    return _declare("output", name, datatype, shape, constraint, False, True, description)


def declared(given: object, place: str, make: Callable[..., TensorMetadata]) -> tuple[TensorMetadata, ...]:
    """A list of declarations: what `make` made, or mappings of its arguments, as in a configuration file.

    Args:
        place: what a message calls the list, e.g. "parameters.inputs".
        make: `Input` or `Output`.

    Raises:
        ValueError: naming the place, and what is wrong there; two with one name are wrong, too.
    """
    if not isinstance(given, list | tuple):
        raise ValueError(f"{place}: expected a list of tensors, got a {type(given).__name__}")
    tensors = tuple(_from_words(words, f"{place}[{at}]", make) for at, words in enumerate(given))
    twice = [name for name, times in Counter(tensor.name for tensor in tensors).items() if times > 1]
    if twice:
        raise ValueError(f"{place}: '{printable(twice[0])}' is declared twice")
    return tensors


def _from_words(words: object, place: str, make: Callable[..., TensorMetadata]) -> TensorMetadata:
    if isinstance(words, TensorMetadata):
        return words
    if not isinstance(words, Mapping):
        raise ValueError(f"{place}: expected a table with name, datatype and shape, got {printable(words)}")
    known = inspect.signature(make).parameters
    for word in words:
        if word not in known:
            near = get_close_matches(str(word), known, n=1)
            hint = f", did you mean '{near[0]}'?" if near else f"; known are {', '.join(known)}"
            raise ValueError(f"{place}: unknown word '{printable(word)}'{hint}")
    missing = [word for word in ("name", "datatype", "shape") if word not in words]
    if missing:
        raise ValueError(f"{place}: misses {', '.join(missing)}")
    try:
        return make(**words)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _declare(
    kind: str,
    name: object,
    datatype: object,
    shape: object,
    constraint: Constraint,
    optional: object,
    allow_nan: object,
    description: object,
) -> TensorMetadata:
    if not isinstance(name, str) or not name:
        raise ValueError(f"{kind}: name must be a text that is not empty, got {printable(name)}")
    place = f"{kind} '{printable(name)}'"
    for word, value in (("optional", optional), ("allow_nan", allow_nan)):
        if not isinstance(value, bool):
            raise ValueError(f"{place}: {word} must be true or false, got {printable(value)}")
    if not isinstance(description, str):
        raise ValueError(f"{place}: description must be a text, got {printable(description)}")
    resolved = _datatype(datatype, place)
    sizes = _shape(shape, place)
    words = _constraint(constraint, resolved, place)
    facts: dict[str, object] = {"description": description} if description else {}
    facts |= words
    if optional is True:
        facts["optional"] = True
    return TensorMetadata(
        name,
        resolved,
        sizes,
        allow_nan=allow_nan is True,
        optional=optional is True,
        constraint=constraint if words else None,
        parameters=facts,
    )


def _datatype(datatype: object, place: str) -> Datatype:
    if isinstance(datatype, Datatype):
        return datatype
    if isinstance(datatype, str) and datatype in DATATYPES:
        return DATATYPES[datatype]
    raise ValueError(f"{place}: datatype must be one of {', '.join(DATATYPES)}; got '{printable(datatype)}'")


def _shape(shape: object, place: str) -> tuple[int, ...]:
    if not isinstance(shape, list | tuple) or len(shape) > _MAX_RANK:
        raise ValueError(
            f"{place}: shape must be a list of at most {_MAX_RANK} sizes, got {printable(shape)}"
        )
    for size in shape:
        if type(size) is not int or size < -1:
            raise ValueError(f"{place}: shape holds {printable(size)}, expected sizes from 0, or -1 for any")
    return tuple(shape)


def _tuple(name: object, categories: object) -> tuple[Category, ...]:
    if not isinstance(categories, list | tuple):
        came = printable(categories)
        raise ValueError(f"tensor '{printable(name)}': categories must be a list, got {came}")
    return tuple(categories)


def _constraint(constraint: Constraint, datatype: Datatype, place: str) -> dict[str, object]:
    """The words that were given, as the metadata shows them; each must fit the datatype."""
    given: dict[str, object] = {}
    for low, high, for_text in (("minimum", "maximum", False), ("min_length", "max_length", True)):
        for word in (low, high):
            value = getattr(constraint, word)
            if value is not None:
                _check_limit(word, value, datatype, for_text, place)
                given[word] = value
        if low in given and high in given and getattr(constraint, low) > getattr(constraint, high):
            raise ValueError(f"{place}: {low} {given[low]} is above {high} {given[high]}")
    if constraint.categories:
        _check_categories(constraint.categories, datatype, place)
        given["categories"] = list(constraint.categories)
    return given


def _check_limit(word: str, value: object, datatype: Datatype, for_text: bool, place: str) -> None:
    if for_text != (datatype is BYTES) or datatype is BOOL:
        kind = "of BYTES tensors" if for_text else "of numbers"
        raise ValueError(f"{place}: {word} is a limit {kind}, the datatype is {datatype}")
    wanted = (int,) if for_text else (int, float)
    if isinstance(value, bool) or not isinstance(value, wanted) or (for_text and value < 0):
        expected = "a count of bytes" if for_text else "a number"
        raise ValueError(f"{place}: {word} must be {expected}, got {printable(value)}")
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(f"{place}: {word} must be a number, got nan")
    if not for_text:
        lowest, highest = _range(datatype)
        if (value > highest) if word == "minimum" else (value < lowest):
            raise ValueError(f"{place}: {word} {printable(value)} is out of range for {datatype}")
        if abs(value) > _LARGEST and not isinstance(value, float):
            raise ValueError(f"{place}: {word} must be a number up to {_LARGEST}, got {printable(value)}")


def _range(datatype: Datatype) -> tuple[float, float]:
    """The smallest and the largest number of a datatype."""
    if datatype.is_float:
        return float(np.finfo(datatype.dtype).min), float(np.finfo(datatype.dtype).max)
    return np.iinfo(datatype.dtype).min, np.iinfo(datatype.dtype).max


def _check_categories(categories: Sequence[object], datatype: Datatype, place: str) -> None:
    kinds: tuple[type, ...]
    if datatype is BYTES:
        kinds, expected = (str,), "texts"
    elif datatype is BOOL:
        kinds, expected = (bool,), "true or false"
    else:
        kinds, expected = ((int, float), "numbers") if datatype.is_float else ((int,), "integers")
    for value in categories:
        if not isinstance(value, kinds) or (isinstance(value, bool) and datatype is not BOOL):
            raise ValueError(f"{place}: categories of {datatype} must be {expected}, got {printable(value)}")
        if not _exists(value, datatype):
            raise ValueError(f"{place}: there is no {printable(value)} in {datatype}")


def _exists(value: object, datatype: Datatype) -> bool:
    """Whether a tensor of the datatype can hold the category, or one that is rounded to it."""
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    lowest, highest = _range(datatype)
    return lowest <= value <= highest
