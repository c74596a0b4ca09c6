"""Small units that networks are made of."""

from __future__ import annotations

from torch import nn


def norm_relu_conv(
    in_channels: int, out_channels: int, kernel: int, *, bias: bool = False, momentum: float = 0.1
) -> nn.Sequential:
    """Return BatchNorm, ReLU and a convolution that keeps the size: the pre-activation unit of He et al., ECCV 2016."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels, momentum=momentum),
        nn.ReLU(),
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=bias),
    )
