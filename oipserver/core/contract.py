"""What one model announces, and the check of a request against it.

Rule: whatever is wrong with a request is found here, before it is queued, so that it dies alone.  What
leaves here has the declared names, the declared dtypes and one batch size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oipserver.core.codec import cast_float
from oipserver.core.constraint import Constraint
from oipserver.core.datatypes import BOOL, BYTES, DATATYPES, Datatype
from oipserver.core.errors import BadRequest, InferenceFailed, Unprocessable, printable
from oipserver.core.memory import Memory
from oipserver.core.messages import (
    NO_PARAMETERS,
    Array,
    InferenceRequest,
    Parameters,
    Tensor,
    TensorMetadata,
)
from oipserver.core.model import Model

_ANY = (-1,)
_FEW = 256
MAX_REMEMBERED = 64


@dataclass(slots=True)
class Work:
    """A request that this model can compute.

    Attributes:
        inputs: declared name to array, all with `rows` rows where the model has a batch axis.
        outputs: the names to compute, in the caller's order.
        key: requests with equal keys may share one call; None never shares.
    """

    inputs: dict[str, Array]
    outputs: tuple[str, ...]
    parameters: Parameters
    rows: int
    nbytes: int
    key: Hashable | None

    def with_inputs(self, inputs: dict[str, Array]) -> Work:
        """The same with other arrays."""
        return Work(inputs, self.outputs, self.parameters, self.rows, self.nbytes, self.key)

    def copy(self) -> Work:
        """The same with arrays of its own: a model may write into them, and fail then."""
        return self.with_inputs({name: array.copy() for name, array in self.inputs.items()})


class Contract:
    """The announced tensors of one loaded version.

    Args:
        batched: the first axis of every tensor is the batch.

    Attributes:
        memory: what a front keeps of the requests that passed `check`; it ends with this version.

    Raises:
        ValueError: a batched model announces a tensor without axes.
    """

    def __init__(self, model: Model, name: str, batched: bool) -> None:
        self.model = model
        self.name = name
        self.batched = batched
        self.memory: Memory[Any] = Memory(MAX_REMEMBERED)
        self._shareable = batched and model.batchable
        self._defaults = tuple(output.name for output in model.outputs)
        self._outputs = {output.name: output for output in (*model.outputs, *model.optional_outputs)}
        self._inputs = {tensor.name: tensor for tensor in model.inputs}
        self._named = {tensor.name: tensor for tensor in model.named_inputs}
        self._parameters = frozenset(model.parameter_names)
        scalars = [tensor.name for tensor in (*model.inputs, *self._outputs.values()) if not tensor.shape]
        if batched and scalars:
            raise ValueError(
                f"tensor {_quoted(scalars)} is announced as a scalar, so max_batch_size must be 0"
            )
        if odd := [name for name in (*self._inputs, *self._named, *self._outputs) if not _is_text(name)]:
            raise ValueError(f"tensor {_quoted(odd)} is announced by a name that UTF-8 cannot write")

    def check(self, request: InferenceRequest) -> Work:
        """The request as work for this model.

        Raises:
            BadRequest: tensors that are not this model's: names, count, datatype, shape, empty batch.
            Unprocessable: NaN or infinity where the model refuses them.
        """
        inputs = {
            metadata.name: self._tensor(tensor, metadata) for tensor, metadata in self._match(request.inputs)
        }
        rows = self._rows(inputs)
        outputs = self._requested(request.outputs)
        for name, delivery in request.deliveries.items() if request.deliveries else ():
            delivery.bind(self._outputs[name], self.batched, rows)
        parameters = self._declared_parameters(request.parameters)
        return Work(
            inputs=inputs,
            outputs=outputs,
            parameters=parameters,
            rows=rows,
            nbytes=sum(map(nbytes_of, inputs.values())),
            # Without any input nothing says how many rows several requests are.
            key=_key(inputs, outputs, parameters) if self._shareable and inputs else None,
        )

    def check_again(self, work: Work, tensor: Tensor, times: int = 1) -> Work:
        """The work of requests that differ from a checked one in the values of its only tensor alone.

        Args:
            tensor: the values of so many requests, one behind the other.

        Raises:
            BadRequest: a value is out of range of the declared datatype.
            Unprocessable: NaN or infinity where the model refuses them.
        """
        (name,) = work.inputs
        array = self._tensor(tensor, self._inputs.get(name) or self._named[name])
        rows = work.rows * times
        return Work({name: array}, work.outputs, work.parameters, rows, nbytes_of(array), work.key)

    def _match(self, tensors: Sequence[Tensor]) -> Iterable[tuple[Tensor, TensorMetadata]]:
        """Each tensor with its declaration, in the declared order whatever the request's is."""
        if len(tensors) == 1 and len(self._inputs) == 1 and tensors[0].name not in self._named:
            # Clients and tutorials name a single input as they like (MLServer and KServe accept that).
            return zip(tensors, self._inputs.values(), strict=True)
        names = [tensor.name for tensor in tensors]
        declared = self._named if names and self._named.keys() >= set(names) else self._inputs
        self._check_names(names, declared)
        brought = dict(zip(names, tensors, strict=True))
        return [(brought[name], metadata) for name, metadata in declared.items() if name in brought]

    def _check_names(self, names: Sequence[str], declared: Mapping[str, TensorMetadata]) -> None:
        expected = _quoted(declared)
        for position, name in enumerate(names):
            if name not in declared:
                raise BadRequest(f"model '{self.name}' has no input '{printable(name)}'; it takes {expected}")
            if name in names[:position]:
                raise BadRequest(f"input '{printable(name)}' stands twice in the request")
        missing = [name for name, tensor in declared.items() if name not in names and not tensor.optional]
        if missing:
            raise BadRequest(f"model '{self.name}' misses input {_quoted(missing)}; it takes {expected}")

    def _tensor(self, tensor: Tensor, metadata: TensorMetadata) -> Array:
        array = tensor.data if tensor.datatype is metadata.datatype else _cast(tensor, metadata)
        shape = metadata.shape
        # The usual case by one comparison: any batch, all other axes as announced.
        if array.shape[1:] != shape[1:] or shape[:1] != _ANY or not array.ndim:
            array = self._shaped(array, tensor, shape)
        # A cast keeps NaN and infinity, so the array of fewer bytes tells; FP32 where the model takes FP64.
        narrow = tensor.data if tensor.data.itemsize < array.itemsize else array
        if not metadata.allow_nan and metadata.datatype.is_float and not _all_finite(narrow):
            raise Unprocessable(
                f"input '{printable(tensor.name)}' of model '{self.name}' holds NaN or infinity, "
                "which this model does not accept"
            )
        if metadata.constraint is not None and (wrong := metadata.constraint.violation(array)):
            raise Unprocessable(f"input '{printable(tensor.name)}' of model '{self.name}' {wrong}")
        return array

    def _shaped(self, array: Array, tensor: Tensor, shape: Sequence[int]) -> Array:
        if array.ndim != len(shape):
            array = _with_rank(array, len(shape))
        if not _fits(array.shape, shape):
            raise BadRequest(
                f"input '{printable(tensor.name)}' of model '{self.name}' expects shape {list(shape)}"
                f"{_columns(shape)}, got {list(tensor.data.shape)}"
            )
        return array

    def _rows(self, inputs: Mapping[str, Array]) -> int:
        if not self.batched:
            return 1
        rows = None
        for name, array in inputs.items():
            # Without columns, too: rows that cost the caller nothing would cost the model.
            if not array.size:
                raise BadRequest(
                    f"input '{name}' of model '{self.name}' holds no rows or no columns: "
                    f"shape {list(array.shape)}"
                )
            if rows is not None and len(array) != rows:
                sizes = {each: len(inputs[each]) for each in inputs}
                raise BadRequest(f"inputs of model '{self.name}' differ in rows: {sizes}")
            rows = len(array)
        return rows or 1

    def _requested(self, names: Sequence[str]) -> tuple[str, ...]:
        if not names:
            return self._defaults
        for position, name in enumerate(names):
            if name not in self._outputs:
                raise BadRequest(
                    f"model '{self.name}' has no output '{printable(name)}'; it has {_quoted(self._outputs)}"
                )
            if name in names[:position]:
                raise BadRequest(f"output '{printable(name)}' is requested twice")
        return tuple(names)

    def _declared_parameters(self, parameters: Parameters) -> Parameters:
        if not self._parameters or not parameters:
            return NO_PARAMETERS
        if "*" in self._parameters:
            return parameters
        return {name: parameters[name] for name in self._parameters if name in parameters}

    def output(self, name: str) -> TensorMetadata:
        """The declaration of an output that `check` let through."""
        return self._outputs[name]

    def check_answer(
        self, answer: Mapping[str, Array], outputs: Iterable[str], rows: int
    ) -> dict[str, Array]:
        """What a model returned for `rows` rows, as announced: what is announced is what is answered.

        Raises:
            InferenceFailed: an output is missing, or has another type, shape or row count.
        """
        return {name: self._check_output(answer, self._outputs[name], rows) for name in outputs}

    def _check_output(self, answer: Mapping[str, Array], metadata: TensorMetadata, rows: int) -> Array:
        # An answer is mostly a dict, and to ask whether it is a mapping takes longer than all the rest.
        named = type(answer) is dict or isinstance(answer, Mapping)
        array = answer.get(metadata.name) if named else None
        if not isinstance(array, np.ndarray):
            raise InferenceFailed(f"returned no array for output '{metadata.name}': {type(array).__name__}")
        if array.dtype != metadata.datatype.dtype:
            raise InferenceFailed(
                f"returned {array.dtype} for output '{metadata.name}', announced {metadata.datatype}"
            )
        shape = metadata.shape
        # The usual case by one comparison, as with inputs.
        if not self.batched or shape[:1] != _ANY or array.shape != (rows, *shape[1:]):
            self._check_shape(array, metadata, rows)
        if metadata.datatype is BYTES and not all(isinstance(element, bytes) for element in array.flat):
            raise InferenceFailed(f"returned objects that are not bytes in output '{metadata.name}'")
        if metadata.constraint is not None and (wrong := metadata.constraint.violation(array)):
            raise InferenceFailed(f"returned for output '{metadata.name}' what {wrong}")
        return array

    def _check_shape(self, array: Array, metadata: TensorMetadata, rows: int) -> None:
        shape = metadata.shape
        if not _fits(array.shape, shape):
            raise InferenceFailed(
                f"returned shape {list(array.shape)} for output '{metadata.name}', announced {list(shape)}"
            )
        if self.batched and array.shape[:1] != (rows,):
            came = array.shape[0] if array.ndim else "no"
            raise InferenceFailed(f"returned {came} rows for {rows} in output '{metadata.name}'")

    def example(self, rows: int, outputs: tuple[str, ...]) -> Work:
        """Work of `rows` rows for warm-up: the model's own example repeated, or made from the metadata."""
        inputs = dict(self.model.example or {name: _blank(tensor) for name, tensor in self._inputs.items()})
        if self.batched:
            inputs = {name: np.resize(array, (rows, *array.shape[1:])) for name, array in inputs.items()}
        return Work(inputs, outputs, NO_PARAMETERS, rows, nbytes=0, key=None)


def _key(inputs: Mapping[str, Array], outputs: tuple[str, ...], parameters: Parameters) -> Hashable:
    """Equal for requests whose rows may be concatenated; dtypes are the declared ones already."""
    return (
        tuple([(name, array.shape[1:]) for name, array in inputs.items()]),
        outputs,
        # As text: True, 1 and 1.0 are equal and yet not the same parameter.
        tuple([(name, repr(value)) for name, value in parameters.items()]) if parameters else (),
    )


def nbytes_of(array: Array) -> int:
    """Bytes that a tensor holds in memory; of BYTES, the elements as well as the pointers to them."""
    return sum(map(len, array.flat)) + array.nbytes if array.dtype.hasobject else array.nbytes


def _fits(actual: Sequence[int], announced: Sequence[int]) -> bool:
    return len(actual) == len(announced) and all(
        size in (-1, came) for size, came in zip(announced, actual, strict=True)
    )


def _all_finite(array: Array) -> bool:
    """No NaN, no infinity.  They show in a sum of squares, which for a few numbers is cheaper than a mask."""
    if array.size <= _FEW and math.isfinite(np.vdot(array, array)):
        return True
    return bool(np.isfinite(array).all())


def _quoted(names: Iterable[str]) -> str:
    listed = [f"'{printable(name)}'" for name in names]
    return ", ".join(listed[:20]) + (f" and {len(listed) - 20} more" if len(listed) > 20 else "")


def _is_text(name: str) -> bool:
    """Half of a surrogate pair can stand in a Python string, but in no answer."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _columns(shape: Sequence[int]) -> str:
    return f" ({shape[1]} columns)" if len(shape) == 2 and shape[1] > 0 else ""


def _with_rank(array: Array, rank: int) -> Array:
    """A trailing axis of 1 may be left out or added: clients send one column as [N] or as [N,1]."""
    if array.ndim == rank - 1:
        return array[..., np.newaxis]
    if array.ndim == rank + 1 and array.shape[-1] == 1:
        return array[..., 0]
    return array


def _blank(metadata: TensorMetadata) -> Array:
    """The smallest tensor that is as declared: zeros and empty texts, or what comes nearest."""
    shape = tuple(1 if size == -1 else size for size in metadata.shape)
    value = (metadata.constraint or Constraint()).plainest(metadata.datatype is BYTES)
    return np.full(shape, value, dtype=metadata.datatype.dtype)


def _cast(tensor: Tensor, metadata: TensorMetadata) -> Array:
    """numpy's same_kind casts to the declared datatype; whatever could change a value is refused."""
    have, want = tensor.datatype, metadata.datatype
    if have is want:
        return tensor.data
    caster = _caster(have, want)
    if caster is None:
        raise BadRequest(f"input '{printable(tensor.name)}' expects datatype {want}, got {have}")
    return caster(tensor.data, want, tensor.name)


def taken_as(want: Datatype) -> list[Datatype]:
    """Every datatype that is taken where `want` is declared, itself first."""
    others = [have for have in DATATYPES.values() if have is not want and _caster(have, want) is not None]
    return [want, *others]


def _caster(have: Datatype, want: Datatype) -> Callable[[Array, Datatype, str], Array] | None:
    exact = (BOOL, BYTES)
    if have in exact or want in exact or not np.can_cast(have.dtype, want.dtype, "same_kind"):
        return None
    return cast_float if want.is_float else _cast_integer


def _cast_integer(source: Array, datatype: Datatype, tensor: str) -> Array:
    if source.size:
        limits = np.iinfo(datatype.dtype)
        low, high = int(source.min()), int(source.max())
        if low < limits.min or high > limits.max:
            worst = low if low < limits.min else high
            raise BadRequest(f"input '{printable(tensor)}': {worst} is out of range for {datatype}")
    return source.astype(datatype.dtype)
