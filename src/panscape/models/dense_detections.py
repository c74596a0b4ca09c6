"""Dense detections: real-time panoptic segmentation from boxes that every location predicts.

Rui Hou, Jie Li, Arjun Bhargava, Allan Raventos, Vitor Guizilini, Chao Fang, Jerome Lynch, Adrien Gaidon: Real-Time
Panoptic Segmentation from Dense Detections. CVPR 2020. arXiv:1912.01202.

A backbone with an FPN; one head, shared by all levels, predicts for each location the box of its object, the category,
and the centerness; the features of all levels together give the category of each pixel and the level whose box it
takes (levelness). An object's mask consists of the pixels of its category whose boxes agree with the object's box.

The authors released the network and its inference, but neither training nor the fusion into a map. Where paper and code
disagree, the network follows the code, so that their weights work here:

- Semantic logits have the finest level's size, H/8; in the paper, both towers are upsampled to H/4.
- The localisation tower has 256 channels and the semantic tower 128; the paper gives no widths. Levelness and semantic
  logits come from one 3x3 convolution each.
- Distances are in pixels of the input at all levels; they are not multiplied by the level's stride.

Where neither specifies it, or the code has an error:

- The single tower (the first row of Table 3; not in the code) is the localisation tower at its full width, from which
  all five outputs are predicted.
- The prior of the focal loss is applied to the categories of boxes, if that loss is divided by the number of positives.
  The code applies it to the semantic logits, where it has no effect.
- Levelness and semantic logits are computed by an equivalent rearrangement, equal up to rounding, see
  ``nn/shared_conv.py``.

Losses and post-processing have further deviations, see ``representations/dense_boxes/representation.py`` and the
documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn

from panscape.constraints import PositiveInt, check_fields
from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.models.dense_detection_head import CHANNELS_IN_GROUP, LARGEST_DISTANCE, DenseDetectionHead
from panscape.models.detection_model import DetectionModel
from panscape.models.variants import ModelConfig, variant
from panscape.nn.backbones import STRIDES, Backbone
from panscape.nn.fpn import FPN
from panscape.nn.frozen_batch_norm import first_layers, freeze_batch_norms
from panscape.representations.checks import require_things
from panscape.representations.dense_boxes import (
    DENSE_BOX_ORACLES,
    DenseBoxDecoding,
    DenseBoxOutputs,
    DenseBoxRepresentation,
    DenseBoxTargets,
)
from panscape.representations.fusion import FusionConfig

# The paper's settings, by label space.
PUBLISHED: Mapping[str, DenseBoxRepresentation] = {
    "cityscapes": DenseBoxRepresentation(decoding=DenseBoxDecoding(fusion=FusionConfig(stuff_area=2048))),
    "coco_panoptic": DenseBoxRepresentation(semantic_loss_weight=0.4),
}


class DenseDetections(DetectionModel):
    """The dense detections model.

    Args:
        labels: the label space.
        backbone: features at strides 4 to 32.
        config: all other options; its representation defines the number of levels and their strides.

    Raises:
        InvalidArgumentError: no category is a thing, or the backbone does not fit the representation's levels.
    """

    representation: DenseBoxRepresentation

    def __init__(self, labels: LabelSpace, backbone: Backbone, config: DenseDetectionsConfig) -> None:
        representation = config.representation or PUBLISHED.get(labels.name, DenseBoxRepresentation())
        require_things(labels, "boxes")
        if representation.finest_stride not in STRIDES[:2]:
            raise InvalidArgumentError(f"expected a finest_stride of 4 or 8, got {representation.finest_stride}")
        super().__init__(
            labels, STRIDES[-1], config.longest_side, config.test_scale, "caffe" if config.compat else "imagenet"
        )
        self.representation = representation
        self._first_stage = STRIDES.index(representation.finest_stride)
        self.backbone = cast(nn.Module, backbone)
        self.pyramid = FPN(backbone.channels[self._first_stage :], config.fpn_width, representation.num_levels)
        self.head = DenseDetectionHead(
            config.fpn_width,
            representation.num_levels,
            len(labels),
            len(labels.thing_ids),
            box_width=config.box_width,
            semantic_width=config.semantic_width if config.towers == 2 else None,
            depth=config.tower_depth,
            has_levelness=config.levelness,
            initial_distance=config.initial_distance,
            has_prior=representation.category_normalization == "positives",
        )
        if config.frozen_norm:
            freeze_batch_norms(self.backbone, 0.0 if config.compat else None)
            for parameter in first_layers(backbone):
                parameter.requires_grad_(False)

    def forward(self, images: Tensor) -> DenseBoxOutputs:
        """Map images, float [B, 3, H, W] in 0..1, to outputs for the padded size."""
        features = self.backbone(self.preprocess(images))
        return cast(DenseBoxOutputs, self.head(self.pyramid(features[self._first_stage :])))

    def loss(self, outputs: DenseBoxOutputs, targets: DenseBoxTargets) -> dict[str, Tensor]:
        """See :meth:`DenseBoxRepresentation.loss`."""
        return self.representation.loss(outputs, targets)

    @property
    def oracles(self) -> tuple[str, ...]:
        """The semantic segmentation and the boxes."""
        return DENSE_BOX_ORACLES

    def visualize(self, outputs: DenseBoxOutputs, size: tuple[int, int]) -> dict[str, Tensor]:
        """See :meth:`DenseBoxRepresentation.visualize`."""
        return self.representation.visualize(outputs, size, self.labels)


@dataclass(frozen=True, kw_only=True)
class DenseDetectionsConfig(ModelConfig[DenseDetections]):
    """Options of dense detections; the widths are the published ones.

    Attributes:
        backbone: See :class:`~panscape.models.variants.ModelConfig`; by default ResNet-50 with torchvision's weights,
            from which the paper starts.
        towers: 2, for localisation and for semantics, or 1 of ``box_width`` channels for both.
        levelness: Predict the level whose box a pixel takes; without it, the best level counts for each object.
        box_width: Channels of the localisation tower, a multiple of 8; 256 as published.
        semantic_width: Channels of the semantic tower, a multiple of 8; 128 as published. Not used with one tower.
        fpn_width: Channels of the FPN; 256 as published.
        tower_depth: Layers of each tower.
        initial_distance: Initial distance from a location to each side of its box, pixels. 1 as released; networks
            that are trained for minutes converge sooner from the size of common things.
        frozen_norm: Freeze the BatchNorm of the backbone, and the weights of its stem and first stage, as published
            for training from ImageNet weights. Without these weights, frozen norms do not normalise.
        compat: "released" for the authors' weights: the input normalisation of Caffe, and frozen norms that add nothing
            to the variance, as torchvision's did then. None for ImageNet's normalisation and the backbone's epsilon.
        representation: Targets, losses and post-processing, with levels and strides; None for the published values for
            the label space.

    Raises:
        InvalidArgumentError: a width, the depth or another value is invalid.
    """

    backbone: str | Backbone = "resnet50.tv_in1k"
    towers: Literal[1, 2] = 2
    levelness: bool = True
    box_width: int = 256
    semantic_width: int = 128
    fpn_width: PositiveInt = 256
    tower_depth: PositiveInt = 4
    initial_distance: float = 1.0
    frozen_norm: bool = False
    compat: Literal["released"] | None = None
    representation: DenseBoxRepresentation | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for name, width in (("box_width", self.box_width), ("semantic_width", self.semantic_width)):
            if width < 1 or width % CHANNELS_IN_GROUP:
                raise InvalidArgumentError(
                    f"expected {name} to be a multiple of {CHANNELS_IN_GROUP}, the channels of a group, got {width}"
                )
        if not 0 < self.initial_distance <= LARGEST_DISTANCE:
            raise InvalidArgumentError(
                f"expected an initial_distance above 0 and of at most {LARGEST_DISTANCE:g} pixels, got "
                f"{self.initial_distance}"
            )
        if self.compat and not self.frozen_norm:
            raise InvalidArgumentError(
                f'expected compat None, or "released" with frozen_norm=True, got {self.compat!r} with '
                f"frozen_norm={self.frozen_norm}"
            )

    def build(self, labels: LabelSpace) -> DenseDetections:
        """See :meth:`ModelConfig.build`."""
        return DenseDetections(labels, self.create_backbone(after_relu=True), self)


dense_detections = variant("dense_detections", "Build dense detections on any backbone.", DenseDetectionsConfig)
dense_detections_r50 = variant(
    "dense_detections_r50",
    """Build the published network: ResNet-50 with frozen BatchNorm, FPN, and towers of 256 and 128 channels.

    Rows of Table 3: ``towers=1, levelness=False`` (first), ``levelness=False`` (second), and the defaults; the rows
    without mask loss and with supervision by boxes are options of the representation.
    """,
    DenseDetectionsConfig,
    frozen_norm=True,
)
dense_detections_light = variant(
    "dense_detections_light",
    """Build a lighter network of our own: one tower of 128 channels for everything, on an FPN of as many channels.

    The localisation tower takes 29 % of all operations, and in Table 3 a second tower adds 0.3 PQ but loses 0.3 on
    things. The semantic tower's width is kept: its first layer reduces the FPN's features to 128 channels, so that the
    FPN needs no more channels either. Convolutions are dense, as CPUs run depthwise ones inefficiently.
    """,
    DenseDetectionsConfig,
    towers=1,
    box_width=128,
    fpn_width=128,
)
