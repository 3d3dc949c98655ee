"""The network: a small ResNet of transformers, and a head that looks for one shape in each cell of a grid."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, ResNetConfig, ResNetModel


class ShapeNetwork(PreTrainedModel):
    """Pixels [N, 3, 64, 64] to logits [N, 64, labels] and boxes [N, 64, 4], for the 8 x 8 cells.

    The cells in the middle of a shape answer for it.  Boxes are left, top, right, bottom, as parts of the
    picture from 0 to 1.
    """

    config_class = ResNetConfig
    main_input_name = "pixel_values"

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        self.backbone = ResNetModel(config)
        self.head = nn.Conv2d(config.hidden_sizes[-1], config.num_labels + 4, 1)
        self.post_init()

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        grid = self.head(self.backbone(pixel_values).last_hidden_state).permute(0, 2, 3, 1)
        logits, reach = grid.split([self.config.num_labels, 4], dim=-1)
        cells = grid.shape[1]
        middle = (torch.arange(cells) + 0.5) / cells
        y, x = torch.meshgrid(middle, middle, indexing="ij")
        left, top, right, bottom = (reach.exp() / cells).unbind(-1)
        boxes = torch.stack([x - left, y - top, x + right, y + bottom], -1)
        return logits.flatten(1, 2), boxes.flatten(1, 2)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes [..., 4]; broadcasts."""
    width = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    shared = width.prod(-1)
    return shared / ((a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared)
