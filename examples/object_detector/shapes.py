"""Pictures of one to three coloured shapes, and where they are."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

LABELS = ("circle", "square", "triangle")
SIZE = 64


class Shape(NamedTuple):
    label: str
    box: tuple[int, int, int, int]  # left, top, right, bottom, in pixels


def draw(random: np.random.Generator) -> tuple[Image.Image, list[Shape]]:
    """A picture of SIZE x SIZE pixels with one to three shapes that do not overlap."""
    background = random.integers(0, 256, 3)
    image = Image.new("RGB", (SIZE, SIZE), tuple(background.tolist()))
    shapes: list[Shape] = []
    for _ in range(random.integers(1, 4)):
        shape = Shape(str(random.choice(LABELS)), _box(random))
        if not any(_overlap(shape.box, other.box) for other in shapes):
            _fill(ImageDraw.Draw(image), shape, _contrast(random, background))
            shapes.append(shape)
    return image, shapes


def pixels(image: Image.Image) -> np.ndarray:
    """What the network sees: FP32 [3, SIZE, SIZE] from -1 to 1, whatever the size of the picture."""
    small = np.asarray(image.convert("RGB").resize((SIZE, SIZE)), np.float32)
    return small.transpose(2, 0, 1) / 127.5 - 1


def _box(random: np.random.Generator) -> tuple[int, int, int, int]:
    side = int(random.integers(SIZE // 5, SIZE // 2))
    left, top = random.integers(0, SIZE - side, 2).tolist()
    return left, top, left + side, top + side


def _overlap(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _contrast(random: np.random.Generator, background: np.ndarray) -> tuple[int, ...]:
    while True:
        colour = random.integers(0, 256, 3)
        if abs(colour - background).sum() > 180:
            return tuple(colour.tolist())


def _fill(canvas: ImageDraw.ImageDraw, shape: Shape, colour: tuple[int, ...]) -> None:
    left, top, right, bottom = shape.box
    inside = (left, top, right - 1, bottom - 1)
    if shape.label == "circle":
        canvas.ellipse(inside, fill=colour)
    elif shape.label == "square":
        canvas.rectangle(inside, fill=colour)
    else:
        canvas.polygon([(left, bottom - 1), (right - 1, bottom - 1), ((left + right) // 2, top)], fill=colour)
