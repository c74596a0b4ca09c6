"""What transforms require of images, truths and their own settings."""

from __future__ import annotations

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.panoptic import PanopticMap

Color = tuple[int, int, int]

MEAN_COLOR: Color = (124, 116, 104)
"""The mean of ImageNet's training images, which normalisation turns into zeros."""


def require_pair(image: Tensor, truth: PanopticMap) -> None:
    """Refuse what is no image, or not of its truth's size."""
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise InvalidArgumentError(f"expected an image as uint8 [3, H, W], got {image.dtype} {list(image.shape)}")
    if tuple(image.shape[1:]) != tuple(truth.size):
        raise InvalidArgumentError(
            f"expected image and truth of the same size, got an image of {image.shape[1]}x{image.shape[2]} and a "
            f"truth of {truth.size.height}x{truth.size.width}; check that both belong to the same sample"
        )


def require_size(size: tuple[int, int]) -> None:
    """Refuse what is no height and width."""
    if len(size) != 2 or min(size) < 1:
        raise InvalidArgumentError(f"expected a size as (height, width) of at least one pixel each, got {size}")


def require_color(color: Color) -> None:
    """Refuse what is no colour."""
    if len(color) != 3 or not all(0 <= value <= 255 for value in color):
        raise InvalidArgumentError(f"expected red, green and blue in 0..255, got {color}")


def require_probability(probability: float) -> None:
    """Refuse what is no probability."""
    if not 0 <= probability <= 1:
        raise InvalidArgumentError(f"expected a probability in 0..1, got {probability}")
