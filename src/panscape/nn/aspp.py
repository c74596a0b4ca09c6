"""Atrous spatial pyramid pooling (ASPP): context at several scales.

*Rethinking Atrous Convolution for Semantic Image Segmentation* (Chen, Papandreou, Schroff, Adam, arXiv:1706.05587),
Section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.nn.blocks import SeparableConv, conv_norm_relu


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: a 1x1 convolution, dilated 3x3 convolutions and average pooling, fused.

    Args:
        in_channels: channels of the coarsest features.
        width: channels of each branch and of the result.
        rates: dilations of the 3x3 convolutions.
        separable: make the 3x3 convolutions depthwise separable.
        window: rows and columns of the window of the pooling branch, average pooling with stride 1 and without
            padding; its results are upsampled to the map's size. The window is clipped to the map: if it is as large
            as the map or None, this is global average pooling.
        window_bias: whether the 1x1 convolution of the pooled means has a bias. It has no norm, as there may be a
            single mean.
        align_corners: how the pooled means are upsampled.
        dropout: dropout probability of the result in training.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        rates: Sequence[int],
        *,
        separable: bool,
        window: tuple[int, int] | None,
        window_bias: bool,
        align_corners: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        conv: Callable[..., nn.Module] = SeparableConv if separable else conv_norm_relu
        self.branches = nn.ModuleList(
            [
                conv_norm_relu(in_channels, width, 1),
                *(conv(in_channels, width, 3, dilation=rate) for rate in rates),
            ]
        )
        self.window = window
        self.align_corners = align_corners
        self.mean = nn.Conv2d(in_channels, width, 1, bias=window_bias)
        self.blend = conv_norm_relu(width * (len(rates) + 2), width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, h, w] to [B, ``width``, h, w]."""
        height, width = x.shape[-2:]
        if self.window is None:
            means = x.mean((2, 3), keepdim=True)  # not by a window as large as the map, which a graph of any size lacks
        else:
            rows, columns = self.window
            means = F.avg_pool2d(x, (min(rows, height), min(columns, width)), stride=1)
        means = torch.relu(self.mean(means))
        means = F.interpolate(means, size=(height, width), mode="bilinear", align_corners=self.align_corners)
        blended = self.blend(torch.cat([*(branch(x) for branch in self.branches), means], dim=1))
        return cast(Tensor, self.dropout(blended))
