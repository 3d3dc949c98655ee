"""Models of the server that the console's tests talk to: a detector, a text function, and two that fail."""

from __future__ import annotations

import io
import time

import numpy as np
from oipserver_python import Input, Output, function
from oipserver_python import image as decoded
from PIL import Image


def blank() -> bytes:
    """A PNG file with nothing on it."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "white").save(file, "PNG")
    return file.getvalue()


COLOURS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255)}


@function(
    inputs=[Input("image", "BYTES", [1])],
    outputs=[
        Output("boxes", "FP32", [-1, 4]),  # left, top, right, bottom, in pixels
        Output("labels", "BYTES", [-1]),
        Output("scores", "FP32", [-1], minimum=0, maximum=1),
    ],
    example={"image": [blank()]},
)
def finder(image: np.ndarray) -> dict[str, object]:
    """The box around each of three colours, and how much of it has that colour."""
    picture = decoded(image[0])
    boxes, labels, scores = [], [], []
    for name, colour in COLOURS.items():
        rows, columns = np.nonzero((np.abs(picture.astype(int) - colour) < 40).all(-1))
        if rows.size:
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            boxes.append(box)
            labels.append(name)
            scores.append(rows.size / ((box[2] - box[0]) * (box[3] - box[1])))
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "labels": labels,
        "scores": np.array(scores, np.float32),
    }


@function(inputs=[Input("text", "BYTES", [-1])], outputs=[Output("loud", "BYTES", [-1])])
def shout(text: np.ndarray) -> np.ndarray:
    """The texts in capitals."""
    return np.array([each.upper() for each in text], dtype=object)


@function(inputs=[Input("x", "FP64", [-1])], outputs=[Output("y", "FP64", [-1])])
def slow(x: np.ndarray) -> np.ndarray:
    """Takes as many seconds as its first number says."""
    time.sleep(min(float(x[0]), 5.0))
    return x


@function(inputs=[Input("x", "FP64", [-1])], outputs=[Output("y", "FP64", [-1])])
def broken(x: np.ndarray) -> np.ndarray:
    """Fails for what is below zero."""
    if x.min() < 0:
        raise RuntimeError("secret of the model")
    return x
