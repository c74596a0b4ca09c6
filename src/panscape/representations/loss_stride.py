"""Losses on some of the pixels, which take less time and memory."""

from __future__ import annotations

import torch
from torch import Tensor


def one_in_each_square(plane: Tensor, side: int) -> Tensor:
    """Take one pixel of each square of a plane [..., H, W]; its position alternates, so that none is preferred."""
    rows, columns = (torch.arange(length // side, device=plane.device) for length in plane.shape[-2:])
    return plane[..., rows[:, None] * side + columns % side, columns * side + rows[:, None] % side]
