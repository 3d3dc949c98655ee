"""Requests with an idempotency key: asked again, they are answered again, and the model is not.

Rule: whoever brings a key again, with the same tensors, gets the answer that is kept, or waits for the one
that is computed.  A computation that was begun so goes on when its caller leaves: the caller will ask again.
Only good answers are kept, for what was refused or has failed may go well the next time.  Loop-only.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from oipserver.core.contract import Work, nbytes_of
from oipserver.core.errors import BadRequest, Conflict, DeadlineExceeded, Fault, InternalError, printable
from oipserver.core.messages import Array, InferenceRequest, InferenceResponse, Tensor

logger = logging.getLogger("oipserver.idempotency")

Reply: TypeAlias = Callable[[InferenceResponse | Fault], None]
# Who asks, which model and version, and the key.
Scope: TypeAlias = tuple[str, str, str | None, str]
# Begins a computation, which ends with one call of the reply; raises a Fault where it is refused.
Compute: TypeAlias = Callable[[InferenceRequest, Work, Reply], object]

MAX_KEY = 255
# Of an answer that is kept, besides its tensors.
_OVERHEAD = 1024


def check_key(key: str) -> str:
    """The key, when it may be one.

    Raises:
        BadRequest: empty, too long, or not printable.
    """
    if not (0 < len(key) <= MAX_KEY and key.isprintable()):
        raise BadRequest(
            f"idempotency key: expected 1 to {MAX_KEY} printable characters, got '{printable(key)}'"
        )
    return key


class Waiter:
    """One caller that waits for an answer.

    Attributes:
        line: those that wait for the same.
    """

    __slots__ = ("_compute", "_reply", "_request", "_timer", "line")

    def __init__(self, request: InferenceRequest, compute: Compute, reply: Reply) -> None:
        self.line: dict[Waiter, None] = {}
        self._request = request
        self._compute = compute
        self._reply: Reply | None = reply
        self._timer: asyncio.TimerHandle | None = None

    @property
    def deadline(self) -> float:
        """Until when it waits, in `time.monotonic` seconds."""
        return self._request.deadline

    def cancel(self) -> None:
        """The caller has left, or is answered."""
        self._reply = None
        self.line.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()

    def begin(self, work: Work, reply: Reply) -> None:
        """Compute the answer; the model's queue keeps its deadline from now on."""
        if self._timer is not None:
            self._timer.cancel()
        self._compute(self._request, work, reply)

    def watch(self) -> None:
        """Keep its deadline, which whoever computes does not know."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, self.deadline - time.monotonic()), self._expire)

    def answer(self, result: InferenceResponse | Fault) -> None:
        """Hand over what came out, under its own id; never raises, for there are others behind it."""
        reply = self._reply
        self.cancel()
        if reply is None:
            return
        try:
            reply(result if isinstance(result, Fault) else replace(result, id=self._request.id))
        except Exception:
            logger.exception("a front failed to take an answer")

    def _expire(self) -> None:
        self.answer(DeadlineExceeded("the deadline passed while the same request was computed"))


@dataclass(slots=True)
class _Pending:
    """An answer that is computed, and those that wait for it.

    Attributes:
        inputs, work: of the first; what the others bring is the same, and need not be kept as often.
        waiters: in the order in which they came.
    """

    digest: bytes
    inputs: Sequence[Tensor]
    work: Work
    waiters: dict[Waiter, None] = field(default_factory=dict)

    def add(self, request: InferenceRequest, compute: Compute, reply: Reply) -> Waiter:
        """One more that waits."""
        waiter = Waiter(replace(request, inputs=self.inputs), compute, reply)
        waiter.line = self.waiters
        self.waiters[waiter] = None
        return waiter


@dataclass(frozen=True, slots=True)
class _Kept:
    """A good answer."""

    digest: bytes
    response: InferenceResponse
    nbytes: int
    until: float


class Replays:
    """The answers of the requests with a key.

    Args:
        ttl: seconds that an answer is kept.
        max_keys, max_bytes: of the answers that are kept; the oldest go first.
    """

    def __init__(self, ttl: float = 300.0, max_keys: int = 10_000, max_bytes: int = 64 * 2**20) -> None:
        self._ttl = ttl
        self._max_keys = max_keys
        self._max_bytes = max_bytes
        self._pending: dict[Scope, _Pending] = {}
        self._kept: dict[Scope, _Kept] = {}
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def submit(
        self, scope: Scope, request: InferenceRequest, work: Work, compute: Compute, reply: Reply
    ) -> Waiter:
        """Answer from what is kept, or with what is computed, by others or now; `reply` is called later.

        Raises:
            Conflict: the key stands for another request.
            Fault: as `compute`.
        """
        digest = digest_of(work)
        self._forget_old()
        known = self._kept.get(scope) or self._pending.get(scope)
        if known is not None and known.digest != digest:
            raise Conflict("the idempotency key was used before, for a request with other tensors")
        if isinstance(known, _Kept):
            waiter = Waiter(request, compute, reply)
            asyncio.get_running_loop().call_soon(waiter.answer, known.response)
        elif known is not None:
            waiter = known.add(request, compute, reply)
            waiter.watch()
        else:
            pending = _Pending(digest, request.inputs, work)
            waiter = pending.add(request, compute, reply)
            self._begin(scope, pending)
        return waiter

    def _begin(self, scope: Scope, pending: _Pending) -> None:
        """Compute for the first who waits."""
        self._pending[scope] = pending
        first = next(iter(pending.waiters))
        try:
            first.begin(pending.work, lambda result: self._came(scope, pending, result))
        except BaseException:
            del self._pending[scope]
            raise

    def _came(self, scope: Scope, pending: _Pending, result: InferenceResponse | Fault) -> None:
        del self._pending[scope]
        waiting = list(pending.waiters)
        if isinstance(result, InferenceResponse):
            self._try_to_keep(scope, pending.digest, result)
        elif isinstance(result, DeadlineExceeded):
            # It was the deadline of one; others may have more time.
            now = time.monotonic()
            waiting = [waiter for waiter in waiting if waiter.deadline <= now]
        for waiter in waiting:
            waiter.answer(result)
        if pending.waiters:
            self._begin_again(scope, pending)

    def _begin_again(self, scope: Scope, pending: _Pending) -> None:
        fault: Fault
        try:
            self._begin(scope, pending)
            return
        except Fault as refused:
            fault = refused
        except Exception:
            logger.exception("a request could not be begun again")
            fault = InternalError("internal error")
        for waiter in list(pending.waiters):
            waiter.answer(fault)

    def _try_to_keep(self, scope: Scope, digest: bytes, response: InferenceResponse) -> None:
        """Those who wait are answered in any case."""
        try:
            self._keep(scope, digest, response)
        except Exception:  # no memory
            logger.exception("an answer could not be kept")

    def _keep(self, scope: Scope, digest: bytes, response: InferenceResponse) -> None:
        nbytes = _OVERHEAD + sum(nbytes_of(tensor.data) for tensor in response.outputs)
        if nbytes > self._max_bytes:
            return
        # A slice of a batch would keep all of it.
        outputs = [replace(tensor, data=tensor.data.copy()) for tensor in response.outputs]
        kept = replace(response, outputs=outputs)
        self._kept[scope] = _Kept(digest, kept, nbytes, time.monotonic() + self._ttl)
        self.nbytes += nbytes
        while len(self._kept) > self._max_keys or self.nbytes > self._max_bytes:
            self._forget_oldest()

    def _forget_old(self) -> None:
        now = time.monotonic()
        while self._kept and next(iter(self._kept.values())).until <= now:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        self.nbytes -= self._kept.pop(next(iter(self._kept))).nbytes


def digest_of(work: Work) -> bytes:
    """What tells requests apart: all that the model is given, however it came over the wire."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(work.inputs):
        array = work.inputs[name]
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        _add(digest, array)
    digest.update(repr((work.outputs, sorted(work.parameters.items()))).encode())
    return digest.digest()


def _add(digest: hashlib.blake2b, array: Array) -> None:
    if not array.dtype.hasobject:
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return
    for element in array.flat:
        digest.update(b"%d:" % len(element))
        digest.update(element)
