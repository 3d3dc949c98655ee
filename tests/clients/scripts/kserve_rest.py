"""KServe's REST client: reads health bodies, names the model in its body, compares content types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from harness import DOCUMENT, ROWS, elements, run
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput


def client() -> Any:
    return InferenceRESTClient(RESTConfig(protocol="v2", timeout=60))


def output(answer: Any) -> Any:
    """The first output of an answer."""
    found = answer.outputs[0]
    return {
        "name": found.name,
        "datatype": found.datatype,
        "shape": list(found.shape),
        "data": elements(found.as_numpy()),
        "content_type": found.parameters["content_type"],
    }


class Checks:
    def __init__(self, address: str, folder: Path) -> None:
        self._url = f"http://{address}"

    async def document(self) -> Any:
        """The client's own classes, as JSON."""
        tensor = InferInput("input-0", [2, 4], "FP64", data=ROWS)
        async with client() as rest:
            return output(await rest.infer(self._url, InferRequest("iris", [tensor]), model_name="iris"))

    async def dictionary(self) -> Any:
        async with client() as rest:
            return output(await rest.infer(self._url, json.loads(json.dumps(DOCUMENT)), model_name="iris"))

    async def binary(self) -> Any:
        tensor = InferInput("input-0", [2, 4], "FP64")
        tensor.set_data_from_numpy(np.array(ROWS), binary_data=True)
        wanted = [RequestedOutput("predict", {"binary_data": True})]
        request = InferRequest("iris", [tensor], request_outputs=wanted, request_id="seven")
        headers: dict[str, str] = {}
        async with client() as rest:
            answer = await rest.infer(self._url, request, model_name="iris", response_headers=headers)
        assert headers["content-type"] == "application/octet-stream"
        assert int(headers["inference-header-content-length"]) < int(headers["content-length"])
        assert answer.id == "seven"
        return output(answer)

    async def health(self) -> Any:
        async with client() as rest:
            return {
                "live": await rest.is_server_live(self._url),
                "ready": await rest.is_server_ready(self._url),
                "iris": await rest.is_model_ready(self._url, "iris"),
                "nobody": await rest.is_model_ready(self._url, "nobody"),
            }

    async def unknown(self) -> Any:
        """Status and text; the text is there only when the content type is application/json exactly."""
        async with client() as rest:
            try:
                answer = await rest.infer(self._url, DOCUMENT, model_name="nobody")
            except httpx.HTTPStatusError as error:
                return [error.response.status_code, str(error)]
        raise AssertionError(f"not refused: {answer}")


if __name__ == "__main__":
    run(Checks)
