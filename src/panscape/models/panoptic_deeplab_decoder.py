"""The decoder and the heads of Panoptic-DeepLab; its network has two decoders, one for semantics, one for objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.nn.aspp import ASPP
from panscape.nn.blocks import SeparableConv, conv_norm_relu


class DeepLabDecoder(nn.Module):
    """From features at several strides to a map at stride 4: context of the coarsest, then finer ones, step by step.

    Each step enlarges what it has to the size of finer features, puts a projection of these beside it and blends both.

    Args:
        channels: of the features at strides 4, 8, 16 and 32, or 16.
        skips: stages whose features the steps take, coarse to fine.
        projections: channels of their projections.
        pyramid: makes the context, of ``pyramid_width`` channels, from the coarsest features.
        pyramid_width: channels of the context.
        width: channels of the result.
        separable: blend by one separable 5x5 convolution, not by two of 3x3.
        skip_first: the projection comes first where both are put side by side, as in detectron2.
        align_corners: how maps are enlarged.
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
            blending(projection + incoming, width, width, separable)
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


def blending(in_channels: int, between: int, out_channels: int, separable: bool) -> nn.Sequential:
    """Return one separable 5x5 convolution, or two ordinary ones of 3x3 with ``between`` channels between them."""
    if separable:
        return SeparableConv(in_channels, out_channels, 5)
    return nn.Sequential(conv_norm_relu(in_channels, between, 3), conv_norm_relu(between, out_channels, 3))


def head(in_channels: int, between: int, width: int, out_channels: int, separable: bool) -> nn.Sequential:
    """Return a head: a blending to ``width`` channels, and a 1x1 convolution that predicts."""
    return nn.Sequential(blending(in_channels, between, width, separable), nn.Conv2d(width, out_channels, 1))


def initialize(module: nn.Module, form: Literal["detectron2", "standalone"]) -> nn.Module:
    """Draw the weights of a decoder or a head as the published code does, and return it; biases begin at 0.

    Args:
        module: a :class:`DeepLabDecoder` or a :func:`head`.
        form: "detectron2" draws the convolutions that predict from N(0, 0.001), those of separable ones as He et al.
            (ICCV 2015) for the channels that they give, and others as Caffe2's "Xavier" for those that they take.
            "standalone" draws all of them from N(0, 0.001).
    """
    predicting = module[-1] if isinstance(module, nn.Sequential) else None
    separable = {id(m) for unit in module.modules() if isinstance(unit, SeparableConv) for m in unit.modules()}
    for conv in (m for m in module.modules() if isinstance(m, nn.Conv2d)):
        if form == "standalone" or conv is predicting:
            nn.init.normal_(conv.weight, std=0.001)
        elif id(conv) in separable:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        else:
            nn.init.kaiming_uniform_(conv.weight, a=1)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
    return module
