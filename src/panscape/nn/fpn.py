"""Feature pyramid network (FPN): semantically rich features of one width at every scale.

Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, with the coarser levels of RetinaNet (Lin et
al., "Focal Loss for Dense Object Detection", ICCV 2017). Parameters have the shapes and the initialisation of
torchvision's ``FeaturePyramidNetwork`` and ``LastLevelP6P7``, and the same values give the same features. torchvision's
own modules are not used, as importing torchvision would delay the first prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError


class FPN(nn.Module):
    """Maps backbone features to a given number of levels, each at half the size of the one before.

    Args:
        channels: channels of the features, finest first; each map has half the size of the one before.
        width: channels of every level.
        num_levels: number of levels; those beyond the features come from the coarsest by convolutions of stride 2.

    Raises:
        InvalidArgumentError: there are fewer levels than features.
    """

    def __init__(self, channels: Sequence[int], width: int, num_levels: int) -> None:
        super().__init__()
        if num_levels < len(channels):
            raise InvalidArgumentError(
                f"expected at least {len(channels)} levels, one for each of the backbone's features, got {num_levels}"
            )
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.outputs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels)
        self.coarser = nn.ModuleList(nn.Conv2d(width, width, 3, 2, 1) for _ in range(num_levels - len(channels)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(cast(Tensor, module.bias))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Map [B, C_i, h_i, w_i] to [B, D, h, w] for each level, finest first; coarser sizes are halved, rounded up."""
        merged = [lateral(x) for lateral, x in zip(self.laterals, features, strict=True)]
        for i in range(len(merged) - 2, -1, -1):
            merged[i] = merged[i] + F.interpolate(merged[i + 1], size=merged[i].shape[-2:], mode="nearest")
        levels = [output(x) for output, x in zip(self.outputs, merged, strict=True)]
        for i, halve in enumerate(self.coarser):
            levels.append(halve(torch.relu(levels[-1]) if i else levels[-1]))
        return levels
