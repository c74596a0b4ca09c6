"""UPerNet: pyramid pooling on the coarsest features, an FPN, and a semantic segmentation from all levels together.

Tete Xiao, Yingcheng Liu, Bolei Zhou, Yuning Jiang, Jian Sun: Unified Perceptual Parsing for Scene Understanding. ECCV
2018. arXiv:1807.10221. The network is that of mmsegmentation, on which weights of Swin Transformers were published:
it predicts categories only, and an auxiliary head serves training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.nn.backbones import Backbone
from panscape.nn.blocks import conv_norm_relu
from panscape.nn.pixel_decoder import PixelFeatures
from panscape.nn.pyramid_pooling import BINS, normalized

_AUXILIARY_LEVEL = 2  # stride 16


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


class UPerNetOutputs(NamedTuple):
    """Category logits of UPerNet.

    Attributes:
        semantic: at stride 4, float [B, K, h, w].
        auxiliary: at stride 16, used only by losses, with weight 0.4 as published, float [B, K, h / 4, w / 4].
    """

    semantic: Tensor
    auxiliary: Tensor


class UPerNet(nn.Module):
    """UPerNet as published: a backbone, the decoder and two classifiers.

    Args:
        backbone: features at strides 4 to 32.
        num_categories: number of categories.
        width: channels of the decoder.
        auxiliary_width: channels of the auxiliary head.
        dropout: dropout probability of whole channels before the classifiers in training, as in mmsegmentation.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_categories: int,
        width: int = 512,
        auxiliary_width: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.backbone = cast(nn.Module, backbone)
        self.decoder = UPerHead(backbone.channels, width)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, num_categories, 1)
        self.auxiliary = conv_norm_relu(backbone.channels[_AUXILIARY_LEVEL], auxiliary_width, 3)
        self.auxiliary_classifier = nn.Conv2d(auxiliary_width, num_categories, 1)
        for classifier in (self.classifier, self.auxiliary_classifier):
            nn.init.normal_(classifier.weight, std=0.01)
            nn.init.zeros_(cast(Tensor, classifier.bias))

    def forward(self, images: Tensor) -> UPerNetOutputs:
        """Map normalised images [B, 3, H, W], of multiples of 32 pixels, to category logits."""
        features = self.backbone(images)
        semantic = self.classifier(self.dropout(self.decoder(features).fine))
        auxiliary = self.auxiliary_classifier(self.dropout(self.auxiliary(features[_AUXILIARY_LEVEL])))
        return UPerNetOutputs(semantic, auxiliary)
