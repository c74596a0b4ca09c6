"""Panoptic-DeepLab: a simple, strong, and fast baseline for bottom-up panoptic segmentation.

Bowen Cheng, Maxwell D. Collins, Yukun Zhu, Ting Liu, Thomas S. Huang, Hartwig Adam, Liang-Chieh Chen. CVPR 2020.
arXiv:1911.10194.

One backbone; two decoders, each with an ASPP of its own; three heads, which predict category, object centre and offset
to the centre. Bottom-up: no boxes, no regions.

Two published implementations differ; ``compat`` selects one, so that the weights of either work here:

- "detectron2", the first author's project in detectron2, which later work builds on and compares with: features at
  stride 16, the last stage dilated; in the ASPP, separable convolutions with dilations 6, 12, 18; features of strides 8
  and 4 enter through projections of 64 and 32 channels (the paper: 32 and 16 for objects); the head of centres has two
  ordinary convolutions. ``separable=False`` is its variant with ordinary convolutions throughout.
- "standalone", the older repository of the same author: features at stride 32, ordinary convolutions with dilations 3,
  6, 9, one more projection (128, 64, 32 channels, and half as many for objects), all heads separable, momentum 0.01 in
  all norms, aligned corners in all upsampling. This requires sides of a multiple of 32 plus one; the network adds that
  pixel itself, at the right and at the bottom.

Where this differs from both:

- Image pooling in the ASPP: detectron2's window has the training crop's size, also for larger images, and only
  multiples of that work. Here any size works, as the window is clipped to the map.
- Centres round half to even, as in detectron2; the older repository rounds down.
- Images are padded to multiples of the backbone's stride; detectron2 pads to the largest of the batch. On COCO both
  pad to multiples of 640 (``size_divisibility``).
- If the inference size differs from the image's size, offsets are scaled with the map; detectron2 does not scale them
  (``CenterDecoding(compat="detectron2")``).
- In the standalone form, the offset loss has half the weight instead of twice the divisor.
- HRNet-W48 follows the authors' configuration for detectron2: its four branches, dilations 3, 6, 9 at stride 32,
  projections of 128, 64 and 32 channels. Its layers and those of MobileNetV2 are timm's.
- Any timm backbone, and any width, can replace the published ones; backbones with a last stride of 32 have three
  projections in either form.
- Relations can be inserted between decoders and heads (see ``models/pisr.py``): their input are the features of both
  decoders, concatenated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.constraints import BelowOne, PositiveInt, check_fields
from panscape.errors import InvalidArgumentError
from panscape.geometry import round_up
from panscape.labels import LabelSpace
from panscape.models.center_model import CenterModel, CenterModelConfig
from panscape.models.panoptic_deeplab_decoder import DeepLabDecoder, initialize_decoder, prediction_head
from panscape.models.pisr import refined_head, valid_cells
from panscape.models.variants import variant
from panscape.nn.aspp import ASPP
from panscape.nn.backbones import Backbone
from panscape.representations.centers import CenterDecoding, CenterOutputs, CenterRepresentation

_OUTPUT_STRIDE = 4
_RATES = {16: (6, 12, 18), 32: (3, 6, 9)}  # dilations of the ASPP, by the stride of its features
_PROJECTIONS = (128, 64, 32)  # channels for features at strides 16, 8 and 4

_DECODING = CenterDecoding(resize="outputs", compat="panoptic_deeplab")
_REPRESENTATION = CenterRepresentation(boundary_alphas=(), decoding=_DECODING)
# Settings of the released configurations, by label space.
PUBLISHED: Mapping[str, CenterRepresentation] = {
    "cityscapes": replace(_REPRESENTATION, hard_pixel_fraction=0.2),
    "coco_panoptic": replace(_REPRESENTATION, sigma=8, decoding=replace(_DECODING, nms_kernel=41, stuff_area=4096)),
}
# Sizes of the training crops, which are the windows of image pooling in the released configurations.
_CONTEXT_SIZES = {"cityscapes": (512, 1024), "coco_panoptic": (640, 640)}
# The released configuration for COCO pads every image to multiples of this, so that the window is the whole map.
_SIZE_DIVISIBILITY = {"coco_panoptic": 640}


class PanopticDeepLab(CenterModel):
    """The Panoptic-DeepLab model.

    Args:
        labels: the label space; the semantic head has one channel per category.
        backbone: features at strides 4 to 16 or 32, after the last ReLU of their stage.
        config: all other options.

    Raises:
        InvalidArgumentError: the representation's ``loss_stride`` does not divide 4 or, in the standalone form, is not
            1; the backbone's last stride is not 16 or 32, or does not divide ``size_divisibility``; or the number of
            projections differs from the number of features finer than the coarsest.
    """

    def __init__(self, labels: LabelSpace, backbone: Backbone, config: PanopticDeepLabConfig) -> None:
        stride = backbone.strides[-1]
        super().__init__(
            labels,
            config.representation or config.published(labels),
            stride=config.padding_stride(labels, stride),
            output_stride=_OUTPUT_STRIDE,
            longest_side=config.longest_side,
            test_scale=config.test_scale,
        )
        self.compat = config.compat
        if config.is_standalone and self.representation.loss_stride != 1:
            raise InvalidArgumentError(
                "expected a representation with loss_stride=1 in the standalone form, whose sides are one more than a "
                f"multiple of {stride}, got {self.representation.loss_stride}"
            )
        if stride not in _RATES:
            raise InvalidArgumentError(f"expected a backbone whose last stride is 16 or 32, got {stride}")
        self.backbone = cast(nn.Module, backbone)
        of_semantic, of_instances = config.decoder_width, config.instance_width
        skips = [stage for stage in (2, 1, 0) if backbone.strides[stage] < stride]
        semantic_projections, instance_projections = config.projection_widths([backbone.strides[i] for i in skips])
        window = config.pooling_window(labels, stride)
        self.semantic_decoder = _decoder(backbone, skips, semantic_projections, of_semantic, window, config)
        self.instance_decoder = _decoder(backbone, skips, instance_projections, of_instances, window, config)
        self.semantic = self._head("semantic", of_semantic, config)
        self.center = self._head("center", of_instances, config)
        self.offset = self._head("offset", of_instances, config)
        for module in (self.semantic_decoder, self.instance_decoder, self.semantic, self.center, self.offset):
            initialize_decoder(module, config.compat)
        self.relations = self.relate(
            config.relations, of_semantic + of_instances, config.instance_maps, semantic_channels=of_semantic
        )
        if self.relations is not None:
            self.refined_semantic = self._refined("semantic", of_semantic, self.relations.semantic_width, config)
            self.refined_center = self._refined("center", of_instances, self.relations.instance_width, config)
            self.refined_offset = self._refined("offset", of_instances, self.relations.instance_width, config)
        if config.is_standalone:
            for norm in (m for m in self.modules() if isinstance(m, nn.BatchNorm2d)):
                norm.momentum = 0.01

    def _head(self, name: str, in_channels: int, config: PanopticDeepLabConfig) -> nn.Sequential:
        """Return the head "semantic", "center" or "offset" with its initial weights of PyTorch."""
        if name == "semantic":
            return prediction_head(
                in_channels, config.decoder_width, config.decoder_width, len(self.labels), config.separable
            )
        separable = config.separable and (name == "offset" or config.is_standalone)
        return prediction_head(
            in_channels, config.instance_width, config.head_width, 1 if name == "center" else 2, separable
        )

    def _refined(self, name: str, channels: int, width: int, config: PanopticDeepLabConfig) -> nn.Module:
        """Return the second stage's head with ``width`` input channels; the first stage's has ``channels``."""
        first = self.get_submodule(name)
        return refined_head(
            first, channels, width, lambda n: initialize_decoder(self._head(name, n, config), config.compat)
        )

    def forward(self, images: Tensor) -> CenterOutputs:
        """Map images, float [B, 3, H, W] in 0..1, to outputs at a quarter of the padded size.

        With relations, in training, they include the outputs of the first stage, to which the losses apply as well.
        """
        normalized = self.preprocess(images)
        size = (images.shape[-2], images.shape[-1])
        features = self.backbone(self._padded(normalized, size))
        of_semantic, of_instances = self.semantic_decoder(features), self.instance_decoder(features)
        first = self.named(self.semantic(of_semantic), self.center(of_instances), self.offset(of_instances))
        if self.relations is None:
            return first
        both = torch.cat([of_semantic, of_instances], dim=1)
        valid = valid_cells(size, both, _OUTPUT_STRIDE)
        return self.second_stage(first, *self.relations(both, first, valid))

    def padded_size(self, outputs: CenterOutputs) -> tuple[int, int]:
        """Return the height and width of the padded input of these outputs."""
        if self.compat == "detectron2":
            return super().padded_size(outputs)
        height, width = outputs.semantic.shape[-2:]
        return (height - 1) * _OUTPUT_STRIDE + 1, (width - 1) * _OUTPUT_STRIDE + 1

    def _padded(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Pad preprocessed images to one pixel more than a multiple of the stride, if the form requires it.

        Cells then lie on the pixels 0, 4, 8 and so on, the first and the last of them in the corners, as aligned
        corners assume.
        """
        if self.compat == "detectron2":
            return images
        rows, columns = (round_up(side - 1, self.stride) + 1 for side in size)
        return F.pad(images, (0, columns - images.shape[-1], 0, rows - images.shape[-2]))

    @property
    def backbones(self) -> tuple[str, ...]:
        """The backbone, without the decoders."""
        return ("backbone",)

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the backbone, for a separate learning rate."""
        return self.backbone.parameters()


def _decoder(
    backbone: Backbone,
    skips: Sequence[int],
    projections: Sequence[int],
    width: int,
    window: tuple[int, int] | None,
    config: PanopticDeepLabConfig,
) -> DeepLabDecoder:
    pyramid = ASPP(
        backbone.channels[-1],
        config.pyramid_width,
        _RATES[backbone.strides[-1]],
        separable=config.separable and not config.is_standalone,
        window=window,
        window_bias=not config.is_standalone,
        align_corners=config.is_standalone,
        dropout=config.dropout_prob,
    )
    return DeepLabDecoder(
        backbone.channels,
        skips,
        projections,
        pyramid,
        pyramid_width=config.pyramid_width,
        width=width,
        separable=config.separable,
        skip_first=not config.is_standalone,
        align_corners=config.is_standalone,
    )


@dataclass(frozen=True, kw_only=True)
class PanopticDeepLabConfig(CenterModelConfig[PanopticDeepLab]):
    """Options of Panoptic-DeepLab; the widths are the published ones.

    Attributes:
        backbone: See :class:`~panscape.models.variants.ModelConfig`; a module has features after the last ReLU of
            their stage.
        compat: The published implementation to be compatible with: "detectron2", or "standalone" for the older
            repository.
        separable: Use separable convolutions, as in the paper; otherwise ordinary ones. In the standalone form, those
            of the ASPP are ordinary either way.
        output_stride: Stride of the coarsest features: 16, for ResNets and ours, or 32. None for 16 in detectron2's
            form and 32 in the standalone form, or for that of a module.
        decoder_width: Channels of the semantic decoder and its head; 256 as published.
        instance_width: Channels of the decoder of centres and offsets; 128 as published.
        pyramid_width: Channels of the ASPP's branches, in both decoders; 256 as published.
        head_width: Channels of the heads of centres and offsets; 32 as published.
        projections: Channels of the finer features in the semantic decoder, coarse to fine, one for each; None for the
            last of 128, 64 and 32.
        instance_projections: The same in the other decoder; None for as many, or half as many in the standalone form.
        context_size: Height and width of the window of image pooling, pixels; None for the published training crop of
            the label space in detectron2's form, and otherwise for the whole image.
        size_divisibility: Images are padded to multiples of this many pixels, at the right and at the bottom, with the
            mean colour, in training and inference; a multiple of the backbone's last stride. None for the published
            value of the label space in detectron2's form (640 for COCO), and otherwise for that stride.
        dropout: Dropout probability after the ASPP; None for 0.1, or 0.5 in the standalone form.

    Raises:
        InvalidArgumentError: the form is unknown, or a width, the dropout or the context size is out of range.
    """

    backbone: str | Backbone = "resnet52"
    compat: Literal["detectron2", "standalone"] = "detectron2"
    separable: bool = True
    output_stride: Literal[16, 32] | None = None
    decoder_width: PositiveInt = 256
    instance_width: PositiveInt = 128
    pyramid_width: PositiveInt = 256
    head_width: PositiveInt = 32
    projections: tuple[int, ...] | None = None
    instance_projections: tuple[int, ...] | None = None
    context_size: tuple[PositiveInt, PositiveInt] | None = None
    size_divisibility: int | None = None
    dropout: BelowOne | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def is_standalone(self) -> bool:
        """Whether the network follows the older repository."""
        return self.compat == "standalone"

    @property
    def dropout_prob(self) -> float:
        """Dropout probability after the ASPP."""
        return self.dropout if self.dropout is not None else 0.5 if self.is_standalone else 0.1

    def projection_widths(self, strides: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the channels of the projections of both decoders for features at these strides, coarse to fine.

        Raises:
            InvalidArgumentError: there are more or fewer projections than strides, or one has no channel.
        """
        semantic = _PROJECTIONS[-len(strides) :] if self.projections is None else self.projections
        instance = self.instance_projections
        if instance is None:
            instance = tuple(max(p // 2, 1) for p in semantic) if self.is_standalone else semantic
        if min((*semantic, *instance), default=1) < 1:
            raise InvalidArgumentError(f"expected projections of at least 1 channel, got {semantic} and {instance}")
        if not len(semantic) == len(instance) == len(strides):
            raise InvalidArgumentError(
                f"expected {len(strides)} projections in each decoder, for features at strides {list(strides)}, got "
                f"{semantic} and {instance}"
            )
        return semantic, instance

    def pooling_window(self, labels: LabelSpace, stride: int) -> tuple[int, int] | None:
        """Return height and width of the window of image pooling in cells of ``stride``; None for the whole map."""
        published = None if self.is_standalone else _CONTEXT_SIZES.get(labels.name)
        size = self.context_size or published
        return None if size is None else (-(-size[0] // stride), -(-size[1] // stride))

    def padding_stride(self, labels: LabelSpace, stride: int) -> int:
        """Return what the sides of padded images are multiples of, in pixels.

        Raises:
            InvalidArgumentError: ``size_divisibility`` is not a multiple of the backbone's last stride.
        """
        if self.size_divisibility is None:
            return stride if self.is_standalone else _SIZE_DIVISIBILITY.get(labels.name, stride)
        if self.size_divisibility < 1 or self.size_divisibility % stride:
            raise InvalidArgumentError(
                f"expected size_divisibility as a multiple of the backbone's last stride {stride}, got "
                f"{self.size_divisibility}"
            )
        return self.size_divisibility

    def published(self, labels: LabelSpace) -> CenterRepresentation:
        """See :meth:`CenterModelConfig.published`; the standalone form aligns corners throughout."""
        published = PUBLISHED.get(labels.name, _REPRESENTATION)
        if not self.is_standalone:
            return published
        decoding = replace(published.decoding, align_corners=True)
        return replace(published, offset_loss_weight=0.005, compat="standalone", decoding=decoding)

    def build(self, labels: LabelSpace) -> PanopticDeepLab:
        """See :meth:`ModelConfig.build`."""
        wanted = self.output_stride or (32 if self.is_standalone else 16)
        backbone = self.create_backbone(after_relu=True, output_stride=wanted)
        if self.output_stride not in (None, backbone.strides[-1]):
            raise InvalidArgumentError(
                f"expected the output_stride of the backbone, {backbone.strides[-1]}, or none, got {self.output_stride}"
            )
        return PanopticDeepLab(labels, backbone, self)


panoptic_deeplab = variant("panoptic_deeplab", "Build Panoptic-DeepLab on any backbone.", PanopticDeepLabConfig)
panoptic_deeplab_r50 = variant(
    "panoptic_deeplab_r50",
    "Build the network on ResNet-50 with its own stem: in detectron2's form, or in that of the older repository.",
    PanopticDeepLabConfig,
    backbone="resnet50.tv_in1k",
)
panoptic_deeplab_r52 = variant(
    "panoptic_deeplab_r52",
    """Build the network that detectron2 calls R-52: ResNet-50 with DeepLab's stem, features at stride 16.

    It is the base network of PISR.
    """,
    PanopticDeepLabConfig,
    backbone="resnet52",
)
panoptic_deeplab_r101 = variant(
    "panoptic_deeplab_r101",
    "Build the network on ResNet-101 with DeepLab's stem, which detectron2 calls R-103.",
    PanopticDeepLabConfig,
    backbone="resnet103",
)
panoptic_deeplab_hrnet48 = variant(
    "panoptic_deeplab_hrnet48",
    "Build the network on HRNet-W48, whose four branches have strides 4 to 32.",
    PanopticDeepLabConfig,
    backbone="hrnet_w48.ms_in1k",
    output_stride=32,
)
panoptic_deeplab_mobilenetv2 = variant(
    "panoptic_deeplab_mobilenetv2",
    "Build the network on MobileNetV2, which only the older repository has; its form is therefore the default.",
    PanopticDeepLabConfig,
    backbone="mobilenetv2_100.ra_in1k",
    compat="standalone",
    output_stride=32,
)
