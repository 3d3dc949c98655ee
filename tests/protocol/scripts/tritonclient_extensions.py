"""tritonclient.http or tritonclient.grpc, asked for what Triton adds to the protocol."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from harness import elements, run
from tritonclient.utils import InferenceServerException, serialize_byte_tensor, shared_memory

FLOWERS = np.array([[5.1, 3.5, 1.4, 0.2], [6.2, 2.9, 4.3, 1.3], [6.9, 3.1, 5.4, 2.1]])
ROWS = np.array([[1.0, 2.0], [3.0, 4.0]])


class Checks:
    """The two modules have the same classes."""

    def __init__(self, address: str, folder: Path) -> None:
        kind, address = address.split("=")
        if kind == "http":
            import tritonclient.http as api
        else:
            import tritonclient.grpc as api
        self._api: Any = api
        self._grpc = kind == "grpc"
        self._key = f"/oip-{kind}-{os.getpid()}-"
        self._client = api.InferenceServerClient(address)
        # As the programs begin that come with the client.
        self._client.unregister_system_shared_memory()
        self._client.unregister_cuda_shared_memory()

    def extensions(self) -> Any:
        return list(self._read(self._client.get_server_metadata)["extensions"])

    def classification(self) -> Any:
        tensor = self._api.InferInput("input-0", list(FLOWERS.shape), "FP64").set_data_from_numpy(FLOWERS)
        wanted = self._api.InferRequestedOutput("predict_proba", class_count=2)
        answer = self._client.infer("species", [tensor], outputs=[wanted]).as_numpy("predict_proba")
        return {"shape": list(answer.shape), "classes": elements(answer)}

    def statistics(self) -> Any:
        before, one = self._counted("double"), self._api.InferInput("x", [2, 2], "FP64")
        for _ in range(3):
            self._client.infer("double", [one.set_data_from_numpy(ROWS)])
        after, everything = self._counted("double"), self._read(self._client.get_inference_statistics)
        return {
            "requests": after["requests"] - before["requests"],
            "rows": after["rows"] - before["rows"],
            "calls": after["calls"] - before["calls"],
            "models": sorted(model["name"] for model in everything["model_stats"]),
        }

    def config(self) -> Any:
        found = self._read(self._client.get_model_config, "squares")
        return found["config"] if self._grpc else found

    def shared(self) -> Any:
        """A tensor there and back, and what the client sees of it."""
        with self._memory("in", ROWS.nbytes) as put, self._memory("out", 64) as out:
            shared_memory.set_shared_memory_region(put, [ROWS])
            status = self._client.get_system_shared_memory_status()
            tensor = self._api.InferInput("x", [2, 2], "FP64")
            tensor.set_shared_memory("in", ROWS.nbytes)
            wanted = self._api.InferRequestedOutput("y")
            wanted.set_shared_memory("out", 32, 16)
            result = self._client.infer("double", [tensor], outputs=[wanted])
            output = result.get_output("y")
            shape = output.shape if self._grpc else output["shape"]
            answer = shared_memory.get_contents_as_numpy(out, np.float64, [8])
            return {
                "registered": sorted(status.regions if self._grpc else (one["name"] for one in status)),
                "shape": [int(size) for size in shape],
                "memory": answer.tolist(),
            }

    def shared_texts(self) -> Any:
        words = np.array([b"ab", "grün".encode()], dtype=np.object_)
        with self._memory("words", 64) as put, self._memory("texts", 64) as out:
            shared_memory.set_shared_memory_region(put, [serialize_byte_tensor(words)])
            size = sum(4 + len(word) for word in words)
            word = self._api.InferInput("word", [2], "BYTES")
            times = self._api.InferInput("times", [2], "INT64")
            word.set_shared_memory("words", size)
            times.set_data_from_numpy(np.array([2, 1]))
            wanted = self._api.InferRequestedOutput("text")
            wanted.set_shared_memory("texts", 64)
            self._client.infer("repeat", [word, times], outputs=[wanted])
            return elements(shared_memory.get_contents_as_numpy(out, np.object_, [2]))

    def mistakes(self) -> Any:
        with self._memory("twice", 16):
            found = {
                "twice": self._refused(lambda: self._register("twice", self._key + "twice", 16)),
                "too large": self._refused(lambda: self._register("large", self._key + "twice", 17)),
            }
        tensor = self._api.InferInput("x", [2, 2], "FP64")
        tensor.set_shared_memory("twice", 32)
        found["no region"] = self._refused(lambda: self._client.infer("double", [tensor]))
        status = self._client.get_system_shared_memory_status
        found["no status"] = self._refused(lambda: status("twice"))
        return found

    @contextmanager
    def _memory(self, name: str, size: int) -> Iterator[Any]:
        """A region of shared memory, registered meanwhile."""
        key = self._key + name
        handle = shared_memory.create_shared_memory_region(name, key, size)
        try:
            self._register(name, key, size)
            yield handle
        finally:
            self._client.unregister_system_shared_memory(name)
            shared_memory.destroy_shared_memory_region(handle)

    def _register(self, name: str, key: str, size: int) -> None:
        self._client.register_system_shared_memory(name, key, size)

    def _counted(self, model: str) -> dict[str, int]:
        (found,) = self._read(self._client.get_inference_statistics, model)["model_stats"]
        return {
            "requests": int(found["inference_stats"]["success"]["count"]),
            "rows": int(found["inference_count"]),
            "calls": int(found["execution_count"]),
        }

    def _read(self, read: Any, *arguments: str) -> Any:
        return read(*arguments, as_json=True) if self._grpc else read(*arguments)

    def _refused(self, ask: Any) -> list[str]:
        """Status and text of the error."""
        try:
            answer = ask()
        except InferenceServerException as error:
            return [error.status(), error.message()]
        raise AssertionError(f"not refused: {answer}")


if __name__ == "__main__":
    run(Checks)
