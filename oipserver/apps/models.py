"""The models as a user's handler sees them: arrays in, arrays out, through the scheduler of every front."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from oipserver.apps.caller import CALLER
from oipserver.core.dataplane import DataPlane
from oipserver.core.datatypes import BYTES, datatype_of
from oipserver.core.errors import BadRequest, Cancelled, Fault
from oipserver.core.ids import new_id
from oipserver.core.messages import Array, InferenceRequest, ModelMetadata, Parameters, Tensor

T = TypeVar("T")

FRONT = "app"
ROUTE = "models.infer"


class Models:
    """The loaded models; what is asked here is batched with everybody's requests.

    Args:
        default_timeout: seconds until the deadline of a question that brings none.
    """

    def __init__(self, plane: DataPlane, default_timeout: float) -> None:
        self._plane = plane
        self._default_timeout = default_timeout
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """The event loop on which the models live; called by the server, in its thread."""
        self._loop = loop
        self._thread = threading.get_ident()

    async def infer(
        self,
        name: str,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        version: str | None = None,
        outputs: Sequence[str] = (),
        parameters: Parameters | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  it is the deadline of the request, not of the wait
    ) -> dict[str, Array]:
        """The outputs of a model by name.

        Args:
            inputs: by the model's input names; the first axis is the batch.  Lists are made arrays, text is
                sent as UTF-8.
            outputs: which to compute; empty means the model's default ones.
            parameters: for models that take some.
            timeout: seconds; None is the server's default.

        Raises:
            Fault: as every caller would get it: BAD_REQUEST, UNPROCESSABLE, NOT_FOUND, NOT_READY,
                OVERLOADED, TIMEOUT, INFERENCE_FAILED.  A handler that lets it pass answers with it.
        """
        home = self._home()
        question = self._question(name, inputs, version, outputs, parameters, timeout)
        if threading.get_ident() == self._thread:
            return await self._infer(question)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._infer(question), home))

    def infer_sync(
        self,
        name: str,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        version: str | None = None,
        outputs: Sequence[str] = (),
        parameters: Parameters | None = None,
        timeout: float | None = None,
    ) -> dict[str, Array]:
        """As `infer`, for threads: handlers that are a plain `def`, and gRPC servicers.

        Raises:
            RuntimeError: on the event loop, which would wait for itself.
        """
        if threading.get_ident() == self._thread:
            raise RuntimeError("infer_sync would block the event loop: await models.infer(...) there")
        question = self._question(name, inputs, version, outputs, parameters, timeout)
        return self._wait(lambda: self._infer(question))

    def ready(self, name: str, version: str | None = None) -> bool:
        """Whether the model answers now; False for an unknown one."""
        try:
            return self._ask(lambda: self._plane.model_ready(name, version))
        except Fault:
            return False

    def metadata(self, name: str, version: str | None = None) -> ModelMetadata:
        """The announced tensors of a model.

        Raises:
            Fault: NOT_FOUND, NOT_READY.
        """
        return self._ask(lambda: self._plane.model_metadata(name, version))

    def _question(
        self,
        name: str,
        inputs: Mapping[str, npt.ArrayLike],
        version: str | None,
        outputs: Sequence[str],
        parameters: Parameters | None,
        timeout: float | None,
    ) -> InferenceRequest:
        caller = CALLER.get()
        deadline = time.monotonic() + (self._default_timeout if timeout is None else timeout)
        return InferenceRequest(
            model_name=name,
            inputs=[_tensor(each, value) for each, value in inputs.items()],
            id=new_id(),
            deadline=deadline if caller is None else min(deadline, caller.deadline),
            model_version=version,
            outputs=tuple(outputs),
            parameters=parameters or {},
        )

    async def _infer(self, question: InferenceRequest) -> dict[str, Array]:
        """On the loop: one infer request inside the server, counted as all are."""
        # Drained with the request that asks: it is inside already, and must not be refused half-way.
        admission = self._plane.gate.admit(FRONT, on_behalf=True)
        admission.route, admission.request_id = ROUTE, question.id
        code = "INTERNAL"
        try:
            response = await self._plane.infer(question, admission)
            code = "OK"
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except Fault as fault:
            code = fault.code
            raise
        finally:
            admission.finish(code)
        return {tensor.name: tensor.data for tensor in response.outputs}

    def _wait(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What a coroutine function returns on the loop; given up when this thread's caller leaves."""
        caller, home = CALLER.get(), self._home()
        future = asyncio.run_coroutine_threadsafe(ask(), home)
        if caller is not None:
            caller.waits_for(future.cancel)
        try:
            return future.result()
        except CancelledError:
            raise Cancelled("the caller left") from None
        finally:
            if caller is not None:
                caller.waits_for(None)

    def _ask(self, question: Callable[[], T]) -> T:
        """The answer of the data plane, which lives on the loop."""
        if threading.get_ident() == self._thread:
            return question()

        async def ask() -> T:
            return question()

        return self._wait(ask)

    def _home(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("the server has not started: ask the models in on_start, or in a handler")
        return self._loop


def _tensor(name: str, value: npt.ArrayLike) -> Tensor:
    """A named array; text and bytes as an object array of `bytes`.

    Raises:
        BadRequest: ragged, or of a type that no model takes.
    """
    try:
        array = np.asarray(value)
        if array.dtype.kind in "SU" and not isinstance(value, np.ndarray):
            array = np.asarray(value, dtype=np.object_)  # numpy's own text forgets zeros at the end
        datatype = datatype_of(array.dtype)
        if datatype is BYTES:
            array = _as_bytes(array)
    except (TypeError, ValueError) as error:
        raise BadRequest(f"input '{name}': expected an array, {error}") from None
    return Tensor(name, datatype, array)


def _as_bytes(array: Array) -> Array:
    encoded = np.empty(array.shape, dtype=np.object_)
    for index, element in np.ndenumerate(array):
        if not isinstance(element, str | bytes):
            raise TypeError(f"elements are text, bytes or numbers, not {type(element).__name__}")
        encoded[index] = element.encode() if isinstance(element, str) else bytes(element)
    return encoded
