"""UPerNet's decoder: pyramid pooling on the coarsest features, an FPN, and a fusion of all levels.

Tete Xiao, Yingcheng Liu, Bolei Zhou, Yuning Jiang, Jian Sun: Unified Perceptual Parsing for Scene Understanding. ECCV
2018. arXiv:1807.10221. It is that of mmsegmentation, on which weights of Swin Transformers were published.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.nn.blocks import conv_norm_relu
from panscape.nn.pixel_decoder import PixelFeatures
from panscape.nn.pyramid_pooling import BINS, normalized


class UPerHead(nn.Module):
    """The decoder of UPerNet, a :class:`~panscape.nn.pixel_decoder.PixelDecoder`: its memory is the coarsest feature.

    Args:
        channels: channels of the features, finest first.
        width: channels of all levels and of the result.
    """

    def __init__(self, channels: Sequence[int], width: int = 512) -> None:
        super().__init__()
        *finer, coarsest = channels
        self.width, self.memory_width = width, coarsest
        self.pooled = nn.ModuleList(conv_norm_relu(coarsest, width, 1) for _ in BINS)
        self.bottleneck = conv_norm_relu(coarsest + len(BINS) * width, width, 3)
        self.laterals = nn.ModuleList(conv_norm_relu(c, width, 1) for c in finer)
        self.outputs = nn.ModuleList(conv_norm_relu(width, width, 3) for _ in finer)
        self.fusion = conv_norm_relu(len(channels) * width, width, 3)

    def forward(self, features: Sequence[Tensor]) -> PixelFeatures:
        """See :class:`~panscape.nn.pixel_decoder.PixelDecoder`."""
        *finer, coarsest = features
        parts = [coarsest]
        for bins, branch in zip(BINS, self.pooled, strict=True):
            conv, norm, relu = cast(nn.Sequential, branch)
            pooled = relu(normalized(conv(F.adaptive_avg_pool2d(coarsest, bins)), norm))
            parts.append(_resized(pooled, coarsest))
        x = self.bottleneck(torch.cat(parts, dim=1))
        levels = [x]
        for feature, lateral, output in zip(finer[::-1], self.laterals[::-1], self.outputs[::-1], strict=True):
            x = lateral(feature) + _resized(x, feature)
            levels.insert(0, output(x))
        together = torch.cat([levels[0], *(_resized(level, levels[0]) for level in levels[1:])], dim=1)
        return PixelFeatures(self.fusion(together), coarsest)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
