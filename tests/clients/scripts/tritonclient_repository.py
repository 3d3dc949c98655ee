"""tritonclient's calls of the repository extension; the last argument says over which transport."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
from harness import run

FRONT = sys.argv.pop()
triton: Any = importlib.import_module(f"tritonclient.{FRONT}")


class Checks:
    def __init__(self, address: str, folder: Path) -> None:
        self._client = triton.InferenceServerClient(address)

    def index(self) -> Any:
        return self._index()

    def unload_and_load(self) -> Any:
        """What the client sees before, in between and after."""
        seen = [[self._ready(), self._states(), self._answer()]]
        self._client.unload_model("code")
        seen.append([self._ready(), self._states(), self._refusal(self._answer)])
        self._client.load_model("code")
        seen.append([self._ready(), self._states(), self._answer()])
        return seen

    def reload(self) -> Any:
        self._client.load_model("code")
        return self._answer()

    def with_dependents(self) -> Any:
        self._client.unload_model("code", unload_dependents=True)
        self._client.load_model("code")
        return self._states()

    def mistakes(self) -> Any:
        """What is refused, and how."""
        load, unload = self._client.load_model, self._client.unload_model
        return [
            self._refusal(load, "nothing"),
            self._refusal(unload, "nothing"),
            self._refusal(load, "code", config='{"backend": "python"}'),
        ]

    def _index(self) -> Any:
        found = self._client.get_model_repository_index()
        if FRONT == "http":
            return found
        return [
            {"name": one.name, "version": one.version, "state": one.state, "reason": one.reason}
            for one in found.models
        ]

    def _states(self) -> Any:
        return [[one["name"], one["state"]] for one in self._index()]

    def _ready(self) -> Any:
        return [self._client.is_server_ready(), self._client.is_model_ready("code")]

    def _answer(self) -> Any:
        tensor = triton.InferInput("input-0", [1, 1], "FP64")
        tensor.set_data_from_numpy(np.ones((1, 1)))
        return self._client.infer("code", [tensor]).as_numpy("y").tolist()

    def _refusal(self, call: Any, *arguments: Any, **options: Any) -> Any:
        try:
            call(*arguments, **options)
        except triton.InferenceServerException as error:
            return [error.status(), error.message()]
        raise AssertionError("it was not refused")


if __name__ == "__main__":
    run(Checks)
