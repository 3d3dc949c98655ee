"""What needs no server: a model's own `predict`, and a copy of the same bytes.

`python in_process.py DIRECTORY` answers each line of its input, a JSON object with `what` ("predict" or
"copy"), `model`, `rows`, `warm_up` and `seconds`, by a line with `latencies` in seconds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import joblib
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that this file can be run from anywhere

from benchmarks.models import MLP, rows_for


@cache
def load(model: str) -> Any:
    """One of the trained models."""
    return joblib.load(Path(sys.argv[1]) / f"{model}.joblib")


def prepared(what: str, model: str, rows: int) -> Callable[[], Any]:
    """What is to be timed.  Large rows are FP32, as on the wire."""
    batch = rows_for(model, rows).astype(np.float32 if model == MLP else np.float64)
    if what == "copy":
        target = np.empty_like(batch)
        return lambda: np.copyto(target, batch)
    predict = load(model).predict
    return lambda: predict(batch)


def timed(call: Callable[[], Any], warm_up: float, seconds: float) -> list[float]:
    """How long each call took, again and again for so long; at least one."""
    begin = perf_counter() + warm_up
    end = begin + seconds
    latencies: list[float] = []
    now = perf_counter()
    while now < end or not latencies:
        before = now
        call()
        now = perf_counter()
        if before >= begin:
            latencies.append(now - before)
    return latencies


if __name__ == "__main__":
    for line in sys.stdin:
        asked = json.loads(line)
        call = prepared(asked["what"], asked["model"], asked["rows"])
        print(json.dumps({"latencies": timed(call, asked["warm_up"], asked["seconds"])}), flush=True)
