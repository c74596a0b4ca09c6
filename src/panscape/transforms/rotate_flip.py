"""Random flips and rotations."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from panscape.constraints import Angle, UnitInterval, check_fields
from panscape.panoptic import PanopticMap
from panscape.transforms.checks import MEAN_COLOR, Color, require_pair
from panscape.transforms.random_numbers import integer, uniform

RotationPolicy = Literal["none", "right_angles", "any"]
"""Which rotations are drawn: none, quarter turns, or any angle up to a largest one."""


@dataclass(frozen=True)
class RandomFlip:
    """Flip horizontally with a probability.

    Attributes:
        probability: probability of the flip, 0..1.
    """

    probability: UnitInterval = 0.5

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return image and ground truth, flipped or unchanged."""
        require_pair(image, truth)
        if uniform(0, 1, generator) >= self.probability:
            return image, truth
        return image.flip(2).contiguous(), truth.flip()


@dataclass(frozen=True)
class Rotation:
    """Rotate by a random angle, counter-clockwise (Panoptic SwiftNet, section 3.1 and Table 2).

    - ``"none"``: no rotation. The paper finds this best, even for aerial images.
    - ``"right_angles"``: 0, 90, 180 or 270 degrees, equally likely and lossless; 90 and 270 degrees swap height and
      width.
    - ``"any"``: uniform in [-max_angle, max_angle] degrees about the center of the image, at constant size, bilinear;
      pixels from outside the image are void with the color ``fill``.

    Attributes:
        policy: one of the three.
        max_angle: largest angle of "any" in either direction, in degrees, above 0 and up to 180.
        fill: red, green, blue of pixels from outside the image.
    """

    policy: RotationPolicy
    max_angle: Angle = 180.0
    fill: Color = MEAN_COLOR

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return image and ground truth, rotated by the same angle."""
        require_pair(image, truth)
        if self.policy == "none":
            return image, truth
        if self.policy == "right_angles":
            turns = integer(4, generator)
            return image.rot90(turns, (1, 2)).contiguous(), truth.rot90(turns)
        angle = uniform(-self.max_angle, self.max_angle, generator)
        return _rotated(image, truth, math.radians(angle), self.fill)


def _rotated(image: Tensor, truth: PanopticMap, angle: float, fill: Color) -> tuple[Tensor, PanopticMap]:
    """Rotate about the center by ``angle`` radians, counter-clockwise on the screen, at constant size."""
    height, width = truth.size
    y = torch.arange(height, dtype=torch.float64)[:, None] - (height - 1) / 2
    x = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    source_y = math.cos(angle) * y + math.sin(angle) * x + (height - 1) / 2
    source_x = -math.sin(angle) * y + math.cos(angle) * x + (width - 1) / 2
    row, column = source_y.round().long(), source_x.round().long()
    outside = (row < 0) | (row >= height) | (column < 0) | (column >= width)
    ids = truth.ids[row.clamp_(0, height - 1), column.clamp_(0, width - 1)].masked_fill_(outside, 0)
    grid = torch.stack([(2 * source_x + 1) / width - 1, (2 * source_y + 1) / height - 1], dim=-1)
    rotated = F.grid_sample(image[None].float(), grid[None].float(), padding_mode="border", align_corners=False)[0]
    rotated = torch.where(outside, torch.tensor(fill, dtype=torch.float32)[:, None, None], rotated)
    # Sides at which objects were cut off are none of the upright sides anymore, and the valid part is no upright box.
    cut_off = None if truth.cut_off is None else torch.zeros_like(truth.cut_off)
    return rotated.round_().to(torch.uint8), replace(truth, ids=ids, cut_off=cut_off, valid=None).compact()
