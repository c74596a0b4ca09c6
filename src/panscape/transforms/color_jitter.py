"""Color jitter."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from panscape.constraints import Hue, NonNegative, UnitInterval, check_fields
from panscape.panoptic import PanopticMap
from panscape.transforms.checks import require_pair
from panscape.transforms.random_numbers import uniform

_LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
_YIQ = torch.tensor(  # ITU-R BT.601 luma and the two chroma axes of NTSC
    [[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]], dtype=torch.float64
)


@dataclass(frozen=True)
class ColorJitter:
    """Change brightness, contrast, saturation and hue at random; the map is unchanged.

    The four changes are affine in red, green and blue and are applied as one 3 x 3 matrix and an offset, so that values
    are rounded and clipped once. The hue rotates about the grey axis of YIQ, which preserves luma.

    Attributes:
        brightness: b; the factor is uniform in [max(0, 1 - b), 1 + b].
        contrast: the same, relative to the mean luma of the image.
        saturation: the same, relative to each pixel's luma.
        hue: h in 0..0.5; the rotation is uniform in [-h, h], in full turns.
        probability: probability of changing the image, 0..1.
    """

    brightness: NonNegative = 0.4
    contrast: NonNegative = 0.4
    saturation: NonNegative = 0.4
    hue: Hue = 0.05
    probability: UnitInterval = 1.0

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        """Return the image with changed colors, and the same ground truth."""
        require_pair(image, truth)
        if uniform(0, 1, generator) >= self.probability:
            return image, truth
        brightness, contrast, saturation = (
            uniform(max(0, 1 - spread), 1 + spread, generator)
            for spread in (self.brightness, self.contrast, self.saturation)
        )
        hue = uniform(-self.hue, self.hue, generator)
        return adjust_color(image, brightness=brightness, contrast=contrast, saturation=saturation, hue=hue), truth


def adjust_color(
    image: Tensor, *, brightness: float = 1, contrast: float = 1, saturation: float = 1, hue: float = 0
) -> Tensor:
    """Return an image with changed colors.

    Args:
        image: uint8 [3, H, W].
        brightness: factor of all values.
        contrast: factor of the difference from the image's mean luma.
        saturation: factor of the difference from the pixel's luma.
        hue: rotation about the grey axis, in full turns.

    Returns:
        uint8 [3, H, W].
    """
    colors = image.reshape(3, -1).float()
    angle = -2 * math.pi * hue  # clockwise among the chroma axes: red over yellow to green
    turn = torch.eye(3, dtype=torch.float64)
    turn[1:, 1:] = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    grey = torch.ones(3, 1, dtype=torch.float64) @ _LUMA[None]
    matrix = torch.linalg.inv(_YIQ) @ turn @ _YIQ
    matrix = brightness * contrast * matrix @ (saturation * torch.eye(3, dtype=torch.float64) + (1 - saturation) * grey)
    luma = float(_LUMA @ colors.mean(1, dtype=torch.float64)) if contrast != 1 else 0.0
    offset = (1 - contrast) * brightness * luma + 0.5  # 0.5: the conversion to uint8 truncates
    changed = torch.addmm(colors.new_full((3, 1), offset), matrix.float(), colors)
    return changed.clamp_(0, 255).to(torch.uint8).reshape(image.shape)
