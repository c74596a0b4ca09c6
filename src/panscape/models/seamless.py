"""Seamless Scene Segmentation, and its successor for all scales: two stages and a semantic head on one backbone.

- Lorenzo Porzi, Samuel Rota Bulò, Aleksander Colovic, Peter Kontschieder: Seamless Scene Segmentation. CVPR 2019.
  arXiv:1905.01220. ResNet-50; the semantic head (Mini-DeepLab) is on the FPN.
- Lorenzo Porzi, Samuel Rota Bulò, Peter Kontschieder: Improving Panoptic Segmentation at All Scales. CVPR 2021.
  arXiv:2012.07717. HRNetV2-W48+; the semantic head (DeepLabV3+) is on the backbone, as in Panoptic-DeepLab. New are the
  crop-aware box loss (``box_loss="crop_aware"`` of the representation) and the sampling of images by the scale of their
  instances.

The first network follows the released code, seamseg, so that its weights work here. Deviations:

- In-Place ABN, a norm whose activation is inverted in the backward pass to save memory, is BatchNorm and a leaky ReLU
  of slope 0.01. Its effective scale is ``|weight| + eps``; weights are converted when they are loaded.
- Images are padded to multiples of 32 pixels; seamseg pads a batch to its largest image.
- NMS drops boxes whose IoU is above the threshold, seamseg from the threshold on.
- A region without area is dropped; seamseg keeps it.
- In training, norms of the heads see two regions at least: to fewer in all processes, the whole first image is added,
  which no loss uses. In seamseg, processes without regions take no part in the statistics.
- Maps are made at the size of the image from upsampled logits, boxes and masks (``resize="outputs"``); seamseg makes
  them at the size of the network's input.

The second network is not released, and the paper leaves much open:

- The "+" of HRNetV2-W48+ is a pooling pyramid (ASPP) with rates 3, 6 and 9 on the features at stride 32 and a decoder
  with features at strides 16, 8 and 4, as in the HRNet of Panoptic-DeepLab's first author. Its norms are followed by
  ReLU.
- ASPP pools over a window of the size of the training crop, so that full images are seen as crops were.
- HRNet's fusion upsamples by nearest neighbour, as its ImageNet weights expect; bilinearly by choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.constraints import PositiveInt, check_fields
from panscape.labels import LabelSpace
from panscape.models.panoptic_deeplab_decoder import DeepLabDecoder
from panscape.models.region_heads import RegionHeads
from panscape.models.region_model import RegionModel
from panscape.models.variants import ModelConfig, variant
from panscape.nn.aspp import ASPP
from panscape.nn.backbones import STRIDES, Backbone, fuse_bilinearly
from panscape.nn.fpn import FPN, SLOPE
from panscape.representations.checks import require_things
from panscape.representations.regions import Anchors, DetectionSelection, RegionRepresentation

_DILATION = 6  # of Mini-DeepLab
_WINDOW = 64  # largest side of Mini-DeepLab's pooling window, in cells

_VISTAS = RegionRepresentation(
    anchors=Anchors(strides=(4, 8, 16, 32, 64, 128), scale=2.0, ratios=(0.2, 0.5, 1.0, 2.0, 5.0)),
    detections=DetectionSelection(max_detections=256),
)
PUBLISHED: Mapping[str, RegionRepresentation] = {"vistas_v1.2": _VISTAS, "vistas_v2.0": _VISTAS}
"""The published settings by label space; those of Cityscapes are the representation's defaults."""


class MiniDeepLab(nn.Module):
    """Seamless' semantic head: context of three kinds at each level, then all levels together.

    Args:
        width: channels of the levels.
        num_levels: number of levels.
        num_categories: number of categories.
    """

    def __init__(self, width: int, num_levels: int, num_categories: int) -> None:
        super().__init__()
        hidden = width // 2
        self.contexts = nn.ModuleList(_Context(width, hidden) for _ in range(num_levels))
        self.predictor = nn.Conv2d(num_levels * hidden, num_categories, 1)
        nn.init.xavier_normal_(self.predictor.weight, 0.01)
        nn.init.zeros_(cast(Tensor, self.predictor.bias))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Map levels [B, C, h_i, w_i], finest first, to logits [B, K, h_0, w_0]."""
        size = levels[0].shape[-2:]
        parts = [context(level) for context, level in zip(self.contexts, levels, strict=True)]
        parts = [parts[0], *(F.interpolate(p, size=size, mode="bilinear", align_corners=False) for p in parts[1:])]
        return cast(Tensor, self.predictor(torch.cat(parts, dim=1)))


class _Context(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(width, hidden, 3, padding=1, bias=False)
        self.far = nn.Conv2d(width, hidden, 3, padding=_DILATION, dilation=_DILATION, bias=False)
        self.mean = nn.Conv2d(width, hidden, 1, bias=False)
        self.norm = nn.BatchNorm2d(3 * hidden)
        self.blend = nn.Conv2d(3 * hidden, hidden, 1, bias=False)
        self.blend_norm = nn.BatchNorm2d(hidden)
        _initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.cat([self.near(x), self.far(x), self.mean(_window_means(x))], dim=1)
        return F.leaky_relu(self.blend_norm(self.blend(F.leaky_relu(self.norm(parts), SLOPE))), SLOPE)


def _window_means(x: Tensor) -> Tensor:
    """Return means over a window around each cell, [B, C, h, w]; near the border the last whole window's continue."""
    height, width = x.shape[-2:]
    rows, columns = min(_WINDOW, height), min(_WINDOW, width)
    means = F.avg_pool2d(x, (rows, columns), stride=1)
    before = ((rows - 1) // 2, (columns - 1) // 2)
    return F.pad(means, (before[1], columns - 1 - before[1], before[0], rows - 1 - before[0]), mode="replicate")


class DeepLabV3PlusHead(nn.Module):
    """The semantic head of the network for all scales, on the features of the backbone.

    Args:
        channels: channels of the features at strides 4 to 32.
        num_categories: number of categories.
        window: rows and columns of ASPP's pooling window at stride 32.
        width: channels of ASPP and decoder.
    """

    def __init__(self, channels: Sequence[int], num_categories: int, window: tuple[int, int], width: int) -> None:
        super().__init__()
        pyramid = ASPP(
            channels[-1],
            width,
            (3, 6, 9),
            separable=False,
            window=window,
            window_bias=False,
            align_corners=False,
            dropout=0.1,
        )
        self.decoder = DeepLabDecoder(
            channels,
            (2, 1, 0),
            (width * 3 // 4, width * 3 // 8, width * 3 // 16),
            pyramid,
            pyramid_width=width,
            width=width,
            separable=False,
            skip_first=True,
            align_corners=False,
        )
        self.predictor = nn.Conv2d(width, num_categories, 1)
        nn.init.normal_(self.predictor.weight, std=0.001)
        nn.init.zeros_(cast(Tensor, self.predictor.bias))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map features at strides 4 to 32 to logits [B, K, H / 4, W / 4]."""
        return cast(Tensor, self.predictor(self.decoder(features)))


class Seamless(RegionModel):
    """Both networks.

    Args:
        labels: the label space.
        backbone: features at strides 4 to 32.
        config: all other options.

    Raises:
        InvalidArgumentError: no category is a thing, or the anchors have other strides than an FPN.
    """

    def __init__(self, labels: LabelSpace, backbone: Backbone, config: SeamlessConfig) -> None:
        require_things(labels, "regions")
        representation = config.representation or PUBLISHED.get(labels.name, RegionRepresentation())
        strides = representation.anchors.strides
        num_channels = representation.num_semantic_channels(labels)
        is_mini = config.semantic == "mini_deeplab"
        window = (config.window[0] // STRIDES[-1], config.window[1] // STRIDES[-1])
        heads = RegionHeads(representation, config.width, len(labels.thing_ids), nn.BatchNorm2d)
        super().__init__(
            labels,
            backbone,
            FPN(backbone.channels, config.width, len(strides), coarser="features", norm=nn.BatchNorm2d),
            heads,
            MiniDeepLab(config.width, len(STRIDES), num_channels)
            if is_mini
            else DeepLabV3PlusHead(backbone.channels, num_channels, window, config.width),
            representation,
            semantic_from_pyramid=is_mini,
            longest_side=config.longest_side,
            test_scale=config.test_scale,
            normalization=config.normalization,
        )
        _initialize(heads)
        for predictor, gain in (
            (heads.proposals.objectness, 0.01),
            (heads.proposals.offsets, 0.01),
            (heads.boxes.category, 0.01),
            (heads.boxes.offsets, 0.001),
            (heads.masks.masks, 0.01),
        ):
            nn.init.xavier_normal_(predictor.weight, gain)


def _initialize(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_normal_(layer.weight, nn.init.calculate_gain("leaky_relu", SLOPE))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@dataclass(frozen=True, kw_only=True)
class SeamlessConfig(ModelConfig[Seamless]):
    """Options of Seamless and of the network for all scales; the widths are the published ones.

    Attributes:
        backbone: See :class:`~panscape.models.variants.ModelConfig`; by default ResNet-50 with torchvision's weights.
        semantic: Semantic head: "mini_deeplab" on the FPN, or "deeplabv3plus" on the backbone.
        width: Channels of the FPN and of the heads.
        fuse_upsampling: Upsampling in the fusion layers of an HRNet: "nearest", as its ImageNet weights expect, or
            "bilinear", with aligned corners, as in ports of HRNet for segmentation.
        window: Height and width of the pooling window of "deeplabv3plus", pixels: those of training crops.
        normalization: Input normalisation; "vistas" for the authors' weights.
        representation: Anchors, targets, losses and post-processing; None for the published values for the label space.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    backbone: str | Backbone = "resnet50.tv_in1k"
    semantic: Literal["mini_deeplab", "deeplabv3plus"] = "mini_deeplab"
    width: PositiveInt = 256
    fuse_upsampling: Literal["nearest", "bilinear"] = "nearest"
    window: tuple[PositiveInt, PositiveInt] = (1024, 1024)
    normalization: Literal["imagenet", "vistas"] = "imagenet"
    representation: RegionRepresentation | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def build(self, labels: LabelSpace) -> Seamless:
        """See :meth:`ModelConfig.build`; "bilinear" with another backbone than an HRNet is an error."""
        backbone = self.create_backbone(after_relu=True, negative_slope=SLOPE)
        if self.fuse_upsampling == "bilinear":
            fuse_bilinearly(cast(nn.Module, backbone))
        return Seamless(labels, backbone, self)


seamless = variant("seamless", "Build Seamless on any backbone.", SeamlessConfig)
seamless_r50 = variant(
    "seamless_r50",
    """Build the published network of Seamless Scene Segmentation: ResNet-50 and Mini-DeepLab.""",
    SeamlessConfig,
    normalization="vistas",
)
seamless_hrnet48 = variant(
    "seamless_hrnet48",
    """Build the network of Improving Panoptic Segmentation at All Scales: HRNetV2-W48+.

    Crop-aware box loss: ``representation=RegionRepresentation(box_loss="crop_aware")``.
    """,
    SeamlessConfig,
    backbone="hrnet_w48.ms_in1k",
    semantic="deeplabv3plus",
)
