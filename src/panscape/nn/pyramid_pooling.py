"""Pyramid pooling: a semantic head that adds the means of large cells to its features.

Zhao et al., "Pyramid Scene Parsing Network" (CVPR 2017, arXiv:1612.01105), Section 3.2, on several features of a
backbone, as in Diaz-Zapata, "YOLO-Based Panoptic Segmentation" (MSc thesis, 2020), Section 3.2.

Half of the channels that the 3x3 convolution sees are upsampled from at most 6x6 cells. As upsampling and convolution
are linear, their order can be exchanged: the convolution's taps run on the cells, and their results are upsampled and
shifted. This is exact and needs half the multiply-adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.nn.blocks import conv_norm_relu
from panscape.nn.semantic_heads import STRIDES, resized, xavier_init

BINS = (1, 2, 3, 6)
"""Rows and columns of cells of each pooled map."""


class Pyramid(NamedTuple):
    """Features and their pooled maps.

    Attributes:
        features: float [B, C, h, w].
        pooled: of each of :data:`BINS`, float [B, C / 4, b, b].
    """

    features: Tensor
    pooled: list[Tensor]

    def concatenated(self) -> Tensor:
        """Return the features and the pooled maps upsampled to their size, float [B, 2 C, h, w]."""
        size = (self.features.shape[-2], self.features.shape[-1])
        upsampled = (F.interpolate(one, size=size, mode="bilinear", align_corners=False) for one in self.pooled)
        return torch.cat([self.features, *upsampled], dim=1)


class PyramidConv(nn.Module):
    """A convolution without bias of the features and the upsampled pooled maps, which keeps the size.

    Args:
        in_channels: channels of all together, twice those of the features.
        out_channels: channels of the result.
        kernel: side of the kernel, odd.
        split: convolve the cells of the pooled maps before upsampling; the result is the same up to rounding.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, split: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
        self.split = split

    def forward(self, pyramid: Pyramid) -> Tensor:
        """Map a pyramid to [B, ``out_channels``, h, w]."""
        if not self.split:
            return cast(Tensor, self.conv(pyramid.concatenated()))
        x, weight, kernel = pyramid.features, self.conv.weight, self.conv.kernel_size[0]
        num_channels = [x.shape[1], *(pooled.shape[1] for pooled in pyramid.pooled)]
        own, *others = torch.split(weight, num_channels, dim=1)
        height, width = x.shape[-2:]
        lines, rows = [], []
        for pooled, part in zip(pyramid.pooled, others, strict=True):
            # All taps of all cells, [B, O, rows of taps and cells, columns of taps and cells].
            taps = torch.einsum("bcij,ocyx->boyixj", pooled, part).flatten(4, 5).flatten(2, 3)
            lines.append(taps @ _shifted_weights(pooled, width, kernel))
            rows.append(_shifted_weights(pooled, height, kernel))
        return F.conv2d(x, own, padding=kernel // 2) + torch.cat(rows).T @ torch.cat(lines, dim=2)


def _shifted_weights(pooled: Tensor, size: int, kernel: int) -> Tensor:
    """Return the weight of each cell in each output along one axis, for each tap, [kernel * cells, size].

    Tap t of an output sees the upsampled value t - kernel // 2 places further on, and 0 beyond the ends.
    """
    num_cells, reach = pooled.shape[-1], kernel // 2
    cells = torch.eye(num_cells, dtype=pooled.dtype, device=pooled.device)
    weights = F.pad(F.interpolate(cells[None], size=size, mode="linear", align_corners=False)[0], (reach, reach))
    return torch.cat([weights[:, tap : tap + size] for tap in range(kernel)])


class PyramidPooling(nn.Module):
    """Maps features at strides 2, 4, 8 and 16 to category logits at one stride; stride 2 is not used.

    The features at stride 4 get as many channels as those at stride 8; then all are resized to one stride,
    concatenated and pooled.

    Args:
        channels: channels of the features, finest first.
        num_categories: number of categories.
        stride: of the result, 4, 8 or 16. The paper's sizes mean 4, its times 16 or a small ``width``.
        width: channels between the last two convolutions, 512 in Zhao et al.; not given in the thesis.
        split: see :class:`PyramidConv`.
        dropout: dropout probability of whole channels in training.

    Raises:
        InvalidArgumentError: another stride.
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_categories: int,
        *,
        stride: int = 4,
        width: int = 128,
        split: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if stride not in STRIDES[1:]:
            raise InvalidArgumentError(f"expected a stride of 4, 8 or 16 for pyramid pooling, got {stride}")
        _, fine, middle, coarse = channels
        self.stride = stride
        num_features = 2 * middle + coarse
        self.pyramid_channels = 2 * num_features
        """Channels of a concatenated pyramid."""
        self.lateral = conv_norm_relu(fine, middle, 1)
        self.branches = nn.ModuleList(conv_norm_relu(num_features, num_features // len(BINS), 1) for _ in BINS)
        self.conv = PyramidConv(self.pyramid_channels, width, 3, split=split)
        self.norm = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, num_categories, 1)
        xavier_init(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map [B, C_i, H / s, W / s] at strides s = 2, 4, 8, 16 to logits [B, K, H / ``stride``, W / ``stride``]."""
        return self.classify(self.pool(features))

    def pool(self, features: Sequence[Tensor]) -> Pyramid:
        """Return the features at one stride, and their pooled maps."""
        _, fine, *coarser = features
        place = STRIDES.index(self.stride)
        size = (features[place].shape[-2], features[place].shape[-1])
        x = torch.cat([resized(one, size) for one in (self.lateral(fine), *coarser)], dim=1)
        pooled = []
        for bins, branch in zip(BINS, self.branches, strict=True):
            conv, norm, relu = cast(nn.Sequential, branch)
            pooled.append(relu(normalized(conv(F.adaptive_avg_pool2d(x, bins)), norm)))
        return Pyramid(x, pooled)

    def classify(self, pyramid: Pyramid) -> Tensor:
        """Return the logits of a pyramid."""
        return cast(Tensor, self.classifier(self.dropout(torch.relu(self.norm(self.conv(pyramid))))))


def normalized(x: Tensor, norm: nn.Module) -> Tensor:
    """Apply a norm; in training, BatchNorm uses its running statistics where a channel has a single value."""
    if type(norm) is nn.BatchNorm2d and norm.training and x.numel() == x.shape[1]:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    return cast(Tensor, norm(x))
