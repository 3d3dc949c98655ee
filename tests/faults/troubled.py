"""Models in which a value of a row says what goes wrong; all other rows are doubled."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from oipserver_python import Input, InvalidInput, Output, function

ROWS: dict[str, Any] = {
    "inputs": [Input("x", "FP64", [-1, 1])],
    "outputs": [Output("y", "FP64", [-1, 1])],
    "example": {"x": np.zeros((1, 1))},
}

# Values from which a request is a guilty one.
GUILTY = 1000.0
HANGS = 2000.0


class Strange(BaseException):
    """Not even an Exception."""


class Unreadable:
    """An answer with code of its own."""

    def __array__(self, *_: object, **__: object) -> NoReturn:
        raise SystemExit("read me not")


RAISED: list[BaseException] = [
    RuntimeError("secret"),
    SystemExit(3),
    KeyboardInterrupt(),
    MemoryError(),
    RecursionError(),
    GeneratorExit(),
    StopIteration(),
    Strange("secret"),
]
ANSWERS: list[Callable[[Any], Any]] = [
    lambda y: y[:-1],
    lambda y: np.concatenate([y, y]),
    lambda y: y[:, :, None],
    lambda y: y.astype(object),
    lambda y: y.astype(complex),
    lambda y: y.astype(str),
    lambda y: None,
    lambda y: {"z": y},
    lambda y: (y, y),
    lambda y: {y.size: y},
    lambda y: Unreadable(),
    lambda y: [Unreadable()] * len(y),
    lambda y: iter(()),
]


@function(**ROWS, batchable=True)
def troubled(x: Any) -> Any:
    """GUILTY + n raises the nth of RAISED, then come ANSWERS; a negative value is the caller's fault."""
    if (x < 0).any():
        raise InvalidInput("negative")
    if (x == HANGS).any():
        time.sleep(3600)
    answer = x * 2
    for value in x[x >= GUILTY]:
        number = int(value - GUILTY)
        if number < len(RAISED):
            raise RAISED[number]
        answer = ANSWERS[number - len(RAISED)](answer)
    return answer


CALLS: list[Any] = []


@function(**ROWS)
def slow(x: Any) -> Any:
    """Waits until the pipe was opened and closed, but for zero; answers how often it was called."""
    CALLS.append(x)
    if x[0, 0]:
        Path(os.environ["TROUBLED_PIPE"]).read_bytes()
    return np.full((1, 1), len(CALLS), dtype=np.float64)
