"""Functions around any model: `preprocess` before it, `postprocess` behind it, from the model's own folder.

Among the `parameters` of a model in a configuration file:

    preprocess: features.py:clean        # a dict of arrays in, a dict of arrays out
    inputs:                              # what clean takes, where that is not what the model takes
      - {name: age, datatype: FP64, shape: [-1, 1]}

The training script imports the same functions, so what is served is what was trained.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from oipserver.core.answers import as_declared
from oipserver.core.contract import Contract
from oipserver.core.datatypes import BYTES, datatype_of
from oipserver.core.declare import Input, Output, declared
from oipserver.core.errors import Fault
from oipserver.core.messages import Array, Arrays, InferenceRequest, Parameters, Tensor, TensorMetadata
from oipserver.core.model import Model
from oipserver.core.model_config import ModelConfig
from oipserver.core.trust import require_trust
from oipserver.core.user_code import CodeUri, code_file, import_code

BEFORE, BEHIND = "preprocess", "postprocess"


def with_hooks(load: Callable[[ModelConfig], Model], path: Path, config: ModelConfig) -> Model:
    """The model that `load` loads, between the hooks that `config.parameters` names.

    A hook's URI is relative to the model's folder.  Beside `preprocess`, `parameters.inputs` declares what it
    takes; beside `postprocess`, `parameters.outputs` what it returns.  Neither reaches the runtime then.

    Args:
        path: where the model is: its file, or its folder.

    Raises:
        ValueError: a hook is not `file.py:function` or `module:function`, or cannot be imported.
    """
    given = config.parameters
    if BEFORE not in given and BEHIND not in given:
        return load(config)
    folder = path if path.is_dir() else path.parent
    with ExitStack() as undo:
        before, behind = (_hook(config, key, folder, undo) for key in (BEFORE, BEHIND))
        inputs = declared(given.get("inputs", ()), "parameters.inputs", Input) if before else ()
        outputs = declared(given.get("outputs", ()), "parameters.outputs", Output) if behind else ()
        own = {BEFORE, BEHIND, *(["inputs"] if before else []), *(["outputs"] if behind else [])}
        model = load(replace(config, parameters={key: given[key] for key in given if key not in own}))
        undo.callback(model.close)
        contract = Contract(model, config.name, config.max_batch_size > 0 and model.has_batch_axis)
        return HookedModel(contract, before, behind, inputs, outputs, undo.pop_all())


@dataclass(frozen=True, slots=True)
class _Hook:
    """One function of a user's file; `place` names it in a message."""

    call: Callable[[Arrays], object]
    place: str

    def __call__(self, arrays: Arrays) -> Mapping[str, object]:
        # A request's arrays may be needed again as they came; a user's function may write into its own.
        answer = self.call({name: array.copy() for name, array in arrays.items()})
        if not isinstance(answer, Mapping):
            raise TypeError(f"{self.place} returned a {type(answer).__name__}, expected a dict of arrays")
        return answer


class HookedModel(Model):
    """A model between its hooks: everything that they do not change is the model's own.

    Args:
        contract: of the model itself.
        held: closes the model and lets the hooks' modules go.
    """

    may_run_inline = False  # a hook is a user's function

    def __init__(
        self,
        contract: Contract,
        before: _Hook | None,
        behind: _Hook | None,
        inputs: Sequence[TensorMetadata],
        outputs: Sequence[TensorMetadata],
        held: ExitStack,
    ) -> None:
        self._model = model = contract.model
        self._contract = contract
        self._before = before
        self._behind = behind
        self._held = held
        self._all_outputs = [output.name for output in model.outputs] if outputs else None
        self.platform = model.platform
        self.inputs = inputs or model.inputs
        self.outputs = outputs or model.outputs
        self.optional_outputs = () if outputs else model.optional_outputs
        self.named_inputs = () if before else model.named_inputs
        self.has_batch_axis = model.has_batch_axis
        self.batchable = model.batchable
        self.decoupled = model.decoupled
        self.example = None if inputs else model.example
        self.parameter_names = model.parameter_names
        self.parameters = model.parameters
        # Scoring paths speak of the model's own tensors.
        self.scoring = None if before or outputs else model.scoring
        self._declared = {tensor.name: tensor for tensor in (*self.outputs, *self.optional_outputs)}

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        """As the model, between the hooks.

        Raises:
            InvalidInput: a hook or the model finds the data at fault.
            Exception: a hook failed, or did not return what the model takes or the metadata announces.
        """
        wanted = self._all_outputs or outputs
        return self._finished(self._model.predict(self._prepared(inputs), wanted, parameters))

    def stream(
        self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters
    ) -> Generator[Arrays, None, None]:
        """As the model; `postprocess` is called for every answer."""
        wanted = self._all_outputs or outputs
        with closing(self._model.stream(self._prepared(inputs), wanted, parameters)) as answers:
            for answer in answers:
                yield self._finished(answer)

    def close(self) -> None:
        """Let the model and the hooks' modules go."""
        self._held.close()

    def _prepared(self, inputs: Arrays) -> Arrays:
        """What the model takes.  It is checked as a request's tensors are, but now the hook is to blame."""
        hook = self._before
        if hook is None:
            return inputs
        tensors = [_tensor(name, value, hook.place) for name, value in hook(inputs).items()]
        request = InferenceRequest(self._contract.name, tensors, id="", deadline=0.0)
        try:
            return self._contract.check(request).inputs
        except Fault as fault:
            raise TypeError(f"{hook.place} returned what the model does not take: {fault.message}") from fault

    def _finished(self, answer: Arrays) -> Arrays:
        hook = self._behind
        if hook is None:
            return answer
        returned = hook(answer)
        return {
            name: as_declared(value, self._declared[name])
            for name, value in returned.items()
            if name in self._declared
        }


def _hook(config: ModelConfig, key: str, folder: Path, undo: ExitStack) -> _Hook | None:
    uri = config.parameters.get(key)
    if uri is None:
        return None
    parts = CodeUri.parse(uri) if isinstance(uri, str) else CodeUri("")
    if not parts.name:
        raise ValueError(f"parameters.{key}: expected file.py:function or module:function, got {uri!r}")
    file = code_file(parts, folder)
    if file is not None and not Path(parts.location).is_absolute():
        require_trust(config, file)  # it came with the model
    try:
        code = import_code(str(uri), folder)
        undo.callback(code.close)
        call: Any = code.get(parts.name)
    except (FileNotFoundError, ImportError, ValueError) as error:
        raise type(error)(f"parameters.{key}: {error}") from error
    if not callable(call) or inspect.iscoroutinefunction(call) or inspect.isgeneratorfunction(call):
        raise ValueError(f"parameters.{key}: '{uri}' is not a plain function")
    return _Hook(call, f"{key} {parts.name}")


def _tensor(name: str, value: object, place: str) -> Tensor:
    array: Array = np.asarray(value)
    if array.dtype.kind in "OSU":
        return Tensor(name, BYTES, as_declared(array, TensorMetadata(name, BYTES, array.shape)))
    try:
        return Tensor(name, datatype_of(array.dtype), array)
    except TypeError as error:
        raise TypeError(f"{place} returned '{name}': {error}") from error
