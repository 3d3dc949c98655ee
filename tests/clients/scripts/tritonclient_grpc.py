"""tritonclient.grpc: always raw tensors."""

from __future__ import annotations

import queue
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc
from harness import elements, run
from tritonclient_checks import FLOWERS, TritonChecks

IN_FLIGHT = 64


class Checks(TritonChecks):
    def __init__(self, address: str, folder: Path) -> None:
        self._api = tritonclient.grpc
        self._client = tritonclient.grpc.InferenceServerClient(address)
        self._folder = folder

    def compression(self) -> Any:
        rows = np.tile(FLOWERS, (200, 1))
        answers = {
            str(way): self._ask("scaler", {"input-0": rows}, compression_algorithm=way).as_numpy("transform")
            for way in (None, "gzip", "deflate")
        }
        return {way: np.array_equal(answer, answers["None"]) for way, answer in answers.items()}

    def client_timeout(self) -> Any:
        """The caller's deadline, in seconds, for a model that needs much more."""
        many = np.zeros((10_000, 4))
        return self._refused(lambda: self._infer("slow", {"input-0": many}, client_timeout=0.05))

    def many(self) -> Any:
        """Every caller gets its own answer."""
        answers: queue.SimpleQueue[tuple[int, Any, Any]] = queue.SimpleQueue()
        for number in range(IN_FLIGHT):
            self._client.async_infer(
                "scaler",
                self._inputs({"input-0": np.full((1, 4), float(number))}),
                callback=lambda result, error, number=number: answers.put((number, result, error)),
            )
        arrived = sorted((answers.get(timeout=60) for _ in range(IN_FLIGHT)), key=lambda answer: answer[0])
        assert not any(error for _, _, error in arrived), arrived
        return [result.as_numpy("transform")[0].tolist() for _, result, _ in arrived]

    def _plain(self, read: Callable[..., Any], *arguments: str) -> Any:
        document = read(*arguments, as_json=True)
        for tensor in (*document.get("inputs", ()), *document.get("outputs", ())):
            tensor["shape"] = [
                int(size) for size in tensor["shape"]
            ]  # protobuf's JSON has no 64-bit integers
        return document

    def _names(self, result: Any) -> list[str]:
        return [found.name for found in result.get_response().outputs]

    def _output(self, result: Any, name: str) -> Any:
        found = result.get_output(name)
        return {
            "name": name,
            "datatype": found.datatype,
            "shape": list(found.shape),
            "data": elements(result.as_numpy(name)),
            "content_type": found.parameters["content_type"].string_param,
        }

    def _id(self, result: Any) -> str:
        return str(result.get_response().id)


if __name__ == "__main__":
    run(Checks)
