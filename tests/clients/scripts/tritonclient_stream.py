"""tritonclient.grpc's bidirectional stream, to models that count: `count` streams, `double` does not."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc
from harness import run

REQUESTS = 100
ENDLESS = 1e9


class Checks:
    def __init__(self, address: str, folder: Path) -> None:
        self._client = tritonclient.grpc.InferenceServerClient(address)

    def many(self) -> Any:
        """One stream, many requests, each with its own id."""
        answers = self._start()
        for number in range(REQUESTS):
            self._ask("double", float(number), str(number))
        came = [answers.get(timeout=60) for _ in range(REQUESTS)]
        self._client.stop_stream()
        assert not any(error for _, error in came), came
        return {answer.get_response().id: answer.as_numpy("y")[0, 0].tolist() for answer, _ in came}

    def decoupled(self) -> Any:
        """A model that streams, with an empty answer that says that it was the last."""
        answers = self._start()
        self._ask("count", 3.0, "mine", enable_empty_final_response=True)
        came: list[tuple[str, float | None, bool]] = []
        while not came or not came[-1][2]:
            answer, error = answers.get(timeout=60)
            assert not error, error
            response = answer.get_response()
            number = answer.as_numpy("n")
            final = response.parameters["triton_final_response"].bool_param
            came.append((response.id, None if number is None else number[0, 0].tolist(), final))
        self._client.stop_stream()
        return came

    def mistakes(self) -> Any:
        """A bad request is told, and the stream goes on."""
        answers = self._start()
        self._ask("nobody", 1.0, "bad")
        nothing, error = answers.get(timeout=60)
        self._ask("double", 2.0, "good")
        answer, no_error = answers.get(timeout=60)
        self._client.stop_stream()
        assert nothing is None
        assert no_error is None
        return [error.message(), answer.as_numpy("y")[0, 0].tolist()]

    def cancelled(self) -> Any:
        """A stream that is broken off in the midst of an endless answer."""
        answers = self._start()
        self._ask("count", ENDLESS, "endless")
        first = answers.get(timeout=60)[0].as_numpy("n")[0, 0].tolist()
        self._client.stop_stream(cancel_requests=True)
        return first

    def _start(self) -> queue.SimpleQueue[tuple[Any, Any]]:
        answers: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        self._client.start_stream(callback=lambda result, error: answers.put((result, error)))
        return answers

    def _ask(self, model: str, value: float, request_id: str, **options: Any) -> None:
        tensor = tritonclient.grpc.InferInput("x", [1, 2], "FP64")
        tensor.set_data_from_numpy(np.full((1, 2), value))
        self._client.async_stream_infer(model, [tensor], request_id=request_id, **options)


if __name__ == "__main__":
    run(Checks)
