"""UPerNet for panoptic segmentation: its decoder as the pixel decoder of MaskFormer.

Tete Xiao, Yingcheng Liu, Bolei Zhou, Yuning Jiang, Jian Sun: Unified Perceptual Parsing for Scene Understanding. ECCV
2018. arXiv:1807.10221. UPerNet is a semantic segmentation, see ``nn/upernet.py``; Borse et al., "Panoptic, Instance and
Semantic Relations" (CVPR 2022), use a panoptic one on Swin-L that they do not describe.

This is a reading of it: queries as in MaskFormer, on the features of stage 4, with masks on the 512 channels of UPerNet
at stride 4 through a 1x1 convolution. The paper's quality of things on COCO, 55.7, is near MaskFormer's 58.5 on the
same backbone, and out of reach for centres and offsets. Relations are inserted between mask features and masks, as in
MaskFormer (see ``models/pisr_queries.py``), on the 256 channels after the 1x1 convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

from panscape.constraints import PositiveInt
from panscape.labels import LabelSpace
from panscape.models.query_model import QueryModel, QueryModelConfig
from panscape.models.variants import variant
from panscape.nn.backbones import Backbone
from panscape.nn.upernet import UPerHead


class UPerNetPanoptic(QueryModel):
    """The panoptic UPerNet; see :class:`~panscape.models.query_model.QueryModel`."""


@dataclass(frozen=True, kw_only=True)
class UPerNetConfig(QueryModelConfig[UPerNetPanoptic]):
    """Options of the panoptic UPerNet; those of queries are MaskFormer's.

    Attributes:
        backbone: See :class:`~panscape.models.variants.ModelConfig`.
        decoder_width: Channels of the decoder.

    Raises:
        InvalidArgumentError: a value is out of range, or the width is not a multiple of 4 and of the heads.
    """

    backbone: str | Backbone = "swin_tiny_patch4_window7_224.ms_in1k"
    decoder_width: PositiveInt = 512

    def build(self, labels: LabelSpace) -> UPerNetPanoptic:
        """See :meth:`ModelConfig.build`."""
        backbone = self.create_backbone(after_relu=True)
        decoder = UPerHead(backbone.channels, self.decoder_width)
        return UPerNetPanoptic(labels, backbone, decoder, self, mask_kernel=1)


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
