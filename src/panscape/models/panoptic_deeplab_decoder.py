"""Decoder and heads of Panoptic-DeepLab; its network has two decoders, one for semantics and one for objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.nn.aspp import ASPP
from panscape.nn.blocks import SeparableConv, conv_norm_relu


class DeepLabDecoder(nn.Module):
    """Maps features at several strides to a map at stride 4: ASPP on the coarsest, then upsampling with skips.

    Each step upsamples the map to the size of finer features, concatenates a projection of these, and fuses both.

    Args:
        channels: channels of the features at strides 4, 8, 16 and 32, or 16.
        skips: stages whose features the steps take, coarse to fine.
        projections: channels of their projections.
        pyramid: ASPP on the coarsest features, with ``pyramid_width`` channels.
        pyramid_width: output channels of the ASPP.
        width: channels of the result.
        separable: fuse by one separable 5x5 convolution instead of two 3x3 ones.
        skip_first: concatenate the projection before the map, as in detectron2.
        align_corners: how maps are upsampled.
    """

    def __init__(
        self,
        channels: Sequence[int],
        skips: Sequence[int],
        projections: Sequence[int],
        pyramid: ASPP,
        *,
        pyramid_width: int,
        width: int,
        separable: bool,
        skip_first: bool,
        align_corners: bool,
    ) -> None:
        super().__init__()
        self._skips = tuple(skips)
        self._skip_first = skip_first
        self._align_corners = align_corners
        self.pyramid = pyramid
        self.projections = nn.ModuleList(
            conv_norm_relu(channels[stage], projection, 1) for stage, projection in zip(skips, projections, strict=True)
        )
        before = [pyramid_width] + [width] * (len(projections) - 1)
        self.blends = nn.ModuleList(
            fuse_convs(projection + incoming, width, width, separable)
            for projection, incoming in zip(projections, before, strict=True)
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map features [B, C_i, H / s_i, W / s_i] to [B, ``width``, H / 4, W / 4]."""
        x = self.pyramid(features[-1])
        for stage, project, blend in zip(self._skips, self.projections, self.blends, strict=True):
            skip = project(features[stage])
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=self._align_corners)
            x = blend(torch.cat([skip, x] if self._skip_first else [x, skip], dim=1))
        return cast(Tensor, x)


def fuse_convs(in_channels: int, between: int, out_channels: int, separable: bool) -> nn.Sequential:
    """Return one separable 5x5 convolution, or two ordinary ones of 3x3 with ``between`` channels between them."""
    if separable:
        return SeparableConv(in_channels, out_channels, 5)
    return nn.Sequential(conv_norm_relu(in_channels, between, 3), conv_norm_relu(between, out_channels, 3))


def prediction_head(in_channels: int, between: int, width: int, out_channels: int, separable: bool) -> nn.Sequential:
    """Return a head: a :func:`fuse_convs` to ``width`` channels, and a 1x1 convolution that predicts."""
    return nn.Sequential(fuse_convs(in_channels, between, width, separable), nn.Conv2d(width, out_channels, 1))


def initialize_decoder(module: nn.Module, compat: Literal["detectron2", "standalone"]) -> nn.Module:
    """Initialise the weights of a decoder or a head as the published code does, and return it; biases are 0.

    Args:
        module: a :class:`DeepLabDecoder` or a :func:`prediction_head`.
        compat: "detectron2" uses N(0, 0.001) for the convolutions that predict, He et al. (ICCV 2015) with fan-out for
            separable convolutions, and Caffe2's "Xavier" with fan-in for others. "standalone" uses N(0, 0.001) for all.
    """
    predicting = module[-1] if isinstance(module, nn.Sequential) else None
    separable = {id(m) for unit in module.modules() if isinstance(unit, SeparableConv) for m in unit.modules()}
    for conv in (m for m in module.modules() if isinstance(m, nn.Conv2d)):
        if compat == "standalone" or conv is predicting:
            nn.init.normal_(conv.weight, std=0.001)
        elif id(conv) in separable:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        else:
            nn.init.kaiming_uniform_(conv.weight, a=1)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
    return module
