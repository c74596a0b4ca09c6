"""Panoptic FPN: Mask R-CNN with a semantic head on the same feature pyramid.

Alexander Kirillov, Ross Girshick, Kaiming He, Piotr Dollár: Panoptic Feature Pyramid Networks. CVPR 2019.
arXiv:1901.02446.

The network follows detectron2, whose weights work here. Deviations:

- The targets of masks are the pixels at the centres of a mask's cells; detectron2 averages the pixels of each cell.
- NMS is per category in a loop; detectron2 shifts the boxes of categories apart.
- The semantic loss is the mean over the pixels of each image, then over images; detectron2 averages over all pixels.
- Relations can be inserted before a second pass of the heads (see ``models/pisr_regions.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from panscape.constraints import PositiveInt, check_fields
from panscape.labels import LabelSpace
from panscape.models.pisr import refined_head, valid_cells
from panscape.models.pisr_panels import relation_panels
from panscape.models.pisr_regions import RegionRelations
from panscape.models.region_heads import RegionHeads
from panscape.models.region_model import RegionModel
from panscape.models.variants import ModelConfig, variant
from panscape.nn.backbones import STRIDES, Backbone, stride_in_first_conv
from panscape.nn.blocks import GroupNorm
from panscape.nn.fpn import FPN
from panscape.nn.frozen_batch_norm import first_layers, freeze_batch_norms
from panscape.nn.pisr import Relations
from panscape.ops.boxes import stacked
from panscape.representations.checks import require_things
from panscape.representations.regions import (
    Anchors,
    DetectionSelection,
    ProposalSelection,
    RegionOutputs,
    RegionRepresentation,
    RegionTargets,
    StageSampling,
)
from panscape.representations.regions.losses import objects_of
from panscape.representations.regions.propose import DetectedBoxes

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
                steps += [conv, GroupNorm(hidden), nn.ReLU()]
                if num_steps:
                    steps.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            self.levels.append(nn.Sequential(*steps))
        self.predictor = _predictor(hidden, num_channels)

    def features(self, levels: Sequence[Tensor]) -> Tensor:
        """Map levels [B, C, h_i, w_i], finest first, to the input of the predictor, [B, ``hidden``, h_0, w_0]."""
        parts = [level(x) for level, x in zip(self.levels, levels, strict=True)]
        return torch.stack(parts).sum(dim=0)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Map levels [B, C, h_i, w_i], finest first, to logits [B, K, h_0, w_0]."""
        return cast(Tensor, self.predictor(self.features(levels)))


def _predictor(channels: int, num_channels: int) -> nn.Conv2d:
    predictor = nn.Conv2d(channels, num_channels, 1)
    # By the number of inputs. By that of outputs, as in detectron2, logits of few categories start at hundreds.
    nn.init.kaiming_uniform_(predictor.weight, a=1)
    nn.init.zeros_(cast(Tensor, predictor.bias))
    return predictor


class PanopticFPN(RegionModel):
    """The Panoptic FPN model.

    Args:
        labels: the label space.
        backbone: features at strides 4 to 32.
        config: all other options.

    Attributes:
        relations: the relations before the second pass, in networks with one, whose heads have the prefix ``refined_``;
            None in others.

    Raises:
        InvalidArgumentError: no category is a thing, or the anchors have other strides than an FPN.
    """

    semantic: SemanticFPN
    relations: RegionRelations | None

    def __init__(self, labels: LabelSpace, backbone: Backbone, config: PanopticFPNConfig) -> None:
        require_things(labels, "regions")
        representation = config.representation or PUBLISHED
        strides = representation.anchors.strides
        num_channels = representation.num_semantic_channels(labels)
        heads = RegionHeads(representation, config.width, len(labels.thing_ids), None)
        super().__init__(
            labels,
            backbone,
            FPN(backbone.channels, config.width, len(strides), coarser="subsample"),
            heads,
            SemanticFPN(config.width, STRIDES, num_channels, config.semantic_width),
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
        self.relations = None
        if config.relations is not None:
            self.relations = RegionRelations(config.relations, config.semantic_width, num_channels, config.width)
            channels = self.relations.related.out_channels
            self.refined_semantic = refined_head(
                self.semantic.predictor, config.semantic_width, channels, lambda n: _predictor(n, num_channels)
            )
            self.refined_heads = heads.second_pass()

    def forward(self, images: Tensor, targets: RegionTargets | None = None) -> RegionOutputs:
        """See :meth:`RegionModel.forward`.

        With relations, in training, the outputs include those of the first pass, to which the losses apply as well.
        """
        if self.relations is None:
            return super().forward(images, targets)
        inputs = self.preprocess(images)
        levels = self.pyramid(self.backbone(inputs))
        features = self.semantic.features(levels[:4])
        size, image_size = (inputs.shape[2], inputs.shape[3]), (images.shape[2], images.shape[3])
        first = self._outputs(levels, self.semantic.predictor(features), size, image_size, targets)
        objects = (first.mask_boxes, first.mask_score, first.masks)
        if targets is not None and self.relations.related.uses_instances:
            objects = self._training_objects(levels, first, size, image_size, targets)
        valid = valid_cells(image_size, features, STRIDES[0])
        related = self.relations(features, first.semantic, *objects, valid, STRIDES[0])
        levels = self.relations.levels(levels[:4], related)
        found = self.refined_heads(levels, first.regions, size, image_size, self.representation, targets)
        second = RegionOutputs(self.refined_semantic(related), first.objectness, first.anchor_offsets, *found)
        return second._replace(first_stage=first) if self.training else second

    def _training_objects(
        self,
        levels: list[Tensor],
        first: RegionOutputs,
        size: tuple[int, int],
        image_size: tuple[int, int],
        targets: RegionTargets,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes, scores and masks of the detections, or of the ground truth in images without any."""
        regions = self.heads.regions(first.objectness, first.anchor_offsets, size, image_size, self.representation)
        found = self.heads.detect(levels, regions, size, image_size, self.representation)
        found = [
            one if len(one.score) else DetectedBoxes(true.box, true.category - 1, torch.ones_like(true.box[:, 0]))
            for one, true in zip(found, objects_of(targets), strict=True)
        ]
        num = cast(RegionRelations, self.relations).num_instances
        boxes, thing, score = (stacked([one[i] for one in found], num) for i in range(3))
        return boxes, score, self.heads.mask(levels, boxes, thing, size)

    @property
    def weight_copies(self) -> Mapping[str, str]:
        """Maps heads of the second pass to the first pass' heads of the same shapes."""
        if self.relations is None:
            return {}
        copies = {"refined_heads.boxes": "heads.boxes", "refined_heads.masks": "heads.masks"}
        if self.relations.related.out_channels == self.relations.related.channels:
            copies["refined_semantic"] = "semantic.predictor"
        return copies

    def visualize_features(self, images: Tensor, size: tuple[int, int], categories: Sequence[int]) -> dict[str, Tensor]:
        """Visualise the effect of relations on the semantic features, see :mod:`panscape.models.pisr_panels`.

        Things have no maps of their own if they are one category of the semantic head: only stuff is shown then.
        """
        found = self.representation.merge_things
        channel = {c: i + 1 for i, c in enumerate(self.labels.stuff_ids)} if found else {c: c for c in categories}
        return relation_panels(
            self,
            None if self.relations is None else self.relations.related,
            images,
            size,
            [c for c in categories if c in channel],
            padded_size=self.representation.padded_size,
            channel=channel,
        )


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
        relations: Relations that add the context of categories and objects to the features, for example ``PISR()``;
            the predictions of the heads are then a first pass, and separate heads predict the outputs. None for the
            published network.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    backbone: str | Backbone = "resnet50.tv_in1k"
    width: PositiveInt = 256
    semantic_width: PositiveInt = 128
    frozen_norm: bool = False
    compat: Literal["detectron2"] | None = None
    representation: RegionRepresentation | None = None
    relations: Relations | None = None

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
