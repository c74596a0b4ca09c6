"""The likeliest category of every pixel, from logits at a lower resolution."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from panscape.kernels.bilinear import cells, enlarge
from panscape.kernels.center_decoding import first_largest
from panscape.kernels.center_grouping_compiled import group


def likeliest_category(logits: Tensor, padded_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Enlarge logits bilinearly, pixels being areas, and return the first largest one's plane for every pixel.

    Implementations for processor and devices agree in every pixel.

    Args:
        logits: float [C, h, w]; those that are not a number are the lowest.
        padded_size: height and width to which the planes are enlarged.
        size: height and width of the part in the top left corner that is computed.

    Returns:
        Integers [size].
    """
    planes = logits.detach().float()
    if planes.device.type != "cpu":
        return first_largest(planes, lambda plane: enlarge(plane, padded_size, size, align_corners=False))
    rows = cells(planes.shape[1], padded_size[0], False, size[0])
    columns = cells(planes.shape[2], padded_size[1], False, size[1])
    # Grouping without centres leaves every pixel its category.
    num_categories, no_offset = len(planes), np.zeros((2, 0, 0), dtype=np.float32)
    nothing, no_points = np.zeros(num_categories, dtype=np.bool_), np.zeros((0, 2), dtype=np.int32)
    category, _, _ = group(planes.contiguous().numpy(), no_offset, rows, columns, nothing, no_points)
    return torch.from_numpy(category)
