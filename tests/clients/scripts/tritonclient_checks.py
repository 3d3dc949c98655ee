"""What tritonclient.http and tritonclient.grpc are both asked: the two modules have the same classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import ROWS, elements
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

FLOWERS = np.array(ROWS)
REVIEWS = np.array([["a great film"], ["dull, far too long"]], dtype=np.object_)


class TritonChecks:
    """The checks that are the same for both transports.

    Attributes:
        _api: the module, tritonclient.http or tritonclient.grpc.
        _client: its InferenceServerClient.
    """

    _api: Any
    _client: Any
    _folder: Path

    def document(self) -> Any:
        return self._infer("iris", {"input-0": FLOWERS})[0]

    def health(self) -> Any:
        ready = self._client.is_model_ready
        return {
            "live": self._client.is_server_live(),
            "ready": self._client.is_server_ready(),
            "iris": ready("iris"),
            "iris 1": ready("iris", "1"),
            "iris 7": ready("iris", "7"),
            "nobody": ready("nobody"),
        }

    def server_metadata(self) -> Any:
        return self._plain(self._client.get_server_metadata)

    def model_metadata(self) -> Any:
        return {
            version: self._plain(self._client.get_model_metadata, "iris", version)
            for version in ("", "0", "1")
        }

    def unknown(self) -> Any:
        read = self._client.get_model_metadata
        return {
            "metadata": self._refused(lambda: read("nobody")),
            "metadata of a version": self._refused(lambda: read("iris", "7")),
            "infer": self._refused(lambda: self._infer("nobody", {"input-0": FLOWERS})),
            "infer of a version": self._refused(
                lambda: self._infer("iris", {"input-0": FLOWERS}, model_version="7")
            ),
        }

    def mistakes(self) -> Any:
        """Each would be an answer of another server's 500, or worse, a wrong one."""
        return {
            "columns": self._refused(lambda: self._infer("iris", {"input-0": FLOWERS[:, :3]})),
            "datatype": self._refused(lambda: self._infer("iris", {"input-0": FLOWERS.astype(bool)})),
            "output": self._refused(lambda: self._infer("iris", {"input-0": FLOWERS}, ["nothing"])),
            "no rows": self._refused(lambda: self._infer("iris", {"input-0": FLOWERS[:0]})),
            "nan": self._refused(lambda: self._infer("iris", {"input-0": FLOWERS * np.nan})),
            "column names": self._refused(lambda: self._infer("people", {"town": REVIEWS, "age": REVIEWS})),
        }

    def versions(self) -> Any:
        return [
            elements(self._ask("iris", {"input-0": FLOWERS}, model_version=version).as_numpy("predict"))
            for version in ("", "0", "1")
        ]

    def single_precision(self) -> Any:
        return self._infer("iris", {"input-0": FLOWERS.astype(np.float32)})[0]

    def probabilities(self) -> Any:
        """Two outputs, in the order that was asked for."""
        return self._infer("iris", {"input-0": FLOWERS}, ["predict_proba", "predict"])

    def gaps(self) -> Any:
        holed = np.where(FLOWERS > 4, np.nan, FLOWERS)
        return self._infer("gaps", {"input-0": holed}, ["predict_proba"])

    def text(self) -> Any:
        return self._infer("reviews", {"input-0": REVIEWS})

    def text_labels(self) -> Any:
        return self._infer("species", {"input-0": FLOWERS})

    def columns(self) -> Any:
        """One input per column; in another order than the model's, and of more rows than its batch size."""
        rows = [("Oslo", 34.0, 42.0), ("Bern", 21.0, 18.5), ("Rome", 50.0, 60.0), ("Rome", 30.0, 10.0)]
        city, age, income = (np.array([[value] for value in column]) for column in zip(*rows, strict=True))
        inputs = {"income": income, "age": age.astype(np.int32), "city": city.astype(np.object_)}
        return self._infer("people", inputs, ["predict", "predict_proba"])

    def request_id(self) -> Any:
        inputs = self._inputs({"input-0": FLOWERS})
        own, none = (self._client.infer("iris", inputs, request_id=given) for given in ("käse 7/α", ""))
        return {"own": self._id(own), "made": bool(self._id(none))}

    def schedule(self) -> Any:
        """Arguments that speak to a server with priorities and sequences; and more time than is needed."""
        return self._infer(
            "iris",
            {"input-0": FLOWERS},
            priority=2,
            timeout=10_000_000,
            sequence_id=5,
            sequence_start=True,
            parameters={"anything": "goes", "number": 3},
        )[0]

    def out_of_time(self) -> Any:
        """The server's own deadline, in microseconds, for a model that needs much more."""
        many = np.zeros((10_000, 4))
        return self._refused(lambda: self._infer("slow", {"input-0": many}, timeout=50_000))

    def large(self) -> Any:
        """16 MB there and back; the test compares the file."""
        rows = np.load(self._folder / "large.npy")
        answer = self._ask("scaler", {"input-0": rows}).as_numpy("transform")
        np.save(self._folder / f"{self._api.__name__}.npy", answer)
        return list(answer.shape)

    def _infer(
        self, model: str, inputs: Mapping[str, Any], outputs: Sequence[str] = (), **options: Any
    ) -> list[Any]:
        result = self._ask(model, inputs, outputs, **options)
        return [self._output(result, name) for name in outputs or self._names(result)]

    def _ask(self, model: str, inputs: Mapping[str, Any], outputs: Sequence[str] = (), **options: Any) -> Any:
        wanted = [self._api.InferRequestedOutput(name) for name in outputs] or None
        return self._client.infer(model, self._inputs(inputs), outputs=wanted, **options)

    def _inputs(self, arrays: Mapping[str, Any], **options: Any) -> list[Any]:
        """The arrays as the client's inputs; `options` say how they travel."""
        return [
            self._api.InferInput(
                name, list(array.shape), np_to_triton_dtype(array.dtype)
            ).set_data_from_numpy(array, **options)
            for name, array in arrays.items()
        ]

    def _refused(self, ask: Callable[[], Any]) -> list[str]:
        """Status and text of the error."""
        try:
            answer = ask()
        except InferenceServerException as error:
            return [error.status(), error.message()]
        raise AssertionError(f"not refused: {answer}")

    def _plain(self, read: Callable[..., Any], *arguments: str) -> Any:
        raise NotImplementedError

    def _names(self, result: Any) -> list[str]:
        raise NotImplementedError

    def _output(self, result: Any, name: str) -> Any:
        raise NotImplementedError

    def _id(self, result: Any) -> str:
        raise NotImplementedError
