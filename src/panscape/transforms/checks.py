"""Argument checks of transforms."""

from __future__ import annotations

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.panoptic import PanopticMap

Color = tuple[int, int, int]

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


def require_size(size: tuple[int, int]) -> None:
    """Check that the size is a height and width of at least one pixel."""
    if len(size) != 2 or min(size) < 1:
        raise InvalidArgumentError(f"expected a size as (height, width) of at least one pixel each, got {size}")


def require_color(color: Color) -> None:
    """Check that the color is red, green and blue in 0..255."""
    if len(color) != 3 or not all(0 <= value <= 255 for value in color):
        raise InvalidArgumentError(f"expected red, green and blue in 0..255, got {color}")


def require_probability(probability: float) -> None:
    """Check that the probability is in 0..1."""
    if not 0 <= probability <= 1:
        raise InvalidArgumentError(f"expected a probability in 0..1, got {probability}")
