"""What recipes say about their networks: one class for each family of models."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Literal

from tyro.conf import AvoidSubcommands

from panscape.labels import LabelSpace
from panscape.models import PanopticModel, create_model
from panscape.nn.pisr import PISR
from panscape.nn.pisr_baselines import OCR, Concatenation, ElementwiseProduct
from panscape.nn.pisr_instances import CenterInstanceMaps
from panscape.representations.centers import CenterDecoding, CenterRepresentation
from panscape.representations.dense_boxes import DenseBoxRepresentation
from panscape.training.config import ModelOptions

RelationsPart = PISR | Concatenation | ElementwiseProduct | OCR
"""What can stand between a network's features and its second heads."""

# The command line has the options of the kind of relations that a recipe has, and none where it has none: which kind it
# is decides a recipe, not an option.
_Relations = Annotated[RelationsPart | None, AvoidSubcommands]
_InstanceMaps = Annotated[CenterInstanceMaps | None, AvoidSubcommands]


@dataclass(frozen=True)
class SwiftNetOptions(ModelOptions):
    """Panoptic SwiftNet; see :func:`panscape.models.swiftnet`."""

    backbone: str = "residual_s"
    """"residual_xs" or "residual_s" (small, never pretrained), or a timm model such as "resnet18.tv_in1k"."""

    levels: int = 3
    """Scales of the image pyramid, 1 to 4."""

    context: Literal["pyramid", "spp"] = "pyramid"
    """"pyramid", or "spp": spatial pyramid pooling, with one level."""

    width: int = 64
    """Channels of the upsampling path; 256 in the paper."""

    pretrained: bool = False
    """Start the backbone from timm's ImageNet weights (--backbone-weights FILE: from a file). They are downloaded once,
    and only if nothing else fills the backbone."""

    longest_side: int | None = None
    """For prediction, larger images are shrunk to it, pixels."""

    test_scale: float = 1.0
    """For prediction, images are resized by it first; choose augmentation.scale around it."""

    representation: CenterRepresentation = field(default_factory=CenterRepresentation)
    """Targets, losses and recovery."""

    relations: _Relations = None
    """Between the features and heads of their own: what the features then know of categories and objects."""

    instance_maps: _InstanceMaps = None
    """What relations take of the centres; None for the defaults and a window like recovery's."""

    def create(self, labels: LabelSpace) -> PanopticModel:
        """Build the network for a label space.

        Raises:
            PanscapeError: as :func:`panscape.models.create_model`.
        """
        return create_model(
            "swiftnet",
            labels,
            backbone=self.backbone,
            levels=self.levels,
            context=self.context,
            width=self.width,
            pretrained=self.pretrained,
            longest_side=self.longest_side,
            test_scale=self.test_scale,
            representation=self.representation,
            relations=self.relations,
            instance_maps=self.instance_maps,
        )


@dataclass(frozen=True)
class DenseDetectionsOptions(ModelOptions):
    """Dense detections; see :func:`panscape.models.dense_detections`."""

    backbone: str = "residual_s"
    """"residual_xs" or "residual_s" (small, never pretrained), or a timm model such as "resnet50.tv_in1k"."""

    towers: Literal[1, 2] = 2
    """2, for localisation and for semantics, or 1 for both, as wide as that for localisation."""

    levelness: bool = True
    """Predict which level's box a pixel takes; without, the level that fits best counts for each object."""

    box_width: int = 64
    """Channels of the localisation tower, a multiple of 8; 256 as published."""

    semantic_width: int = 48
    """Channels of the semantic tower, a multiple of 8; 128 as published."""

    fpn_width: int = 64
    """Channels of the feature pyramid; 256 as published."""

    tower_depth: int = 4
    """Layers of each tower."""

    initial_distance: float = 1.0
    """Pixels from a location to each side of its box, before training."""

    frozen_norm: bool = False
    """Fix the backbone's norms, and the weights of its stem and first stage; for pretrained backbones."""

    norm_eps: float | None = None
    """What fixed norms add to the variance; None is what the backbone's own norms add."""

    pretrained: bool = False
    """Start the backbone from timm's ImageNet weights (--backbone-weights FILE: from a file). They are downloaded once,
    and only if nothing else fills the backbone."""

    normalization: str = "imagenet"
    """The numbers that pixels become, as the backbone's weights expect them: "imagenet" or "caffe"."""

    longest_side: int | None = None
    """For prediction, larger images are shrunk to it, pixels."""

    test_scale: float = 1.0
    """For prediction, images are resized by it first; choose augmentation.scale around it."""

    representation: DenseBoxRepresentation = field(default_factory=DenseBoxRepresentation)
    """Levels, targets, losses and recovery."""

    def create(self, labels: LabelSpace) -> PanopticModel:
        """Build the network for a label space.

        Raises:
            PanscapeError: as :func:`panscape.models.create_model`.
        """
        return create_model(
            "dense_detections",
            labels,
            backbone=self.backbone,
            towers=self.towers,
            levelness=self.levelness,
            box_width=self.box_width,
            semantic_width=self.semantic_width,
            fpn_width=self.fpn_width,
            tower_depth=self.tower_depth,
            initial_distance=self.initial_distance,
            frozen_norm=self.frozen_norm,
            norm_eps=self.norm_eps,
            pretrained=self.pretrained,
            normalization=self.normalization,
            longest_side=self.longest_side,
            test_scale=self.test_scale,
            representation=self.representation,
        )


@dataclass(frozen=True)
class PanopticDeepLabOptions(ModelOptions):
    """Panoptic-DeepLab; see :func:`panscape.models.panoptic_deeplab`."""

    backbone: str = "residual_s"
    """"residual_xs" or "residual_s" (small, never pretrained), "resnet52" or "resnet103" (with DeepLab's stem), or a
    timm model such as "resnet50.tv_in1k"."""

    form: Literal["detectron2", "standalone"] = "detectron2"
    """Which published implementation to follow; "standalone" is the older repository."""

    separable: bool = True
    """Separable convolutions, as in the paper; or ordinary ones."""

    output_stride: Literal[16, 32] | None = None
    """Of the coarsest features: 16, for ResNets and ours, or 32; None is 16, and 32 in the standalone form."""

    decoder_width: int = 64
    """Channels of the semantic decoder and its head; 256 as published."""

    instance_width: int = 32
    """Channels of the decoder of centres and offsets; 128 as published."""

    pyramid_width: int = 64
    """Channels of the context's branches; 256 as published."""

    head_width: int = 16
    """Channels of the heads of centres and offsets; 32 as published."""

    projections: tuple[int, ...] | None = None
    """Channels of the finer features in the semantic decoder, coarse to fine; None is 64 and 32, and with an output
    stride of 32 also 128 before them."""

    instance_projections: tuple[int, ...] | None = None
    """The same in the other decoder; None is as many, in the standalone form half of it."""

    context_size: tuple[int, int] | None = None
    """Height and width in pixels over which the context takes its mean; None is the published training crop of the
    label space, else the whole image."""

    size_divisibility: int | None = None
    """Images are padded to multiples of this many pixels; None is the published value of the label space, 640 for COCO,
    else the backbone's last stride."""

    dropout: float | None = None
    """After the context; None is as published, 0.1 or in the standalone form 0.5."""

    pretrained: bool = False
    """Start the backbone from timm's ImageNet weights (--backbone-weights FILE: from a file). They are downloaded once,
    and only if nothing else fills the backbone. Of "resnet52" and "resnet103" they are Gluon's."""

    longest_side: int | None = None
    """For prediction, larger images are shrunk to it, pixels."""

    test_scale: float = 1.0
    """For prediction, images are resized by it first; choose augmentation.scale around it."""

    representation: CenterRepresentation = field(
        default_factory=lambda: CenterRepresentation(
            boundary_alphas=(), decoding=CenterDecoding(resize="outputs", beyond_top_k="above")
        )
    )
    """Targets, losses and recovery."""

    relations: _Relations = None
    """Between the decoders and heads of their own: what the features then know of categories and objects."""

    instance_maps: _InstanceMaps = None
    """What relations take of the centres; None for the defaults and a window like recovery's."""

    def create(self, labels: LabelSpace) -> PanopticModel:
        """Build the network for a label space.

        Raises:
            PanscapeError: as :func:`panscape.models.create_model`.
        """
        options = {option.name: getattr(self, option.name) for option in fields(self)}
        return create_model("panoptic_deeplab", labels, **options)
