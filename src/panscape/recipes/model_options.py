"""Network options of recipes: one class per family of models."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal, cast

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
"""Modules between the features of a network and its second heads: PISR, or one of its baselines."""

# The recipe decides the type of the module, not an option: the command line has the options of the recipe's type, and
# none if the recipe has no module.
_Relations = Annotated[RelationsPart | None, AvoidSubcommands]
_InstanceMaps = Annotated[CenterInstanceMaps | None, AvoidSubcommands]


class FactoryOptions(ModelOptions):
    """Options whose fields are the arguments of a factory of :mod:`panscape.models`."""

    factory: ClassVar[str]
    """Name of the factory."""

    def create(self, labels: LabelSpace) -> PanopticModel:
        """Build the network for a label space.

        Raises:
            PanscapeError: as :func:`panscape.models.create_model`.
        """
        options = {option.name: getattr(self, option.name) for option in fields(cast(Any, self))}
        return create_model(self.factory, labels, **options)


@dataclass(frozen=True)
class SwiftNetOptions(FactoryOptions):
    """Panoptic SwiftNet; see :func:`panscape.models.swiftnet`."""

    factory = "swiftnet"

    backbone: str = "residual_s"
    """Backbone: "residual_xs" or "residual_s" (small, never pretrained), or a timm model such as "resnet18.tv_in1k"."""

    levels: int = 3
    """Levels of the image pyramid, 1 to 4."""

    context: Literal["pyramid", "spp"] = "pyramid"
    """Context module: "pyramid", or "spp" (spatial pyramid pooling, with one level)."""

    width: int = 64
    """Channels of the upsampling path; 256 in the paper."""

    pretrained: bool = False
    """Initialise the backbone from timm's ImageNet weights (--backbone-weights FILE: from a file). They are downloaded
    once, and only if no other weights initialise the backbone."""

    longest_side: int | None = None
    """Longest side at prediction, pixels; larger images are downsized to it."""

    test_scale: float = 1.0
    """Resize factor at prediction; choose augmentation.scale around it."""

    representation: CenterRepresentation = field(default_factory=CenterRepresentation)
    """Targets, losses and post-processing."""

    relations: _Relations = None
    """PISR or a baseline between the features and second heads; relates the features to categories and instances."""

    instance_maps: _InstanceMaps = None
    """Instance maps from the centres, input of PISR; None for the defaults and the NMS window of post-processing."""


@dataclass(frozen=True)
class DenseDetectionsOptions(FactoryOptions):
    """Dense detections; see :func:`panscape.models.dense_detections`."""

    factory = "dense_detections"

    backbone: str = "residual_s"
    """Backbone: "residual_xs" or "residual_s" (small, never pretrained), or a timm model such as "resnet50.tv_in1k"."""

    towers: Literal[1, 2] = 2
    """Number of towers: 2 (localisation and semantics), or 1 shared tower as wide as the localisation tower."""

    levelness: bool = True
    """Predict levelness, the level whose box each pixel takes; without it, each object uses its best-fitting level."""

    box_width: int = 64
    """Channels of the localisation tower, a multiple of 8; 256 as published."""

    semantic_width: int = 48
    """Channels of the semantic tower, a multiple of 8; 128 as published."""

    fpn_width: int = 64
    """Channels of the feature pyramid; 256 as published."""

    tower_depth: int = 4
    """Layers of each tower."""

    initial_distance: float = 1.0
    """Initial distance from a location to each side of its box, pixels."""

    frozen_norm: bool = False
    """Freeze the backbone's norms, and the weights of its stem and first stage; for pretrained backbones."""

    compat: Literal["released"] | None = None
    """"released" to train on from the authors' weights: Caffe's input normalisation, frozen norms with epsilon 0."""

    pretrained: bool = False
    """Initialise the backbone from timm's ImageNet weights (--backbone-weights FILE: from a file). They are downloaded
    once, and only if no other weights initialise the backbone."""

    longest_side: int | None = None
    """Longest side at prediction, pixels; larger images are downsized to it."""

    test_scale: float = 1.0
    """Resize factor at prediction; choose augmentation.scale around it."""

    representation: DenseBoxRepresentation = field(default_factory=DenseBoxRepresentation)
    """Levels, targets, losses and post-processing."""


@dataclass(frozen=True)
class PanopticDeepLabOptions(FactoryOptions):
    """Panoptic-DeepLab; see :func:`panscape.models.panoptic_deeplab`."""

    factory = "panoptic_deeplab"

    backbone: str = "residual_s"
    """Backbone: "residual_xs" or "residual_s" (small, never pretrained), "resnet52" or "resnet103" (with DeepLab's
    stem), or a timm model such as "resnet50.tv_in1k"."""

    compat: Literal["detectron2", "standalone"] = "detectron2"
    """Published implementation to be compatible with; "standalone" is the older repository."""

    separable: bool = True
    """Use depthwise separable convolutions, as in the paper, instead of ordinary ones."""

    output_stride: Literal[16, 32] | None = None
    """Stride of the coarsest features: 16 (for ResNets and residual_*) or 32; None for 16, and 32 in the standalone
    form."""

    decoder_width: int = 64
    """Channels of the semantic decoder and its head; 256 as published."""

    instance_width: int = 32
    """Channels of the decoder of centres and offsets; 128 as published."""

    pyramid_width: int = 64
    """Channels of the ASPP branches; 256 as published."""

    head_width: int = 16
    """Channels of the heads of centres and offsets; 32 as published."""

    projections: tuple[int, ...] | None = None
    """Channels of the finer features in the semantic decoder, coarse to fine; None for 64 and 32, preceded by 128 with
    an output stride of 32."""

    instance_projections: tuple[int, ...] | None = None
    """Channels of the finer features in the decoder of centres and offsets; None for those of the semantic decoder, or
    half of them in the standalone form."""

    context_size: tuple[int, int] | None = None
    """Height and width of ASPP's average pooling, pixels; None for the published training crop of the label space, else
    the whole image."""

    size_divisibility: int | None = None
    """Pad images to multiples of this many pixels; None for the published value of the label space, 640 for COCO, else
    the backbone's last stride."""

    dropout: float | None = None
    """Dropout probability after ASPP; None for the published value, 0.1, or 0.5 in the standalone form."""

    pretrained: bool = False
    """Initialise the backbone from timm's ImageNet weights (--backbone-weights FILE: from a file). They are downloaded
    once, and only if no other weights initialise the backbone. "resnet52" and "resnet103" use Gluon's weights."""

    longest_side: int | None = None
    """Longest side at prediction, pixels; larger images are downsized to it."""

    test_scale: float = 1.0
    """Resize factor at prediction; choose augmentation.scale around it."""

    representation: CenterRepresentation = field(
        default_factory=lambda: CenterRepresentation(
            boundary_alphas=(), decoding=CenterDecoding(resize="outputs", beyond_top_k="above")
        )
    )
    """Targets, losses and post-processing."""

    relations: _Relations = None
    """PISR or a baseline between the decoders and second heads; relates the features to categories and instances."""

    instance_maps: _InstanceMaps = None
    """Instance maps from the centres, input of PISR; None for the defaults and the NMS window of post-processing."""
