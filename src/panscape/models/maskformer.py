"""MaskFormer: queries, each of which predicts a category and a mask.

Bowen Cheng, Alexander Schwing, Alexander Kirillov: Per-Pixel Classification is Not All You Need for Semantic
Segmentation. NeurIPS 2021. arXiv:2107.06278.

The networks are the panoptic ones of the released code, whose weights work here: on ResNets, with a transformer encoder
of six layers in the pixel decoder; on Swin Transformers, without. Deviations:

- Images are padded to multiples of 32 pixels; the released code does not pad the images of COCO.
- Earlier decoder layers predict in training only, for the auxiliary losses.
- Relations can be inserted between mask features and masks (see ``models/pisr_queries.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

from panscape.constraints import NonNegativeInt
from panscape.labels import LabelSpace
from panscape.models.query_model import QueryModel, QueryModelConfig
from panscape.models.variants import variant
from panscape.nn.backbones import Backbone
from panscape.nn.frozen_batch_norm import freeze_batch_norms
from panscape.nn.pixel_decoder import FPNPixelDecoder
from panscape.representations.queries import QueryRepresentation


class MaskFormer(QueryModel):
    """The MaskFormer model; see :class:`~panscape.models.query_model.QueryModel`."""


@dataclass(frozen=True, kw_only=True)
class MaskFormerConfig(QueryModelConfig[MaskFormer]):
    """Options of MaskFormer; the widths and numbers are the published ones.

    Attributes:
        backbone: See :class:`~panscape.models.variants.ModelConfig`.
        encoder_layers: Layers of the transformer encoder in the pixel decoder; 0 for none.
        frozen_norm: Freeze the BatchNorm of the backbone, as published for training from ImageNet weights. Without
            these weights, frozen norms do not normalise.
        representation: Targets, losses and post-processing; None for the published values for the label space.

    Raises:
        InvalidArgumentError: a value is out of range, or the width is not a multiple of 4 and of the heads.
    """

    backbone: str | Backbone = "resnet50.tv_in1k"
    encoder_layers: NonNegativeInt = 6
    frozen_norm: bool = False
    representation: QueryRepresentation | None = None

    def build(self, labels: LabelSpace) -> MaskFormer:
        """See :meth:`ModelConfig.build`."""
        backbone = self.create_backbone(after_relu=True)
        decoder = FPNPixelDecoder(
            backbone.channels,
            self.width,
            self.encoder_layers,
            hidden=self.hidden_width,
            dropout=self.dropout,
            num_heads=self.num_heads,
        )
        model = MaskFormer(labels, backbone, decoder, self.representation, self)
        if self.frozen_norm:
            freeze_batch_norms(model.backbone)
        return model


maskformer = variant("maskformer", "Build MaskFormer on any backbone.", MaskFormerConfig)
maskformer_r50 = variant(
    "maskformer_r50", "Build the published network with ResNet-50.", MaskFormerConfig, frozen_norm=True
)
maskformer_r101 = variant(
    "maskformer_r101",
    "Build the published network with ResNet-101.",
    MaskFormerConfig,
    backbone="resnet101.tv_in1k",
    frozen_norm=True,
)
maskformer_swin_t = variant(
    "maskformer_swin_t",
    "Build the published network with Swin-T.",
    MaskFormerConfig,
    backbone="swin_tiny_patch4_window7_224.ms_in1k",
    encoder_layers=0,
)
maskformer_swin_s = variant(
    "maskformer_swin_s",
    "Build the published network with Swin-S.",
    MaskFormerConfig,
    backbone="swin_small_patch4_window7_224.ms_in1k",
    encoder_layers=0,
)
maskformer_swin_b = variant(
    "maskformer_swin_b",
    "Build the published network with Swin-B, from weights of ImageNet-22k.",
    MaskFormerConfig,
    backbone="swin_base_patch4_window12_384.ms_in22k",
    encoder_layers=0,
)
maskformer_swin_l = variant(
    "maskformer_swin_l",
    "Build the published network with Swin-L, from weights of ImageNet-22k.",
    MaskFormerConfig,
    backbone="swin_large_patch4_window12_384.ms_in22k",
    encoder_layers=0,
)
