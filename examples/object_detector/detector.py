"""What is served: the bytes of a picture in; boxes, labels and scores of the shapes on it out."""

from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from network import ShapeNetwork, iou
from oipserver_python import Input, Output
from oipserver_python import image as decoded
from PIL import Image
from shapes import SIZE, pixels
from transformers.utils import logging


def blank() -> bytes:
    """A PNG file with nothing on it."""
    file = BytesIO()
    Image.new("RGB", (SIZE, SIZE)).save(file, "PNG")
    return file.getvalue()


class Detector:
    """A plain class: what it takes, what it gives, how it is loaded and how it is asked."""

    inputs = (Input("image", "BYTES", [1]),)  # PNG, JPEG, ... of any size
    outputs = (
        Output("boxes", "FP32", [-1, 4]),  # left, top, right, bottom, in pixels of the picture
        Output("labels", "BYTES", [-1]),
        Output("scores", "FP32", [-1], minimum=0, maximum=1),  # the best first
    )
    example: ClassVar = {"image": [blank()]}  # for the warm-up: the first call of a network is its slowest

    def load(self, path: Path, config: object) -> None:
        logging.disable_progress_bar()
        torch.set_num_threads(1)  # more would wait for each other most of the time: the network is small
        self.network = ShapeNetwork.from_pretrained(path / "weights").eval()

    @torch.inference_mode()
    def infer(self, image: np.ndarray) -> dict[str, Any]:
        picture = Image.fromarray(decoded(image[0]))
        logits, boxes = self.network(torch.from_numpy(pixels(picture))[None])
        scores, classes = logits[0].sigmoid().max(-1)
        chosen = best(scores, boxes[0])
        names = self.network.config.id2label
        return {
            "boxes": (boxes[0, chosen] * torch.tensor(picture.size * 2)).numpy(),
            "labels": [names[label] for label in classes[chosen].tolist()],
            "scores": scores[chosen].numpy(),
        }


def best(scores: torch.Tensor, boxes: torch.Tensor, threshold: float = 0.5) -> list[int]:
    """The cells that found a shape, the best first, without those that found the shape of a better one."""
    chosen: list[int] = []
    for cell in scores.argsort(descending=True).tolist():
        if scores[cell] > threshold and not any(iou(boxes[cell], boxes[other]) > 0.5 for other in chosen):
            chosen.append(cell)
    return chosen
