"""The ways in for those who do not speak the v2 protocol: a form with a file, and base64 in JSON."""

import base64
import binascii
from typing import Any

from oipserver import App, Files, InvalidInput, Models, UnsupportedMediaType

app = App()

SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")  # what a PNG and a JPEG file begin with


@app.post("/classify")
async def classify(files: Files, models: Models) -> dict[str, Any]:
    """A multipart form with the file `image`."""
    return await answer(files["image"].data, models)


@app.post("/classify/base64")
async def classify_base64(body: Any, models: Models) -> dict[str, Any]:
    """{"image": "<base64>"}"""
    text = body.get("image") if isinstance(body, dict) else None
    if not isinstance(text, str):
        raise InvalidInput("'image': expected a string in base64")
    try:
        return await answer(base64.b64decode(text, validate=True), models)
    except binascii.Error as error:
        raise InvalidInput(f"'image': expected base64, {error}") from None


async def answer(data: bytes, models: Models) -> dict[str, Any]:
    """The content decides what a file is, not the name or type that it was sent with."""
    if not data.startswith(SIGNATURES):
        raise UnsupportedMediaType("expected a PNG or JPEG image")
    answer = await models.infer("digits", {"image": [data]})
    return {"digit": answer["digit"][0], "scores": answer["scores"][0]}
