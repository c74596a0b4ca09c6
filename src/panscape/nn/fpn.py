"""Feature pyramid network (FPN): semantically rich features of one width at every scale.

Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, with the coarser levels of RetinaNet (Lin et
al., "Focal Loss for Dense Object Detection", ICCV 2017). Parameters have the shapes and the initialisation of
torchvision's ``FeaturePyramidNetwork`` and ``LastLevelP6P7``, and the same values give the same features. torchvision's
own modules are not used, as importing torchvision would delay the first prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError

SLOPE = 0.01
"""Slope of the leaky ReLUs of networks in the manner of seamseg."""


Coarser = Literal["outputs", "features", "subsample"]
"""How levels beyond the features arise: by convolutions of stride 2 from the coarsest level (RetinaNet), or from the
backbone's coarsest features (seamseg); or as every second value of the coarsest level (Mask R-CNN)."""


class FPN(nn.Module):
    """Maps backbone features to a given number of levels, each at half the size of the one before.

    Args:
        channels: channels of the features, finest first; each map has half the size of the one before.
        width: channels of every level.
        num_levels: number of levels.
        coarser: how levels beyond the features arise.
        norm: norm after each convolution, which then has no bias and is followed by a leaky ReLU of slope 0.01, as in
            seamseg; None for convolutions with a bias alone.

    Raises:
        InvalidArgumentError: there are fewer levels than features.
    """

    def __init__(
        self,
        channels: Sequence[int],
        width: int,
        num_levels: int,
        *,
        coarser: Coarser = "outputs",
        norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if num_levels < len(channels):
            raise InvalidArgumentError(
                f"expected at least {len(channels)} levels, one for each of the backbone's features, got {num_levels}"
            )

        def conv(in_channels: int, kernel: int, stride: int = 1) -> nn.Module:
            plain = nn.Conv2d(in_channels, width, kernel, stride, kernel // 2, bias=norm is None)
            if norm is None:
                nn.init.kaiming_uniform_(plain.weight, a=1)
                nn.init.zeros_(cast(Tensor, plain.bias))
                return plain
            nn.init.xavier_normal_(plain.weight, nn.init.calculate_gain("leaky_relu", SLOPE))
            return nn.Sequential(plain, norm(width), nn.LeakyReLU(SLOPE))

        num_coarser = num_levels - len(channels)
        self._from_features, self._num_subsampled = coarser == "features", 0
        self.laterals = nn.ModuleList(conv(c, 1) for c in channels)
        self.outputs = nn.ModuleList(conv(width, 3) for _ in channels)
        self.coarser = nn.ModuleList()
        if coarser == "subsample":
            self._num_subsampled = num_coarser
        else:
            first = channels[-1] if self._from_features else width
            self.coarser.extend(conv(width if i else first, 3, 2) for i in range(num_coarser))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Map [B, C_i, h_i, w_i] to [B, D, h, w] for each level, finest first; coarser sizes are halved, rounded up."""
        merged = [lateral(x) for lateral, x in zip(self.laterals, features, strict=True)]
        for i in range(len(merged) - 2, -1, -1):
            merged[i] = merged[i] + F.interpolate(merged[i + 1], size=merged[i].shape[-2:], mode="nearest")
        levels = [output(x) for output, x in zip(self.outputs, merged, strict=True)]
        for i, halve in enumerate(self.coarser):
            if self._from_features:
                levels.append(halve(levels[-1] if i else features[-1]))
            else:
                levels.append(halve(torch.relu(levels[-1]) if i else levels[-1]))
        for _ in range(self._num_subsampled):
            levels.append(levels[-1][..., ::2, ::2])
        return levels
