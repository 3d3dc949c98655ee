"""tritonclient.http: binary tensors by default, JSON on request."""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http
from harness import elements, run
from tritonclient_checks import FLOWERS, REVIEWS, TritonChecks

IN_FLIGHT = 64


def output(result: Any, name: str) -> Any:
    """One output of an answer, however it travelled."""
    found, array = result.get_output(name), result.as_numpy(name)
    assert ("data" in found) != ("binary_data_size" in found["parameters"]), found
    return {
        "name": name,
        "datatype": found["datatype"],
        "shape": found["shape"],
        "data": elements(array),
        "content_type": found["parameters"]["content_type"],
    }


class Checks(TritonChecks):
    def __init__(self, address: str, folder: Path) -> None:
        self._api = tritonclient.http
        self._client = tritonclient.http.InferenceServerClient(address)
        self._address = address
        self._folder = folder

    def forms(self) -> Any:
        """JSON and binary, there and back."""
        return {
            f"binary {there} {back}": self._travel("iris", {"input-0": FLOWERS}, "predict", there, back)
            for there, back in product((False, True), repeat=2)
        }

    def json_text(self) -> Any:
        return self._travel("reviews", {"input-0": REVIEWS}, "predict", False, False)

    def json_nan(self) -> Any:
        """The client writes the literal NaN, which is not JSON."""
        holed = {"input-0": np.where(FLOWERS > 4, np.nan, FLOWERS)}
        return {
            "refused": self._refused(lambda: self._travel("iris", holed, "predict", False, False)),
            "accepted": self._travel("gaps", holed, "predict_proba", False, False),
        }

    def mixed(self) -> Any:
        """One output binary, the next as JSON, one input of each kind."""
        api = tritonclient.http
        city = self._inputs({"city": np.array([["Oslo"]], dtype=np.object_)}, binary_data=False)
        numbers = self._inputs({"age": np.array([[34.0]]), "income": np.array([[42.0]])}, binary_data=True)
        outputs = [
            api.InferRequestedOutput("predict_proba", binary_data=True),
            api.InferRequestedOutput("predict", binary_data=False),
        ]
        result = self._client.infer("people", [numbers[0], *city, numbers[1]], outputs=outputs)
        assert "data" not in result.get_output("predict_proba")
        assert "data" in result.get_output("predict")
        return [self._output(result, name) for name in ("predict", "predict_proba")]

    def compression(self) -> Any:
        """Each algorithm there and back; the answer is large enough to be worth it."""
        rows = np.tile(FLOWERS, (200, 1))
        infer = functools.partial(self._client.infer, "scaler", self._inputs({"input-0": rows}))
        answers = {
            f"{there} {back}": infer(
                request_compression_algorithm=there, response_compression_algorithm=back
            ).as_numpy("transform")
            for there, back in product((None, "gzip", "deflate"), repeat=2)
        }
        return {ways: np.array_equal(answer, answers["None None"]) for ways, answer in answers.items()}

    def many(self) -> Any:
        """Every caller gets its own answer."""
        with tritonclient.http.InferenceServerClient(self._address, concurrency=IN_FLIGHT) as client:
            rows = [np.full((1, 4), float(number)) for number in range(IN_FLIGHT)]
            calls = [client.async_infer("scaler", self._inputs({"input-0": row})) for row in rows]
            return [call.get_result().as_numpy("transform")[0].tolist() for call in calls]

    def _travel(self, model: str, arrays: Any, name: str, there: bool, back: bool) -> Any:
        wanted = [tritonclient.http.InferRequestedOutput(name, binary_data=back)]
        result = self._client.infer(model, self._inputs(arrays, binary_data=there), outputs=wanted)
        assert ("data" in result.get_output(name)) != back
        return self._output(result, name)

    def _plain(self, read: Callable[..., Any], *arguments: str) -> Any:
        return read(*arguments)

    def _names(self, result: Any) -> list[str]:
        return [found["name"] for found in result.get_response()["outputs"]]

    def _output(self, result: Any, name: str) -> Any:
        return output(result, name)

    def _id(self, result: Any) -> str:
        return str(result.get_response()["id"])


if __name__ == "__main__":
    run(Checks)
