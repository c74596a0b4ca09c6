"""Conversion between image tensors, uint8 [3, H, W], and arrays of pixels, uint8 [H, W, 3]."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.visualize.blend import Pixels


def to_pixels(image: Tensor) -> Pixels:
    """Return the pixels of an image on the CPU.

    Raises:
        InvalidArgumentError: the image is not uint8 [3, H, W].
    """
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise InvalidArgumentError(
            f"expected an image as uint8 [3, H, W], got {image.dtype} {list(image.shape)}; "
            "panscape.load_image reads files in this form"
        )
    return np.ascontiguousarray(image.detach().cpu().permute(1, 2, 0).numpy())


def to_tensor(pixels: Pixels) -> Tensor:
    """Return the image of pixels: a view, without a copy."""
    return torch.from_numpy(pixels).permute(2, 0, 1)
