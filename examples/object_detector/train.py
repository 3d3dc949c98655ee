"""Trains the detector from scratch on pictures that it draws; no download, some ten seconds.

Writes `weights/`, and of a picture that it has not seen: `held_out.png`, what is on it (`held_out.json`), and
a request that carries it (`held_out.bin`).
"""

import json
import struct
from pathlib import Path

import numpy as np
import torch
from network import ShapeNetwork, iou
from shapes import LABELS, SIZE, Shape, draw, pixels
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import ResNetConfig
from transformers.utils import logging

CELLS = 8
STEPS, BATCH, PICTURES, RATE = 400, 32, 2000, 5e-3
HELD_OUT = 333  # of another seed than the pictures of the training


def wanted(shapes: list[Shape]) -> tuple[Tensor, Tensor]:
    """What the cells should answer: labels [64, labels] and boxes [64, 4]."""
    labels, boxes = torch.zeros(CELLS, CELLS, len(LABELS)), torch.zeros(CELLS, CELLS, 4)
    middle = (torch.arange(CELLS) + 0.5) / CELLS
    for shape in shapes:
        box = torch.tensor(shape.box) / SIZE
        (x, y), near = (box[:2] + box[2:]) / 2, max((box[2] - box[0]) / 4, 0.5 / CELLS)
        cells = ((middle - y).abs() <= near)[:, None] & ((middle - x).abs() <= near)
        labels[cells], boxes[cells] = torch.eye(len(LABELS))[LABELS.index(shape.label)], box
    return labels.flatten(0, 1), boxes.flatten(0, 1)


def train(random: np.random.Generator) -> ShapeNetwork:
    drawn = [draw(random) for _ in range(PICTURES)]
    pictures = torch.tensor(np.stack([pixels(image) for image, _ in drawn]))
    labels, boxes = map(torch.stack, zip(*(wanted(shapes) for _, shapes in drawn), strict=True))

    config = ResNetConfig(
        embedding_size=16,
        hidden_sizes=[32, 64],
        depths=[1, 1],
        layer_type="basic",
        id2label=dict(enumerate(LABELS)),
    )
    network = ShapeNetwork(config).train()
    with torch.no_grad():
        network.head.bias[: len(LABELS)] = -4  # to begin with, no cell expects a shape: very few hold one
    optimizer = torch.optim.AdamW(network.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    for step in range(1, STEPS + 1):
        rows = torch.from_numpy(random.integers(0, PICTURES, BATCH))
        logits, found = network(pictures[rows])
        there = labels[rows].any(-1)
        overlap = iou(found[there], boxes[rows][there]).mean()
        loss = binary_cross_entropy_with_logits(logits, labels[rows], reduction="sum") / there.sum()
        optimizer.zero_grad()
        (loss + 2 * (1 - overlap)).backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}: loss {loss:.2f}, overlap of the boxes {overlap:.2f}")
    return network.eval()


def write_request(image: bytes) -> None:
    """The binary tensor extension: a JSON header of 128 bytes, then the tensor, a length and the bytes."""
    tensor = struct.pack("<I", len(image)) + image
    parameters = {"binary_data_size": len(tensor)}
    inputs = [{"name": "image", "shape": [1], "datatype": "BYTES", "parameters": parameters}]
    header = json.dumps({"id": "held-out", "inputs": inputs}).encode()
    Path("held_out.bin").write_bytes(header.ljust(128) + tensor)


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # more would wait for each other most of the time: the network is small
    logging.disable_progress_bar()
    train(np.random.default_rng(0)).save_pretrained("weights")

    image, shapes = draw(np.random.default_rng(HELD_OUT))
    image.resize((4 * SIZE, 4 * SIZE)).save("held_out.png")
    truth = [{"label": shape.label, "box": [4 * side for side in shape.box]} for shape in shapes]
    Path("held_out.json").write_text(json.dumps(truth))
    write_request(Path("held_out.png").read_bytes())


if __name__ == "__main__":
    main()
