"""The contract that an adapter implements: a `Runtime` loads a `Model`, a `Model` maps arrays to arrays.

    class Doubler(Model):
        platform = "example"
        inputs = (TensorMetadata("x", FP64, (-1, 1)),)
        outputs = (TensorMetadata("y", FP64, (-1, 1)),)

        def predict(self, inputs, outputs, parameters):
            return {"y": inputs["x"] * 2}

Everything here is synchronous on purpose: the executor decides where it runs.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from oipserver.core.golden import GoldenRow
from oipserver.core.messages import Arrays, Parameters, TensorMetadata
from oipserver.core.model_config import ModelConfig


class Model(Protocol):
    """One loaded version; subclass it to inherit the defaults given here.

    Attributes:
        platform: shown in the metadata, e.g. "sklearn_pipeline".
        inputs: what a request must bring.  With a single input its name is free for the caller.
        outputs: what is answered when the caller names no outputs.
        optional_outputs: answered only when asked for by name.
        named_inputs: the same columns as one tensor each, accepted in place of `inputs`.
        has_batch_axis: the first axis of every tensor is the batch; without one a request travels alone.
        batchable: the first axis is the batch and rows are independent, so that the rows of several
            callers may be computed in one call.
        may_run_inline: a cheap batch may run on the event loop; only for code known not to block.
        example: one valid row or more per input, used for warm-up; None lets the metadata suggest one.
        parameter_names: request parameters that `predict` wants to see; all others are dropped.  "*" is all.
        parameters: shown in the REST metadata, e.g. library versions.
        decoupled: `stream` yields any number of answers to one request (Triton's word).
        scoring: how the model reads and writes requests of the scoring paths; None where it has none.
        golden: requests with known answers, replayed before the version serves; the server adds those of the
            model's golden file.
        holds: what takes the memory, and goes with the model; empty where nobody knows.  When it has not
            gone without it, the collector is sent to look for it, which holds the server up.
    """

    platform: str
    inputs: Sequence[TensorMetadata]
    outputs: Sequence[TensorMetadata]
    optional_outputs: Sequence[TensorMetadata] = ()
    named_inputs: Sequence[TensorMetadata] = ()
    has_batch_axis: bool = True
    batchable: bool = False
    may_run_inline: bool = False
    example: Arrays | None = None
    parameter_names: Sequence[str] = ()
    parameters: Mapping[str, object] = MappingProxyType({})
    decoupled: bool = False
    scoring: Scoring | None = None
    golden: Sequence[GoldenRow] = ()
    holds: Sequence[object] = ()

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        """The outputs called `outputs`, computed from `inputs` (declared dtypes, keyed by declared name).

        BYTES are object arrays of `bytes`.  The arrays may be read-only views of a request's bytes.  Only
        one thread calls at a time unless the configuration asks for more instances.

        Raises:
            InvalidInput: when a value is at fault; its text is sent to the caller.
            BadRequest: when the request is malformed in a way that only the model can see; likewise.
            Exception: anything else is the model's failure; its text is logged, not sent.
        """
        ...

    def stream(
        self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters
    ) -> Generator[Arrays, None, None]:
        """The answers to one request, one by one as they are ready; as `predict` otherwise.

        Called on threads of its own, for up to 8 requests at the same time, and closed between two answers
        when the caller has left.  A model that is not `decoupled` has the one answer of `predict`.
        """
        yield self.predict(inputs, outputs, parameters)

    def close(self) -> None:
        """Give back what the model holds; called once, when nothing runs in it any more."""
        return


class Scoring(Protocol):
    """Another way to write a model's requests and answers, for the paths `/invocations`.

    What is read goes the way of every request: it is checked, queued, and computed with everybody's.

    Attributes:
        media_types: what `read` takes.
        outputs: what to ask the model for; empty for its default outputs.
        version: of the library whose protocol this is, answered at `/version`.
    """

    media_types: Sequence[str]
    outputs: Sequence[str]
    version: str

    def read(self, body: bytes, media_type: str) -> tuple[Arrays, Parameters]:
        """The tensors, by declared name and of declared datatype, and the parameters in `body`.

        Called on a thread of its own, as `write` is.

        Raises:
            BadRequest: the body cannot be read.
        """
        ...

    def write(self, answer: Arrays) -> bytes:
        """The JSON text for the outputs that were asked for."""
        ...


class Runtime(Protocol):
    """Loads one kind of model.  Its class is registered in the entry-point group `oipserver.runtimes`."""

    def load(self, path: Path, config: ModelConfig) -> Model:
        """The model stored at `path` (a file or a directory that exists).

        Raises:
            Exception: with a sentence that says what is wrong; the version becomes FAILED and shows it.
        """
        ...

    def wrap(self, model: object, config: ModelConfig) -> Model | None:
        """An object that is already in memory as a Model; None when it is not of this runtime's kind."""
        return None
