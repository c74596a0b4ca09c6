"""Semantic heads on the features of a backbone at strides 2, 4, 8 and 16.

Diaz-Zapata, "YOLO-Based Panoptic Segmentation" (MSc thesis, 2020), Section 3.2; its fourth kind is in
``panscape.nn.pyramid_pooling``. The features are those of Darknet-53: layer 5 at stride 2, then either the last layers
before the next stride, 12, 37 and 62, or the first after the stride, 6, 13 and 38. Both sets have the same shapes.

The thesis gives neither the order of norms and ReLUs nor all widths; the docstrings state ours.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.nn.blocks import conv_norm_relu

STRIDES = (2, 4, 8, 16)
"""Strides of the features."""


class SegNetDecoder(nn.Sequential):
    """Four 3x3 convolutions to 128, 128, 64 and 32 channels, with norms and ReLUs, and two upsamplings by 2.

    The decoder of SegNet (Badrinarayanan et al., PAMI 2017) without unpooling, as Darknet has no pooling. It maps
    stride 4 to logits at stride 1.

    Args:
        in_channels: channels of the features.
        num_categories: number of categories.
    """

    def __init__(self, in_channels: int, num_categories: int) -> None:
        super().__init__(
            conv_norm_relu(in_channels, 128, 3),
            conv_norm_relu(128, 128, 3),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            conv_norm_relu(128, 64, 3),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            conv_norm_relu(64, 32, 3),
            nn.Conv2d(32, num_categories, 3, padding=1),
        )


class SingleFeatureHead(nn.Module):
    """One feature, upsampled to stride 4, in a :class:`SegNetDecoder`: layer 12, 37 or 62.

    Args:
        channels: channels of all features, finest first.
        num_categories: number of categories.
        stride: of the feature, 4, 8 or 16.

    Raises:
        InvalidArgumentError: another stride.
    """

    stride = 1
    """Stride of the logits."""

    def __init__(self, channels: Sequence[int], num_categories: int, *, stride: int) -> None:
        super().__init__()
        if stride not in STRIDES[1:]:
            raise InvalidArgumentError(f"expected a feature of stride 4, 8 or 16, got {stride}")
        self.place = STRIDES.index(stride)
        self.decoder = SegNetDecoder(channels[self.place], num_categories)
        xavier_init(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map [B, C_i, H / s, W / s] at strides s = 2, 4, 8, 16 to logits [B, K, H, W]."""
        return cast(Tensor, self.decoder(resized(features[self.place], _size(features[1]))))


class MultiFeatureHead(nn.Module):
    """The features at strides 4, 8 and 16, upsampled and reduced together, in a :class:`SegNetDecoder`.

    Args:
        channels: channels of all features, finest first.
        num_categories: number of categories.
        width: channels after the reduction, a 1x1 convolution with norm and ReLU.
    """

    stride = 1
    """Stride of the logits."""

    def __init__(self, channels: Sequence[int], num_categories: int, *, width: int = 256) -> None:
        super().__init__()
        self.reduce = conv_norm_relu(sum(channels[1:]), width, 1)
        self.decoder = SegNetDecoder(width, num_categories)
        xavier_init(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map [B, C_i, H / s, W / s] at strides s = 2, 4, 8, 16 to logits [B, K, H, W]."""
        size = _size(features[1])
        return cast(Tensor, self.decoder(self.reduce(torch.cat([resized(x, size) for x in features[1:]], dim=1))))


class TopDownHead(nn.Module):
    """The pyramid of features of the thesis: from the coarsest one, reduced, upsampled by 2 and added to the next one.

    The reduction is a 1x1 convolution with norm, without ReLU. At stride 1, a 3x3 convolution with norm and ReLU and
    another 3x3 convolution follow.

    Args:
        channels: channels of all features, finest first.
        num_categories: number of categories.
    """

    stride = 1
    """Stride of the logits."""

    def __init__(self, channels: Sequence[int], num_categories: int) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(
            nn.Sequential(nn.Conv2d(coarse, fine, 1, bias=False), nn.BatchNorm2d(fine))
            for fine, coarse in itertools.pairwise(channels)
        )
        self.conv = conv_norm_relu(channels[0], channels[0], 3)
        self.classifier = nn.Conv2d(channels[0], num_categories, 3, padding=1)
        xavier_init(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map [B, C_i, H / s, W / s] at strides s = 2, 4, 8, 16 to logits [B, K, H, W]."""
        x = features[-1]
        for fine, reduce in zip(reversed(features[:-1]), reversed(self.reduce), strict=True):
            x = resized(reduce(x), _size(fine)) + fine
        height, width = _size(x)
        return cast(Tensor, self.classifier(self.conv(resized(x, (2 * height, 2 * width)))))


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps [B, C, h, w] at another size: upsampled bilinearly, or averaged if they shrink."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    if x.shape[-1] > size[1]:
        return F.interpolate(x, size=size, mode="area")
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def xavier_init(head: nn.Module) -> None:
    """Initialise all convolutions of a head as Glorot and Bengio (AISTATS 2010), and biases with 0."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]
