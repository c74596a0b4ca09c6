"""Small building blocks of networks: combinations of convolution, norm and activation."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def norm_relu_conv(
    in_channels: int, out_channels: int, kernel: int, *, bias: bool = False, momentum: float = 0.1
) -> nn.Sequential:
    """Return BatchNorm, ReLU and a convolution that keeps the size: the pre-activation unit of He et al., ECCV 2016."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels, momentum=momentum),
        nn.ReLU(),
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=bias),
    )


def conv_norm_relu(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    dilation: int = 1,
    groups: int = 1,
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
) -> nn.Sequential:
    """Return a convolution without bias that keeps the size, a norm and ReLU."""
    padding = kernel // 2 * dilation
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, groups=groups, bias=False),
        norm(out_channels),
        nn.ReLU(),
    )


class GroupNorm(nn.GroupNorm):
    """GroupNorm with 32 groups, or fewer if the channels are no multiple of 32; also of groups of one value.

    torch's layer refuses these, which occur at stride 32 in images of at most 32x32 pixels, if there are 32 channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(math.gcd(32, channels), channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [B, C, ...]."""
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class SeparableConv(nn.Sequential):
    """A depthwise and a 1x1 convolution, each with BatchNorm and ReLU.

    The depthwise separable convolution of Xception (Chollet, CVPR 2017), with norms and ReLUs as in DeepLab.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, dilation: int = 1) -> None:
        super().__init__(
            conv_norm_relu(in_channels, in_channels, kernel, dilation=dilation, groups=in_channels),
            conv_norm_relu(in_channels, out_channels, 1),
        )
