"""What a user's function or object says of itself, by decorator, by attributes, or in the configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from oipserver import Array, Input, Output, TensorMetadata, as_declared, declared

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__oipserver__"


@dataclass(frozen=True, slots=True)
class Description:
    """How a function is to be called, and what is announced of it.

    Attributes:
        batchable: the first axis of every tensor is the batch, rows are independent.
        per_row: it takes one row, without the batch axis.
        requirements: what has to be installed, as in a requirements.txt.
        example: an input that can be computed, for the warm-up; zeros when there is none.
    """

    inputs: Sequence[TensorMetadata] = ()
    outputs: Sequence[TensorMetadata] = ()
    batchable: bool = False
    per_row: bool = False
    requirements: Sequence[str] = ()
    example: Mapping[str, Any] | None = None


def function(
    target: object = None,
    /,
    *,
    inputs: Sequence[TensorMetadata] = (),
    outputs: Sequence[TensorMetadata] = (),
    batchable: bool = False,
    per_row: bool = False,
    requirements: Sequence[str] = (),
    example: Mapping[str, object] | None = None,
) -> Callable[[F], F]:
    """Marks a function for serving; it stays the function that it is, to be called and tested as ever.

    Args:
        inputs, outputs: `Input(...)` and `Output(...)`; where empty, the configuration declares them.
        batchable: rows are independent, so that rows of several callers may come in one call.
        per_row: the function takes one row at a time, without the first axis.
        requirements: what has to be installed, e.g. "scikit-image>=0.24".
        example: arrays by input name that can be computed, for the warm-up; zeros when there is none.

    Raises:
        TypeError: used without parentheses.
    """
    if target is not None:
        raise TypeError("a function needs its tensors: @function(inputs=[Input(...)], outputs=[Output(...)])")
    described = Description(inputs, outputs, batchable, per_row, requirements, example)

    def mark(target: F) -> F:
        setattr(target, _MARK, described)
        return target

    return mark


def is_marked(target: object) -> bool:
    """Whether it was decorated with `function`."""
    return isinstance(getattr(target, _MARK, None), Description)


def is_served_class(target: object) -> bool:
    """Whether it is a class, or an object of one, that can be served: it has `infer` or `stream`."""
    return not inspect.ismodule(target) and any(
        callable(getattr(target, method, None)) for method in ("infer", "stream")
    )


def description_of(target: object) -> Description:
    """What the target says of itself, unchecked."""
    if is_marked(target):
        marked: Description = getattr(target, _MARK)
        return marked
    words = [each.name for each in fields(Description)]
    return Description(**{word: getattr(target, word) for word in words if hasattr(target, word)})


def describe(target: object, name: str, parameters: Mapping[str, object]) -> Description:
    """What the target says of itself; `inputs` and `outputs` of the configuration stand above that.

    Args:
        name: of the target, for messages.

    Raises:
        ValueError: a declaration is missing or wrong.
    """
    own = description_of(target)
    inputs = _tensors(own.inputs, name, "inputs", parameters, Input)
    described = replace(
        own,
        inputs=inputs,
        outputs=_tensors(own.outputs, name, "outputs", parameters, Output),
        example=_example(own.example, name, inputs),
    )
    for word in ("batchable", "per_row"):
        if not isinstance(getattr(described, word), bool):
            raise ValueError(f"{name}.{word} must be True or False, got {getattr(described, word)!r}")
    _check_axes(described, name)
    return described


def _tensors(
    own: object,
    name: str,
    key: str,
    parameters: Mapping[str, object],
    make: Callable[..., TensorMetadata],
) -> tuple[TensorMetadata, ...]:
    configured = parameters.get(key)
    tensors = (
        declared(own, f"{name}.{key}", make)
        if configured is None
        else declared(configured, f"parameters.{key}", make)
    )
    if not tensors:
        one = f'{make.__name__}("x", "FP64", [-1, 3])'
        raise ValueError(
            f"'{name}' declares no {key}: give {key}=[{one}], or parameters.{key} in the configuration"
        )
    return tensors


def _example(given: object, name: str, inputs: Sequence[TensorMetadata]) -> Mapping[str, Array] | None:
    if given is None:
        return None
    known = {tensor.name: tensor for tensor in inputs}
    needed = {key for key, tensor in known.items() if not tensor.optional}
    if not isinstance(given, Mapping) or not needed <= given.keys() <= known.keys():
        raise ValueError(f"{name}.example: expected a dict of arrays for {', '.join(known)}")
    try:
        return {key: as_declared(value, known[key]) for key, value in given.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}.example: {error}") from error


def _check_axes(described: Description, name: str) -> None:
    """With a batch axis, every tensor has it in front."""
    if not (described.batchable or described.per_row):
        return
    word = "batchable" if described.batchable else "per_row"
    for kind, tensor in _each(described):
        if tensor.shape[:1] != (-1,):
            raise ValueError(
                f"'{name}' is {word}, so {kind} '{tensor.name}' must begin with the batch axis -1, "
                f"its shape is {list(tensor.shape)}"
            )


def _each(described: Description) -> Iterable[tuple[str, TensorMetadata]]:
    yield from (("input", tensor) for tensor in described.inputs)
    yield from (("output", tensor) for tensor in described.outputs)
