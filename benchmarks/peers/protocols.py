"""The same rows in each peer's own words."""

from __future__ import annotations

import json
from collections.abc import Callable

from benchmarks.models import Rows
from benchmarks.questions import HttpQuestion, Numbers, equal, v2_json

# (model, FP64 rows `[rows, features]`, what the model says to them)
Ask = Callable[[str, Rows, Numbers], HttpQuestion]

_JSON = {"Content-Type": "application/json"}


def v2_of(datatypes: dict[str, str]) -> Ask:
    """The Open Inference Protocol with the one datatype that each model takes."""

    def ask(model: str, rows: Rows, expected: Numbers) -> HttpQuestion:
        question = v2_json(model, rows, expected)
        body = question.body.replace(b'"FP64"', f'"{datatypes[model]}"'.encode(), 1)
        return HttpQuestion(question.path, question.headers, body, question.right)

    return ask


def plain(path: str, key: str, answer_key: str) -> Ask:
    """`{key: rows}` to `path`, in which `{model}` is filled in; answered with `{answer_key: numbers}`."""

    def ask(model: str, rows: Rows, expected: Numbers) -> HttpQuestion:
        body = json.dumps({key: rows.tolist()}, separators=(",", ":")).encode()

        def right(answer: bytes) -> bool:
            return equal(json.loads(answer)[answer_key], expected)

        return HttpQuestion(path.format(model=model), _JSON, body, right)

    return ask
