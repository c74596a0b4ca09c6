"""Argument checks of transforms."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from panscape.constraints import Constraint
from panscape.errors import InvalidArgumentError
from panscape.panoptic import PanopticMap

Channel = Annotated[int, Constraint("in 0..255", lambda value: 0 <= value <= 255)]
Color = tuple[Channel, Channel, Channel]
"""Red, green and blue, 0 to 255."""

MEAN_COLOR: Color = (124, 116, 104)
"""The mean color of ImageNet's training images, which normalisation maps to zero."""


def require_pair(image: Tensor, truth: PanopticMap) -> None:
    """Check that the image is uint8 [3, H, W] and has the size of its ground truth."""
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise InvalidArgumentError(f"expected an image as uint8 [3, H, W], got {image.dtype} {list(image.shape)}")
    if tuple(image.shape[1:]) != tuple(truth.size):
        raise InvalidArgumentError(
            f"expected image and ground truth of the same size, got an image of {image.shape[1]}x{image.shape[2]} "
            f"and a ground truth of {truth.size.height}x{truth.size.width}; check that both belong to the same sample"
        )
