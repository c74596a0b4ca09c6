"""Network options of recipes: those of each family of models, with small defaults and as command-line options."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields
from inspect import signature
from typing import Annotated, Any, ClassVar, cast

from tyro.conf import AvoidSubcommands

from panscape.labels import LabelSpace
from panscape.models import PanopticModel, create_model
from panscape.models.dense_detections import DenseDetectionsConfig
from panscape.models.maskformer import MaskFormerConfig
from panscape.models.panoptic_deeplab import PanopticDeepLabConfig
from panscape.models.panoptic_fpn import PUBLISHED as PANOPTIC_FPN
from panscape.models.panoptic_fpn import PanopticFPNConfig
from panscape.models.seamless import SeamlessConfig
from panscape.models.swiftnet import SwiftNetConfig
from panscape.models.upernet import UPerNetConfig
from panscape.models.upernet_semantic import UPerNetSemanticConfig
from panscape.models.yolo_panoptic import YoloPanopticConfig
from panscape.models.yolo_panoptic_light import LIGHT, YoloPanopticLightConfig
from panscape.nn.pisr import PISR
from panscape.nn.pisr_baselines import OCR, Concatenation, ElementwiseProduct
from panscape.nn.pisr_instances import CenterInstanceMaps
from panscape.representations.centers import CenterDecoding, CenterRepresentation
from panscape.representations.dense_boxes import DenseBoxRepresentation
from panscape.representations.masked_boxes import MaskedBoxRepresentation
from panscape.representations.queries import QueryRepresentation
from panscape.representations.regions import RegionRepresentation
from panscape.representations.semantic import SemanticRepresentation
from panscape.training.config import ModelOptions

RelationsPart = PISR | Concatenation | ElementwiseProduct | OCR
"""Modules between the features of a network and its second heads: PISR, or one of its baselines."""

# The recipe decides the type of the module, not an option: the command line has the options of the recipe's type, and
# none if the recipe has no module.
_Relations = Annotated[RelationsPart | None, AvoidSubcommands]
# Likewise of the two readings of the panoptic UPerNet.
_UPerNetRepresentation = Annotated[QueryRepresentation | CenterRepresentation, AvoidSubcommands]
_InstanceMaps = Annotated[CenterInstanceMaps | None, AvoidSubcommands]


class FactoryOptions(ModelOptions):
    """Options whose fields are the arguments of a factory of :mod:`panscape.models`.

    Attributes:
        backbone: Backbone: "residual_xs" or "residual_s" (small, never pretrained), or a timm model such as
            "resnet50.tv_in1k"; in Panoptic-DeepLab also "resnet52" or "resnet103", with DeepLab's stem.
        pretrained: Initialise the backbone from timm's ImageNet weights (--backbone-weights FILE: from a file). They
            are downloaded once, and only if no other weights initialise the backbone. "resnet52" and "resnet103" use
            Gluon's weights.
        longest_side: Longest side at prediction, pixels; larger images are downsized to it.
        test_scale: Resize factor at prediction; choose augmentation.scale around it.
        representation: Targets, losses and post-processing.
        relations: PISR or a baseline between the features and second heads; relates the features to categories and
            instances.
        instance_maps: Instance maps from the centres, input of PISR; None for the defaults and the NMS window of
            post-processing.
    """

    factory: ClassVar[str]
    """Name of the factory."""

    backbone: Any
    representation: Any

    def create(self, labels: LabelSpace) -> PanopticModel:
        """Build the network for a label space.

        Raises:
            PanscapeError: as :func:`panscape.models.create_model`.
        """
        options = {option.name: getattr(self, option.name) for option in fields(cast(Any, self))}
        return create_model(self.factory, labels, **options)


@dataclass(frozen=True, kw_only=True)
class SwiftNetOptions(FactoryOptions, SwiftNetConfig):
    """Panoptic SwiftNet; see :func:`panscape.models.swiftnet`."""

    factory = "swiftnet"

    backbone: str = "residual_s"
    width: int = 64
    representation: CenterRepresentation = field(default_factory=CenterRepresentation)
    relations: _Relations = None
    instance_maps: _InstanceMaps = None


@dataclass(frozen=True, kw_only=True)
class DenseDetectionsOptions(FactoryOptions, DenseDetectionsConfig):
    """Dense detections; see :func:`panscape.models.dense_detections`."""

    factory = "dense_detections"

    backbone: str = "residual_s"
    box_width: int = 64
    semantic_width: int = 48
    fpn_width: int = 64
    representation: DenseBoxRepresentation = field(default_factory=DenseBoxRepresentation)


@dataclass(frozen=True, kw_only=True)
class PanopticDeepLabOptions(FactoryOptions, PanopticDeepLabConfig):
    """Panoptic-DeepLab; see :func:`panscape.models.panoptic_deeplab`."""

    factory = "panoptic_deeplab"

    backbone: str = "residual_s"
    decoder_width: int = 64
    instance_width: int = 32
    pyramid_width: int = 64
    head_width: int = 16
    representation: CenterRepresentation = field(
        default_factory=lambda: CenterRepresentation(
            boundary_alphas=(), decoding=CenterDecoding(resize="outputs", compat="panoptic_deeplab")
        )
    )
    relations: _Relations = None
    instance_maps: _InstanceMaps = None


@dataclass(frozen=True, kw_only=True)
class SeamlessOptions(FactoryOptions, SeamlessConfig):
    """Seamless and the network for all scales; see :func:`panscape.models.seamless`."""

    factory = "seamless"

    backbone: str = "residual_s"
    width: int = 64
    representation: RegionRepresentation = field(default_factory=RegionRepresentation)


@dataclass(frozen=True, kw_only=True)
class PanopticFPNOptions(FactoryOptions, PanopticFPNConfig):
    """Panoptic FPN; see :func:`panscape.models.panoptic_fpn`."""

    factory = "panoptic_fpn"

    backbone: str = "residual_s"
    width: int = 64
    semantic_width: int = 32
    representation: RegionRepresentation = PANOPTIC_FPN
    relations: _Relations = None


@dataclass(frozen=True, kw_only=True)
class MaskFormerOptions(FactoryOptions, MaskFormerConfig):
    """MaskFormer; see :func:`panscape.models.maskformer`."""

    factory = "maskformer"

    backbone: str = "residual_s"
    encoder_layers: int = 1
    width: int = 64
    num_queries: int = 30
    decoder_layers: int = 3
    hidden_width: int = 256
    num_heads: int = 4
    dropout: float = 0.0
    representation: QueryRepresentation = field(default_factory=QueryRepresentation)
    relations: _Relations = None


@dataclass(frozen=True, kw_only=True)
class UPerNetOptions(FactoryOptions, UPerNetConfig):
    """The panoptic UPerNet; see :func:`panscape.models.upernet`."""

    factory = "upernet"

    backbone: str = "residual_s"
    decoder_width: int = 64
    width: int = 64
    num_queries: int = 30
    decoder_layers: int = 3
    hidden_width: int = 256
    num_heads: int = 4
    dropout: float = 0.0
    representation: _UPerNetRepresentation = field(default_factory=QueryRepresentation)
    relations: _Relations = None
    instance_maps: _InstanceMaps = None


@dataclass(frozen=True, kw_only=True)
class UPerNetSemanticOptions(FactoryOptions, UPerNetSemanticConfig):
    """The semantic UPerNet; see :func:`panscape.models.upernet_semantic`."""

    factory = "upernet_semantic"

    backbone: str = "residual_s"
    decoder_width: int = 64
    auxiliary_width: int = 32
    representation: SemanticRepresentation = field(default_factory=SemanticRepresentation)


@dataclass(frozen=True, kw_only=True)
class YoloPanopticOptions(FactoryOptions, YoloPanopticConfig):
    """YOLO-based panoptic segmentation; see :func:`panscape.models.yolo_panoptic`."""

    factory = "yolo_panoptic"

    backbone: str = "darknet_xs"
    pyramid_width: int = 64
    mask_width: int = 32
    representation: MaskedBoxRepresentation = field(default_factory=MaskedBoxRepresentation)


@dataclass(frozen=True, kw_only=True)
class YoloPanopticLightOptions(FactoryOptions, YoloPanopticLightConfig):
    """The light sibling of YOLO-based panoptic segmentation; see :func:`panscape.models.yolo_panoptic_light`."""

    factory = "yolo_panoptic_light"

    backbone: str = "residual_s"
    representation: MaskedBoxRepresentation = LIGHT


def options_of(model: PanopticModel) -> FactoryOptions | None:
    """Return the options of a model, also where it was created as a variant; None if its family has none here.

    Args:
        model: created by :func:`panscape.models.create_model`.
    """
    module = type(model).__module__
    kinds: tuple[Any, ...] = (
        SwiftNetOptions,
        DenseDetectionsOptions,
        PanopticDeepLabOptions,
        SeamlessOptions,
        PanopticFPNOptions,
        MaskFormerOptions,
        UPerNetOptions,
        UPerNetSemanticOptions,
        YoloPanopticOptions,
        YoloPanopticLightOptions,
    )
    kind = next((kind for kind in kinds if module == f"panscape.models.{kind.factory}"), None)
    if model.spec is None or kind is None:
        return None
    variant = signature(getattr(sys.modules[module], model.spec.name)).parameters
    options = {field.name: variant[field.name].default for field in fields(kind)} | dict(model.spec.options)
    if options["representation"] is None:
        del options["representation"]
    result: FactoryOptions = kind(**options)
    return result
