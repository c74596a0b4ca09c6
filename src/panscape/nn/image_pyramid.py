"""Image pyramid: one backbone applied to several scales of an image, with shared convolutions."""

from __future__ import annotations

import copy
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from panscape.nn.backbones import Backbone


def image_pyramid(images: Tensor, levels: int) -> list[Tensor]:
    """Return the images at 1, 1/2, 1/4 ... of their size, finest first.

    Each level is one bilinear resize of the first, with aligned corners and without a low-pass filter, as in Panoptic
    SwiftNet's published code.

    Args:
        images: [B, C, H, W], H and W multiples of ``2 ** (levels - 1)``.
        levels: number of scales.
    """
    height, width = images.shape[-2:]
    # Not shifted: ONNX shifts no sizes.
    return [images] + [
        F.interpolate(images, size=(height // 2**i, width // 2**i), mode="bilinear", align_corners=True)
        for i in range(1, levels)
    ]


class ImagePyramid(nn.Module):
    """A backbone over an image pyramid: convolutions are shared by all levels, BatchNorm is separate for each level.

    The levels are separate modules that share their parameters, except those of BatchNorm layers. Nothing is switched
    between levels, and a forward pass changes no state besides running statistics.

    Args:
        backbone: applied to every level; its BatchNorm layers are copied with their values.
        levels: number of scales, at least 1.
    """

    def __init__(self, backbone: Backbone, levels: int) -> None:
        super().__init__()
        self.channels = backbone.channels
        first = cast(nn.Module, backbone)
        shared = {
            id(tensor): tensor
            for module in first.modules()
            if not isinstance(module, _BatchNorm)
            for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        }
        # deepcopy does not copy objects that are already in its memo, so the copies share these parameters.
        self.levels = nn.ModuleList([first, *(copy.deepcopy(first, dict(shared)) for _ in range(levels - 1))])

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        """Map [B, 3, H, W] to features ``result[level][stage]``, at stride ``4 * 2 ** (level + stage)``."""
        return [level(x) for level, x in zip(self.levels, image_pyramid(images, len(self.levels)), strict=True)]
