"""UPerNet for panoptic segmentation: its decoder with MaskFormer's queries, or with Panoptic-DeepLab's heads.

Tete Xiao, Yingcheng Liu, Bolei Zhou, Yuning Jiang, Jian Sun: Unified Perceptual Parsing for Scene Understanding. ECCV
2018. arXiv:1807.10221. UPerNet is a semantic segmentation, see ``models/upernet_semantic.py``; Borse et al., "Panoptic,
Instance and Semantic Relations" (CVPR 2022), use a panoptic one on Swin-L that they do not describe. It has two
readings here:

- Queries as in MaskFormer, on the features of stage 4, with masks on the 512 channels of UPerNet at stride 4 through a
  1x1 convolution: the default, since the paper's quality of things on COCO, 55.7, is near MaskFormer's 58.5 on the same
  backbone, and out of reach for centres and offsets.
- Centres and offsets, by which PISR defines objects: on the 512 channels, UPerNet's classifier and the
  heads of Panoptic-DeepLab, with its losses.

Relations are inserted between mask features and masks, as in MaskFormer (see ``models/pisr_queries.py``), on the 256
channels after the 1x1 convolution; with centres, between the decoder and the heads (see ``models/pisr.py``), on its 512
channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from panscape.constraints import PositiveInt
from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.models.base import PanopticModel
from panscape.models.center_model import CenterModel
from panscape.models.panoptic_deeplab_decoder import initialize_decoder, prediction_head
from panscape.models.pisr import refined_head, valid_cells
from panscape.models.query_model import QueryModel, QueryModelConfig
from panscape.models.variants import variant
from panscape.nn.backbones import STRIDES, Backbone
from panscape.nn.pisr_instances import CenterInstanceMaps
from panscape.nn.upernet import UPerHead
from panscape.representations.centers import CenterOutputs, CenterRepresentation
from panscape.representations.queries import QueryRepresentation


class UPerNetPanoptic(QueryModel):
    """The panoptic UPerNet with queries; see :class:`~panscape.models.query_model.QueryModel`."""


class UPerNetCenters(CenterModel):
    """The panoptic UPerNet with centres and offsets; see :class:`~panscape.models.center_model.CenterModel`.

    The widths of its heads have the proportions of Panoptic-DeepLab's.

    Args:
        labels: the label space.
        backbone: features at strides 4 to 32.
        representation: targets, losses and post-processing.
        config: all other options; those of queries are not used.

    Raises:
        InvalidArgumentError: the decoder has less than 16 channels, or the representation's ``loss_stride`` does not
            divide 4.
    """

    def __init__(
        self, labels: LabelSpace, backbone: Backbone, representation: CenterRepresentation, config: UPerNetConfig
    ) -> None:
        super().__init__(
            labels,
            representation,
            stride=STRIDES[-1],
            output_stride=STRIDES[0],
            longest_side=config.longest_side,
            test_scale=config.test_scale,
        )
        width = config.decoder_width
        if width < 16:
            raise InvalidArgumentError(f"expected a decoder_width of at least 16 with heads of centres, got {width}")
        self.backbone = cast(nn.Module, backbone)
        self.decoder = UPerHead(backbone.channels, width)
        self.semantic = _classifier(width, len(labels), config.dropout)
        self.center, self.offset = (_center_head(width, width, out) for out in (1, 2))
        self.relations = self.relate(config.relations, width, config.instance_maps)
        if self.relations is not None:
            of_semantic, of_instances = self.relations.semantic_width, self.relations.instance_width
            self.refined_semantic = refined_head(
                self.semantic, width, of_semantic, lambda n: _classifier(n, len(labels), config.dropout)
            )
            self.refined_center = refined_head(self.center, width, of_instances, lambda n: _center_head(n, width, 1))
            self.refined_offset = refined_head(self.offset, width, of_instances, lambda n: _center_head(n, width, 2))

    def forward(self, images: Tensor) -> CenterOutputs:
        """Map images, float [B, 3, H, W] in 0..1, to outputs at a quarter of the padded size.

        With relations, in training, they include the outputs of the first stage, to which the losses apply as well.
        """
        x = self.decoder(self.backbone(self.preprocess(images))).fine
        first = self.named(self.semantic(x), self.center(x), self.offset(x))
        if self.relations is None:
            return first
        valid = valid_cells((images.shape[2], images.shape[3]), x, self.output_stride)
        return self.second_stage(first, *self.relations(x, first, valid))

    @property
    def backbones(self) -> tuple[str, ...]:
        """The backbone, without the decoder."""
        return ("backbone",)

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the backbone, for a separate learning rate."""
        return self.backbone.parameters()


def _classifier(channels: int, num_categories: int, dropout: float) -> nn.Module:
    return nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(channels, num_categories, 1))


def _center_head(channels: int, width: int, num_outputs: int) -> nn.Module:
    head = prediction_head(channels, width // 4, width // 16, num_outputs, separable=False)
    return initialize_decoder(head, "detectron2")


@dataclass(frozen=True, kw_only=True)
class UPerNetConfig(QueryModelConfig[PanopticModel]):
    """Options of the panoptic UPerNet; those of queries are MaskFormer's.

    Attributes:
        backbone: See :class:`~panscape.models.variants.ModelConfig`.
        decoder_width: Channels of the decoder.
        representation: Targets, losses and post-processing, which decides on the reading: a
            :class:`~panscape.representations.queries.QueryRepresentation`, or a
            :class:`~panscape.representations.centers.CenterRepresentation` for centres and offsets, whose network does
            not use the options of queries. None for queries with the values of MaskFormer.
        instance_maps: Options of the relations' instance heatmaps, with centres and offsets; None for the defaults,
            with the NMS window of post-processing.

    Raises:
        InvalidArgumentError: a value is out of range, the width is not a multiple of 4 and of the heads, the decoder
            has too few channels for heads of centres, or instance maps are given with queries.
    """

    backbone: str | Backbone = "swin_tiny_patch4_window7_224.ms_in1k"
    decoder_width: PositiveInt = 512
    representation: QueryRepresentation | CenterRepresentation | None = None
    instance_maps: CenterInstanceMaps | None = None

    def build(self, labels: LabelSpace) -> PanopticModel:
        """See :meth:`ModelConfig.build`."""
        backbone = self.create_backbone(after_relu=True)
        if isinstance(self.representation, CenterRepresentation):
            return UPerNetCenters(labels, backbone, self.representation, self)
        if self.instance_maps is not None:
            raise InvalidArgumentError(
                "expected instance_maps only with centres, got them with queries; leave instance_maps None"
            )
        decoder = UPerHead(backbone.channels, self.decoder_width)
        return UPerNetPanoptic(labels, backbone, decoder, self.representation, self, mask_kernel=1)


upernet = variant("upernet", "Build the panoptic UPerNet on any backbone.", UPerNetConfig)
upernet_swin_t = variant("upernet_swin_t", "Build the panoptic UPerNet with Swin-T.", UPerNetConfig)
upernet_swin_s = variant(
    "upernet_swin_s",
    "Build the panoptic UPerNet with Swin-S.",
    UPerNetConfig,
    backbone="swin_small_patch4_window7_224.ms_in1k",
)
upernet_swin_b = variant(
    "upernet_swin_b",
    "Build the panoptic UPerNet with Swin-B, from weights of ImageNet-22k.",
    UPerNetConfig,
    backbone="swin_base_patch4_window12_384.ms_in22k",
)
upernet_swin_l = variant(
    "upernet_swin_l",
    "Build the panoptic UPerNet with Swin-L, from weights of ImageNet-22k.",
    UPerNetConfig,
    backbone="swin_large_patch4_window12_384.ms_in22k",
)
