"""UPerNet: pyramid pooling on the coarsest features, an FPN, and a semantic segmentation from all levels together.

Tete Xiao, Yingcheng Liu, Bolei Zhou, Yuning Jiang, Jian Sun: Unified Perceptual Parsing for Scene Understanding. ECCV
2018. arXiv:1807.10221. The network is that of mmsegmentation, on which weights of Swin Transformers were published:
it predicts categories only, and an auxiliary head serves training. The panoptic readings are in ``models/upernet.py``.

It knows no objects. Its map has one segment for each category, see :mod:`panscape.representations.semantic`: use a
label space of stuff, such as :func:`panscape.datasets.ade20k.ade20k_labels` with "semantic". Deviations:

- Images are padded to multiples of 32 pixels; Swin Transformers of mmsegmentation pad within the network.
- The auxiliary head predicts in training only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from panscape.constraints import BelowOne, PositiveInt, check_fields
from panscape.geometry import ImageGeometry, padded_size
from panscape.labels import LabelSpace
from panscape.models.base import PanopticModel
from panscape.models.variants import ModelConfig, variant
from panscape.nn.backbones import STRIDES, Backbone
from panscape.nn.blocks import conv_norm_relu
from panscape.nn.upernet import UPerHead
from panscape.panoptic import PanopticMap
from panscape.representations.semantic import SemanticOutputs, SemanticRepresentation, SemanticTargets
from panscape.visualize import draw_semantic

_AUXILIARY_LEVEL = 2  # stride 16


class UPerNetSemantic(PanopticModel):
    """The semantic UPerNet.

    Args:
        labels: the label space; the head has one channel per category.
        backbone: features at strides 4 to 32.
        config: all other options.
    """

    representation: SemanticRepresentation

    def __init__(self, labels: LabelSpace, backbone: Backbone, config: UPerNetSemanticConfig) -> None:
        super().__init__(labels, STRIDES[-1], config.longest_side, config.test_scale)
        self.representation = config.representation or SemanticRepresentation()
        self.backbone = cast(nn.Module, backbone)
        self.decoder = UPerHead(backbone.channels, config.decoder_width)
        self.dropout = nn.Dropout2d(config.dropout)
        self.classifier = nn.Conv2d(config.decoder_width, len(labels), 1)
        self.auxiliary = conv_norm_relu(backbone.channels[_AUXILIARY_LEVEL], config.auxiliary_width, 3)
        self.auxiliary_classifier = nn.Conv2d(config.auxiliary_width, len(labels), 1)
        for classifier in (self.classifier, self.auxiliary_classifier):
            nn.init.normal_(classifier.weight, std=0.01)
            nn.init.zeros_(cast(Tensor, classifier.bias))

    def forward(self, images: Tensor) -> SemanticOutputs:
        """Map images, float [B, 3, H, W] in 0..1, to category logits at stride 4 of the padded size.

        Outputs of the auxiliary head, at stride 16, are there in training only (decision 0018).
        """
        features = self.backbone(self.preprocess(images))
        semantic = self.classifier(self.dropout(self.decoder(features).fine))
        if not self.training:
            return SemanticOutputs(semantic)
        auxiliary = self.auxiliary(features[_AUXILIARY_LEVEL])
        return SemanticOutputs(semantic, self.auxiliary_classifier(self.dropout(auxiliary)))

    def encode(self, truth: PanopticMap) -> SemanticTargets:
        """See :meth:`SemanticRepresentation.encode`."""
        return self.representation.encode(truth, self.labels, padded_size(truth.size, self.stride))

    def loss(self, outputs: SemanticOutputs, targets: SemanticTargets) -> dict[str, Tensor]:
        """See :meth:`SemanticRepresentation.loss`."""
        return self.representation.loss(outputs, targets)

    def decode(self, outputs: SemanticOutputs, sizes: Sequence[tuple[int, int]]) -> list[PanopticMap]:
        """See :meth:`SemanticRepresentation.decode`."""
        return self.postprocess(outputs, [ImageGeometry.of(size) for size in sizes])

    def postprocess(
        self, outputs: SemanticOutputs, geometries: Sequence[ImageGeometry], *, scored: bool = False
    ) -> list[PanopticMap]:
        """See :meth:`PanopticModel.postprocess`; logits are resized before the argmax, as published."""
        return self.representation.decode(outputs, self._with_padding(outputs, geometries), self.labels)

    def decode_semantic(self, outputs: SemanticOutputs, geometries: Sequence[ImageGeometry]) -> list[Tensor]:
        """See :meth:`PanopticModel.decode_semantic`."""
        return self.representation.decode_semantic(outputs, self._with_padding(outputs, geometries))

    def _with_padding(self, outputs: SemanticOutputs, geometries: Sequence[ImageGeometry]) -> list[ImageGeometry]:
        height, width = (STRIDES[0] * side for side in outputs.semantic.shape[-2:])
        return [geometry.padded_to((height, width)) for geometry in geometries]

    def visualize(self, outputs: SemanticOutputs, size: tuple[int, int]) -> dict[str, Tensor]:
        """Visualise the categories of one image, uint8 [3, H, W], under the name "semantic"."""
        outputs = SemanticOutputs(outputs.semantic.detach().cpu())
        (category,) = self.decode_semantic(outputs, [ImageGeometry.of(size)])
        return {"semantic": draw_semantic(category, self.labels)}

    @property
    def backbones(self) -> tuple[str, ...]:
        """The backbone, without the decoder."""
        return ("backbone",)

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the backbone, for a separate learning rate."""
        return self.backbone.parameters()


@dataclass(frozen=True, kw_only=True)
class UPerNetSemanticConfig(ModelConfig[UPerNetSemantic]):
    """Options of the semantic UPerNet; the widths are the published ones.

    Attributes:
        backbone: See :class:`~panscape.models.variants.ModelConfig`.
        decoder_width: Channels of the decoder.
        auxiliary_width: Channels of the auxiliary head.
        dropout: Dropout probability of whole channels before the classifiers.
        representation: Targets and losses; None for the published values.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    backbone: str | Backbone = "swin_tiny_patch4_window7_224.ms_in1k"
    decoder_width: PositiveInt = 512
    auxiliary_width: PositiveInt = 256
    dropout: BelowOne = 0.1
    representation: SemanticRepresentation | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def build(self, labels: LabelSpace) -> UPerNetSemantic:
        """See :meth:`ModelConfig.build`."""
        return UPerNetSemantic(labels, self.create_backbone(after_relu=True), self)


upernet_semantic = variant(
    "upernet_semantic", "Build the semantic UPerNet on any backbone; it knows no objects.", UPerNetSemanticConfig
)
upernet_semantic_swin_t = variant(
    "upernet_semantic_swin_t", "Build the published semantic network with Swin-T.", UPerNetSemanticConfig
)
upernet_semantic_swin_s = variant(
    "upernet_semantic_swin_s",
    "Build the published semantic network with Swin-S.",
    UPerNetSemanticConfig,
    backbone="swin_small_patch4_window7_224.ms_in1k",
)
upernet_semantic_swin_b = variant(
    "upernet_semantic_swin_b",
    "Build the published semantic network with Swin-B, from weights of ImageNet-22k.",
    UPerNetSemanticConfig,
    backbone="swin_base_patch4_window12_384.ms_in22k",
)
upernet_semantic_swin_l = variant(
    "upernet_semantic_swin_l",
    "Build the published semantic network with Swin-L, from weights of ImageNet-22k.",
    UPerNetSemanticConfig,
    backbone="swin_large_patch4_window12_384.ms_in22k",
)
