"""Connected components of equal values in a map: the definition; :mod:`panscape.ops.components_cpu` is compiled."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def components_reference(values: Tensor) -> Tensor:
    """Label the 8-connected components of equal values in plain torch, on any device.

    Args:
        values: integers [H, W]; 0 is background.

    Returns:
        int64 [H, W]: 0 in the background; else 1 plus the raster position of the component's first pixel.
    """
    height, width = values.shape
    around = F.pad(values, (1, 1, 1, 1))
    windows = [(slice(y, y + height), slice(x, x + width)) for y in range(3) for x in range(3)]
    is_same = [around[window] == values for window in windows]
    last = height * width + 1
    label = torch.arange(1, last, device=values.device).reshape(height, width)
    while True:
        known, label = label, label.clone()
        for window, same in zip(windows, is_same, strict=True):
            label = torch.minimum(label, F.pad(known, (1, 1, 1, 1))[window].where(same, last))
        if torch.equal(label, known):
            return label.where(values > 0, 0)
