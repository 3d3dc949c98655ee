"""What is served: bytes of pictures in, the digits on them and the scores of all ten out."""

from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import joblib
import numpy as np
from oipserver_python import Input, Output
from oipserver_python import image as decoded
from PIL import Image


def blank() -> bytes:
    """A PNG file with nothing on it."""
    file = BytesIO()
    Image.new("L", (8, 8)).save(file, "PNG")
    return file.getvalue()


class Digits:
    """One picture is one row, so pictures of several callers go through the classifier together."""

    inputs = (Input("image", "BYTES", [-1]),)  # PNG or JPEG, of any size up to a million pixels
    outputs = (
        Output("digit", "INT64", [-1], minimum=0, maximum=9),
        Output("scores", "FP64", [-1, 10], minimum=0, maximum=1),
    )
    batchable = True
    example: ClassVar = {"image": [blank()]}  # for the warm-up

    def load(self, path: Path, config: object) -> None:
        self.classifier = joblib.load(path / "model.joblib")

    def infer(self, image: np.ndarray) -> dict[str, Any]:
        scores = self.classifier.predict_proba(np.stack([pixels(data) for data in image]))
        return {"digit": scores.argmax(1), "scores": scores}


def pixels(data: bytes) -> np.ndarray:
    """The 64 numbers that the classifier knows.  `decoded` refuses what is no picture, or too large a one."""
    picture = Image.fromarray(decoded(data, mode="L", max_pixels=1_000_000))
    return np.asarray(picture.resize((8, 8), Image.Resampling.BOX), float).ravel() / 255
