"""The client generated from the specification's OpenAPI document: strict about every member it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import DOCUMENT, run
from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.core.api_error import ApiError
from open_inference.openapi.types import InferenceRequest


def ready(check: Callable[..., None], *arguments: str) -> bool:
    """These calls return nothing, or raise."""
    try:
        check(*arguments)
    except ApiError as error:
        if error.status_code != 404:
            raise
        return False
    return True


def refused(ask: Callable[[], Any]) -> list[Any]:
    """Status and text; the body has a class where the specification expects the status, else it is a dict."""
    try:
        answer = ask()
    except ApiError as error:
        body = error.body if isinstance(error.body, dict) else error.body.dict()
        return [error.status_code, body["error"]]
    raise AssertionError(f"not refused: {answer}")


class Checks:
    def __init__(self, address: str, folder: Path) -> None:
        self._client = OpenInferenceClient(base_url=f"http://{address}", timeout=60)
        self._request = InferenceRequest.parse_obj(DOCUMENT)

    def document(self) -> Any:
        answer = self._client.model_infer("iris", request=self._request)
        assert answer.model_name == "iris"
        output = answer.outputs[0].dict()
        return {"content_type": output.pop("parameters")["content_type"], **output}

    def version(self) -> Any:
        answer = self._client.model_version_infer("iris", "0", request=self._request)
        return [answer.model_version, answer.outputs[0].dict()["data"]]

    def health(self) -> Any:
        client = self._client
        return {
            "live": ready(client.check_server_liveness),
            "ready": ready(client.check_server_readiness),
            "iris": ready(client.check_model_readiness, "iris"),
            "iris 1": ready(client.check_model_version_readiness, "iris", "1"),
            "iris 7": ready(client.check_model_version_readiness, "iris", "7"),
            "nobody": ready(client.check_model_readiness, "nobody"),
        }

    def server_metadata(self) -> Any:
        return self._client.read_server_metadata().dict()

    def model_metadata(self) -> Any:
        read = self._client.read_model_version_metadata
        return {
            "": self._client.read_model_metadata("iris").dict(),
            "0": read("iris", "0").dict(),
            "1": read("iris", "1").dict(),
        }

    def unknown(self) -> Any:
        client, request = self._client, self._request
        return {
            "metadata": refused(lambda: client.read_model_metadata("nobody")),
            "metadata of a version": refused(lambda: client.read_model_version_metadata("iris", "7")),
            "infer": refused(lambda: client.model_infer("nobody", request=request)),
            "infer of a version": refused(lambda: client.model_version_infer("iris", "7", request=request)),
        }


if __name__ == "__main__":
    run(Checks)
