"""Panoptic FPN: Mask R-CNN with a semantic head on the same feature pyramid.

Alexander Kirillov, Ross Girshick, Kaiming He, Piotr Dollár: Panoptic Feature Pyramid Networks. CVPR 2019.
arXiv:1901.02446.

The network follows detectron2, whose weights work here. Deviations:

- The targets of masks are the pixels at the centres of a mask's cells; detectron2 averages the pixels of each cell.
- NMS is per category in a loop; detectron2 shifts the boxes of categories apart.
- The semantic loss is the mean over the pixels of each image, then over images; detectron2 averages over all pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from panscape.constraints import PositiveInt, check_fields
from panscape.labels import LabelSpace
from panscape.models.region_heads import RegionHeads
from panscape.models.region_model import RegionModel
from panscape.models.variants import ModelConfig, variant
from panscape.nn.backbones import STRIDES, Backbone, stride_in_first_conv
from panscape.nn.fpn import FPN
from panscape.nn.frozen_batch_norm import first_layers, freeze_batch_norms
from panscape.representations.checks import require_things
from panscape.representations.regions import (
    Anchors,
    DetectionSelection,
    ProposalSelection,
    RegionRepresentation,
    StageSampling,
)

PUBLISHED = RegionRepresentation(
    anchors=Anchors(center=0.0),
    first_stage=StageSampling(256, 0.5, 0.7, 0.3, 0.0),
    second_stage=StageSampling(512, 0.25, 0.5, 0.5, 0.0),
    proposals=ProposalSelection(1000, 2000, 1000, 1000, per_level=True),
    detections=DetectionSelection(0.05, 0.5, 100),
    best_anchors="all",
    inside_only=False,
    second_stage_of_empty=True,
    merge_things=True,
    hard_pixel_fraction=1.0,
    semantic_loss_weight=0.5,
)
"""Anchors, losses and selection of detectron2's COCO-PanopticSegmentation/panoptic_fpn_R_50_*."""


class SemanticFPN(nn.Module):
    """The semantic head: every level is brought to stride 4 in steps of 2, and their sum predicts (Section 3.1).

    Args:
        width: channels of the levels.
        strides: of the levels.
        num_channels: channels of the logits.
        hidden: channels of the head.
    """

    def __init__(self, width: int, strides: Sequence[int], num_channels: int, hidden: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        for stride in strides:
            num_steps = round(math.log2(stride / strides[0]))
            steps: list[nn.Module] = []
            for i in range(max(1, num_steps)):
                conv = nn.Conv2d(hidden if i else width, hidden, 3, padding=1, bias=False)
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
                steps += [conv, nn.GroupNorm(math.gcd(32, hidden), hidden), nn.ReLU()]
                if num_steps:
                    steps.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            self.levels.append(nn.Sequential(*steps))
        self.predictor = nn.Conv2d(hidden, num_channels, 1)
        # By the number of inputs. By that of outputs, as in detectron2, logits of few categories start at hundreds.
        nn.init.kaiming_uniform_(self.predictor.weight, a=1)
        nn.init.zeros_(cast(Tensor, self.predictor.bias))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Map levels [B, C, h_i, w_i], finest first, to logits [B, K, h_0, w_0]."""
        parts = [level(x) for level, x in zip(self.levels, levels, strict=True)]
        return cast(Tensor, self.predictor(torch.stack(parts).sum(dim=0)))


class PanopticFPN(RegionModel):
    """The Panoptic FPN model.

    Args:
        labels: the label space.
        backbone: features at strides 4 to 32.
        config: all other options.

    Raises:
        InvalidArgumentError: no category is a thing, or the anchors have other strides than an FPN.
    """

    def __init__(self, labels: LabelSpace, backbone: Backbone, config: PanopticFPNConfig) -> None:
        require_things(labels, "regions")
        representation = config.representation or PUBLISHED
        strides = representation.anchors.strides
        heads = RegionHeads(representation, config.width, len(labels.thing_ids), None)
        super().__init__(
            labels,
            backbone,
            FPN(backbone.channels, config.width, len(strides), coarser="subsample"),
            heads,
            SemanticFPN(config.width, STRIDES, representation.num_semantic_channels(labels), config.semantic_width),
            representation,
            semantic_from_pyramid=True,
            longest_side=config.longest_side,
            test_scale=config.test_scale,
            normalization="msra" if config.compat else "imagenet",
        )
        _initialize(heads)
        if config.compat:
            stride_in_first_conv(self.backbone)
        if config.frozen_norm:
            freeze_batch_norms(self.backbone)
            for parameter in first_layers(backbone):
                parameter.requires_grad_(False)


def _initialize(heads: RegionHeads) -> None:
    """Initialise the heads as detectron2 does; biases are 0."""
    for layer in heads.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, a=1)
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.zeros_(cast(Tensor, layer.bias))
    first: list[nn.Module] = [m for m in heads.proposals.modules() if isinstance(m, nn.Conv2d)]
    for layers, std in (
        (first, 0.01),
        ([heads.boxes.category], 0.01),
        ([heads.boxes.offsets], 0.001),
        ([heads.masks.masks], 0.001),
    ):
        for layer in layers:
            nn.init.normal_(cast(Tensor, layer.weight), std=std)


@dataclass(frozen=True, kw_only=True)
class PanopticFPNConfig(ModelConfig[PanopticFPN]):
    """Options of Panoptic FPN; the widths are the published ones.

    Attributes:
        backbone: See :class:`~panscape.models.variants.ModelConfig`.
        width: Channels of the FPN and of the heads.
        semantic_width: Channels of the semantic head.
        frozen_norm: Freeze the BatchNorm of the backbone, and the weights of its stem and first stage, as published for
            training from ImageNet weights. Without these weights, frozen norms do not normalise.
        compat: "detectron2" for its weights: ResNets of Microsoft Research, whose stages halve the size in their first
            1x1 convolution, and their input normalisation. None for ResNets of torchvision and timm.
        representation: Anchors, targets, losses and post-processing; None for the published values.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    backbone: str | Backbone = "resnet50.tv_in1k"
    width: PositiveInt = 256
    semantic_width: PositiveInt = 128
    frozen_norm: bool = False
    compat: Literal["detectron2"] | None = None
    representation: RegionRepresentation | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def build(self, labels: LabelSpace) -> PanopticFPN:
        """See :meth:`ModelConfig.build`."""
        return PanopticFPN(labels, self.create_backbone(after_relu=True), self)


panoptic_fpn = variant("panoptic_fpn", "Build Panoptic FPN on any backbone.", PanopticFPNConfig)
panoptic_fpn_r50 = variant(
    "panoptic_fpn_r50", "Build the published network with ResNet-50.", PanopticFPNConfig, frozen_norm=True
)
panoptic_fpn_r101 = variant(
    "panoptic_fpn_r101",
    "Build the published network with ResNet-101.",
    PanopticFPNConfig,
    backbone="resnet101.tv_in1k",
    frozen_norm=True,
)
