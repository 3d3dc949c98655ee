"""KServe's gRPC client: raw tensors or typed lists; it asks again when a server is UNAVAILABLE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
from harness import ROWS, elements, run
from kserve import InferenceGRPCClient, InferInput, InferRequest


def typed() -> Any:
    flat = [number for row in ROWS for number in row]
    return InferInput("input-0", [2, 4], "FP64", data=flat)


def output(answer: Any) -> Any:
    """The first output of an answer."""
    found = answer.outputs[0]
    return {
        "name": found.name,
        "datatype": found.datatype,
        "shape": list(found.shape),
        "data": elements(found.as_numpy()),
        "content_type": found.parameters["content_type"].string_param,
    }


class Checks:
    def __init__(self, address: str, folder: Path) -> None:
        self._address = address

    async def document(self) -> Any:
        """Typed lists there, typed lists back."""
        async with InferenceGRPCClient(self._address) as client:
            answer = await client.infer(InferRequest("iris", [typed()], request_id="seven"))
        assert answer.outputs[0].data
        assert answer.id == "seven"
        return output(answer)

    async def raw(self) -> Any:
        tensor = InferInput("input-0", [2, 4], "FP64")
        tensor.set_data_from_numpy(np.array(ROWS), binary_data=True)
        async with InferenceGRPCClient(self._address) as client:
            answer = await client.infer(InferRequest("iris", [tensor]))
        assert not answer.outputs[0].data
        return output(answer)

    async def health(self) -> Any:
        async with InferenceGRPCClient(self._address) as client:
            return {
                "live": await client.is_server_live(),
                "ready": await client.is_server_ready(),
                "iris": await client.is_model_ready("iris"),
                "nobody": await client.is_model_ready("nobody"),
            }

    async def unknown(self) -> Any:
        """Status and text."""
        async with InferenceGRPCClient(self._address) as client:
            try:
                answer = await client.infer(InferRequest("nobody", [typed()]))
            except grpc.RpcError as error:
                return [error.code().name, error.details()]
        raise AssertionError(f"not refused: {answer}")


if __name__ == "__main__":
    run(Checks)
