"""Transforms that turn an image over or around."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from panscape.errors import InvalidArgumentError
from panscape.panoptic import PanopticMap
from panscape.transforms.checks import MEAN_COLOR, Color, require_color, require_pair, require_probability
from panscape.transforms.random import integer, uniform

RotationPolicy = Literal["none", "right_angles", "any"]


@dataclass(frozen=True)
class RandomFlip:
    """Exchange left and right.

    Attributes:
        probability: of doing so, 0..1.
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        require_probability(self.probability)

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return image and truth, flipped or as they are."""
        require_pair(image, truth)
        if uniform(0, 1, generator) >= self.probability:
            return image, truth
        return image.flip(2).contiguous(), truth.flip()


@dataclass(frozen=True)
class Rotation:
    """Rotate by a random angle, counter-clockwise (Panoptic SwiftNet, section 3.1 and Table 2).

    - ``"none"``: images stay as they are. The paper finds this best, even for aerial images.
    - ``"right_angles"``: 0, 90, 180 or 270 degrees, equally likely and without loss; a quarter turn exchanges height
      and width.
    - ``"any"``: uniform in [0, 360) about the middle of the image, whose size stays; what turns in from outside is
      void and gets the colour ``fill``.

    Attributes:
        policy: one of the three.
        fill: red, green, blue of what turns in from outside.
    """

    policy: RotationPolicy
    fill: Color = MEAN_COLOR

    def __post_init__(self) -> None:
        if self.policy not in get_args(RotationPolicy):
            raise InvalidArgumentError(
                f"expected a rotation policy out of {', '.join(get_args(RotationPolicy))}, got {self.policy!r}"
            )
        require_color(self.fill)

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return image and truth, rotated alike."""
        require_pair(image, truth)
        if self.policy == "none":
            return image, truth
        if self.policy == "right_angles":
            turns = integer(4, generator)
            return image.rot90(turns, (1, 2)).contiguous(), replace(
                truth, ids=truth.ids.rot90(turns, (0, 1)).contiguous()
            )
        return _rotated(image, truth, uniform(0, 2 * math.pi, generator), self.fill)


def _rotated(image: Tensor, truth: PanopticMap, angle: float, fill: Color) -> tuple[Tensor, PanopticMap]:
    """Rotate about the middle by ``angle`` radians, counter-clockwise as seen; the size stays."""
    height, width = truth.size
    y = torch.arange(height, dtype=torch.float64)[:, None] - (height - 1) / 2
    x = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    source_y = math.cos(angle) * y + math.sin(angle) * x + (height - 1) / 2
    source_x = -math.sin(angle) * y + math.cos(angle) * x + (width - 1) / 2
    row, column = source_y.round().long(), source_x.round().long()
    outside = (row < 0) | (row >= height) | (column < 0) | (column >= width)
    ids = truth.ids[row.clamp_(0, height - 1), column.clamp_(0, width - 1)].masked_fill_(outside, 0)
    grid = torch.stack([(2 * source_x + 1) / width - 1, (2 * source_y + 1) / height - 1], dim=-1)
    turned = F.grid_sample(image[None].float(), grid[None].float(), padding_mode="border", align_corners=False)[0]
    turned = torch.where(outside, torch.tensor(fill, dtype=torch.float32)[:, None, None], turned)
    return turned.round_().to(torch.uint8), replace(truth, ids=ids).compact()
