"""tritonclient.http.aio: says octet-stream even for pure JSON, and accepts compressed answers everywhere."""

from __future__ import annotations

import asyncio
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from harness import run
from tritonclient.http import InferInput, InferRequestedOutput
from tritonclient.http.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException
from tritonclient_checks import FLOWERS
from tritonclient_http import IN_FLIGHT, output


def flowers(array: Any = FLOWERS, binary: bool = True) -> list[Any]:
    """The only input."""
    return [InferInput("input-0", list(array.shape), "FP64").set_data_from_numpy(array, binary_data=binary)]


class Checks:
    def __init__(self, address: str, folder: Path) -> None:
        self._address = address

    async def document(self) -> Any:
        async with InferenceServerClient(self._address) as client:
            return output(await client.infer("iris", flowers()), "predict")

    async def json_document(self) -> Any:
        async with InferenceServerClient(self._address) as client:
            wanted = [InferRequestedOutput("predict", binary_data=False)]
            return output(await client.infer("iris", flowers(binary=False), outputs=wanted), "predict")

    async def health(self) -> Any:
        async with InferenceServerClient(self._address) as client:
            return {
                "live": await client.is_server_live(),
                "ready": await client.is_server_ready(),
                "iris": await client.is_model_ready("iris"),
                "iris 1": await client.is_model_ready("iris", "1"),
                "iris 7": await client.is_model_ready("iris", "7"),
                "nobody": await client.is_model_ready("nobody"),
            }

    async def server_metadata(self) -> Any:
        async with InferenceServerClient(self._address) as client:
            return await client.get_server_metadata()

    async def model_metadata(self) -> Any:
        async with InferenceServerClient(self._address) as client:
            return {version: await client.get_model_metadata("iris", version) for version in ("", "0", "1")}

    async def unknown(self) -> Any:
        """This client reads errors as text without looking at their encoding."""
        async with InferenceServerClient(self._address) as client:
            return {
                "metadata": await refused(client.get_model_metadata("nobody")),
                "metadata of a version": await refused(client.get_model_metadata("iris", "7")),
                "infer": await refused(client.infer("nobody", flowers())),
                "infer of a version": await refused(client.infer("iris", flowers(), model_version="7")),
            }

    async def compression(self) -> Any:
        """Each algorithm there and back; the answer is large enough to be worth it."""
        rows = np.tile(FLOWERS, (200, 1))
        async with InferenceServerClient(self._address) as client:
            answers = {}
            for there, back, binary in product((None, "gzip", "deflate"), (None, "gzip", "deflate"), (0, 1)):
                wanted = [InferRequestedOutput("transform", binary_data=bool(binary))]
                result = await client.infer(
                    "scaler",
                    flowers(rows, bool(binary)),
                    outputs=wanted,
                    request_compression_algorithm=there,
                    response_compression_algorithm=back,
                )
                answers[f"{there} {back} {binary}"] = result.as_numpy("transform")
        return {ways: np.array_equal(answer, answers["None None 1"]) for ways, answer in answers.items()}

    async def many(self) -> Any:
        """Every caller gets its own answer."""
        rows = [np.full((1, 4), float(number)) for number in range(IN_FLIGHT)]
        async with InferenceServerClient(self._address) as client:
            results = await asyncio.gather(*(client.infer("scaler", flowers(row)) for row in rows))
            return [result.as_numpy("transform")[0].tolist() for result in results]


async def refused(call: Any) -> list[str]:
    """Status and text of the error."""
    try:
        answer = await call
    except InferenceServerException as error:
        return [error.status(), error.message()]
    raise AssertionError(f"not refused: {answer}")


if __name__ == "__main__":
    run(Checks)
