"""Panoptic-DeepLab: a simple, strong, and fast baseline for bottom-up panoptic segmentation.

Bowen Cheng, Maxwell D. Collins, Yukun Zhu, Ting Liu, Thomas S. Huang, Hartwig Adam, Liang-Chieh Chen. CVPR 2020.
arXiv:1911.10194.

One backbone; two decoders, each with an ASPP of its own; three heads, which predict category, object centre and offset
to the centre. Bottom-up: no boxes, no regions.

Two published implementations differ; ``form`` selects one, so that the weights of either work here:

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
  (``CenterDecoding(resize="outputs_unscaled")``).
- In the standalone form, the offset loss has half the weight instead of twice the divisor.
- HRNet-W48 follows the authors' configuration for detectron2: its four branches, dilations 3, 6, 9 at stride 32,
  projections of 128, 64 and 32 channels. Its layers and those of MobileNetV2 are timm's.
- Any timm backbone, and any width, can replace the published ones; backbones with a last stride of 32 have three
  projections in either form.
- Relations can be inserted between decoders and heads (see ``models/pisr.py``): their input are the features of both
  decoders, concatenated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.models.panoptic_deeplab_network import PanopticDeepLab
from panscape.nn.backbones import Backbone, create_backbone
from panscape.nn.pisr import Relations
from panscape.nn.pisr_instances import CenterInstanceMaps
from panscape.representations.centers import CenterDecoding, CenterRepresentation

_PROJECTIONS = (128, 64, 32)  # channels for features at strides 16, 8 and 4

_DECODING = CenterDecoding(resize="outputs", beyond_top_k="above")
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


def panoptic_deeplab(
    labels: LabelSpace,
    backbone: str | Backbone = "resnet52",
    *,
    form: Literal["detectron2", "standalone"] = "detectron2",
    separable: bool = True,
    output_stride: Literal[16, 32] | None = None,
    decoder_width: int = 256,
    instance_width: int = 128,
    pyramid_width: int = 256,
    head_width: int = 32,
    projections: tuple[int, ...] | None = None,
    instance_projections: tuple[int, ...] | None = None,
    context_size: tuple[int, int] | None = None,
    size_divisibility: int | None = None,
    dropout: float | None = None,
    relations: Relations | None = None,
    instance_maps: CenterInstanceMaps | None = None,
    pretrained: bool = False,
    representation: CenterRepresentation | None = None,
    longest_side: int | None = None,
    test_scale: float = 1.0,
) -> PanopticDeepLab:
    """Build Panoptic-DeepLab on any backbone.

    Args:
        labels: the label space.
        backbone: a name for :func:`~panscape.nn.backbones.create_backbone`, or a module that implements its protocol,
            with features after the last ReLU of their stage.
        form: the published implementation to follow, "detectron2" or "standalone"; see the top of this module.
        separable: use separable convolutions, as in the paper; otherwise ordinary ones.
        output_stride: stride of the coarsest features: 16, for ResNets and ours, or 32. By default 16 in detectron2's
            form and 32 in the standalone form; for a module, its own.
        decoder_width: channels of the semantic decoder and its head.
        instance_width: channels of the decoder of centres and offsets.
        pyramid_width: channels of the ASPP's branches.
        head_width: channels of the heads of centres and offsets.
        projections: channels of the finer features in the semantic decoder, coarse to fine, one for each; by default
            the last of 128, 64 and 32.
        instance_projections: the same in the other decoder; by default as many, in the standalone form half as many.
        context_size: height and width in pixels of the window of image pooling; by default, in detectron2's form, the
            published training crop of the label space, and otherwise the whole image.
        size_divisibility: images are padded to multiples of this many pixels, at the right and at the bottom, with the
            mean colour, in training and inference; a multiple of the backbone's last stride. By default, in
            detectron2's form, the published value of the label space (640 for COCO), and otherwise that stride.
        dropout: dropout probability after the ASPP; by default 0.1, in the standalone form 0.5.
        relations: relations that add the context of categories and objects to the features, for example ``PISR()``;
            None for the published network.
        instance_maps: options of the relations' instance heatmaps; None for the defaults, with the NMS window of
            post-processing.
        pretrained: initialise the backbone with timm's ImageNet weights.
        representation: targets, losses and post-processing; by default the published values for the label space.
        longest_side: maximum side of images in inference; larger ones are downscaled.
        test_scale: factor by which images are resized in inference.

    Raises:
        InvalidArgumentError: an argument has an invalid value, or the backbone lacks a stride.
        UnknownNameError: no backbone has this name.
    """
    if form not in ("detectron2", "standalone"):
        raise InvalidArgumentError(f'expected form "detectron2" or "standalone", got {form!r}')
    is_standalone = form == "standalone"
    widths = {
        "decoder_width": decoder_width,
        "instance_width": instance_width,
        "pyramid_width": pyramid_width,
        "head_width": head_width,
    }
    for name, width in widths.items():
        if width < 1:
            raise InvalidArgumentError(f"expected a {name} of at least 1 channel, got {width}")
    dropout = (0.5 if is_standalone else 0.1) if dropout is None else dropout
    if not 0 <= dropout < 1:
        raise InvalidArgumentError(f"expected a dropout of 0 or more and below 1, got {dropout}")
    if context_size is not None and (len(context_size) != 2 or min(context_size) < 1):
        raise InvalidArgumentError(f"expected a context_size of two sides, of at least 1x1 pixels, got {context_size}")
    if isinstance(backbone, str):
        wanted = output_stride or (32 if is_standalone else 16)
        backbone = create_backbone(backbone, pretrained=pretrained, after_relu=True, output_stride=wanted)
    elif output_stride not in (None, backbone.strides[-1]):
        raise InvalidArgumentError(
            f"expected the output_stride of the backbone, {backbone.strides[-1]}, or none, got {output_stride}"
        )
    if size_divisibility is not None and (size_divisibility < 1 or size_divisibility % backbone.strides[-1]):
        raise InvalidArgumentError(
            f"expected size_divisibility as a multiple of the backbone's last stride {backbone.strides[-1]}, got "
            f"{size_divisibility}"
        )
    num_skips = sum(stride < backbone.strides[-1] for stride in backbone.strides)
    if projections is None:
        projections = _PROJECTIONS[-num_skips:]
    if instance_projections is None:
        instance_projections = tuple(max(p // 2, 1) for p in projections) if is_standalone else projections
    if min((*projections, *instance_projections), default=1) < 1:
        raise InvalidArgumentError(
            f"expected projections of at least 1 channel, got {projections} and {instance_projections}"
        )
    if context_size is None and not is_standalone:
        context_size = _CONTEXT_SIZES.get(labels.name)
    if size_divisibility is None and not is_standalone:
        size_divisibility = _SIZE_DIVISIBILITY.get(labels.name)
    return PanopticDeepLab(
        labels,
        backbone,
        form=form,
        separable=separable,
        **widths,
        projections=projections,
        instance_projections=instance_projections,
        context_size=context_size,
        size_divisibility=size_divisibility,
        dropout=dropout,
        representation=representation or _published(labels, is_standalone),
        relations=relations,
        instance_maps=instance_maps,
        longest_side=longest_side,
        test_scale=test_scale,
    )


def _published(labels: LabelSpace, is_standalone: bool) -> CenterRepresentation:
    """Return the published representation for a label space; the standalone form aligns corners throughout."""
    published = PUBLISHED.get(labels.name, _REPRESENTATION)
    if not is_standalone:
        return published
    decoding = replace(published.decoding, align_corners=True)
    return replace(published, offset_loss_weight=0.005, loss_align_corners=True, decoding=decoding)


def panoptic_deeplab_r52(
    labels: LabelSpace,
    *,
    separable: bool = True,
    decoder_width: int = 256,
    instance_width: int = 128,
    pyramid_width: int = 256,
    context_size: tuple[int, int] | None = None,
    size_divisibility: int | None = None,
    relations: Relations | None = None,
    instance_maps: CenterInstanceMaps | None = None,
    pretrained: bool = False,
    representation: CenterRepresentation | None = None,
    longest_side: int | None = None,
    test_scale: float = 1.0,
) -> PanopticDeepLab:
    """Build the network that detectron2 calls R-52: ResNet-50 with DeepLab's stem, features at stride 16.

    It is the base network of PISR. For the arguments see :func:`panoptic_deeplab`.
    """
    return panoptic_deeplab(
        labels,
        "resnet52",
        separable=separable,
        decoder_width=decoder_width,
        instance_width=instance_width,
        pyramid_width=pyramid_width,
        context_size=context_size,
        size_divisibility=size_divisibility,
        relations=relations,
        instance_maps=instance_maps,
        pretrained=pretrained,
        representation=representation,
        longest_side=longest_side,
        test_scale=test_scale,
    )


def panoptic_deeplab_r50(
    labels: LabelSpace,
    *,
    form: Literal["detectron2", "standalone"] = "detectron2",
    separable: bool = True,
    decoder_width: int = 256,
    instance_width: int = 128,
    pyramid_width: int = 256,
    context_size: tuple[int, int] | None = None,
    size_divisibility: int | None = None,
    relations: Relations | None = None,
    instance_maps: CenterInstanceMaps | None = None,
    pretrained: bool = False,
    representation: CenterRepresentation | None = None,
    longest_side: int | None = None,
    test_scale: float = 1.0,
) -> PanopticDeepLab:
    """Build the network on ResNet-50 with its own stem: in detectron2's form, or in that of the older repository.

    For the arguments see :func:`panoptic_deeplab`.
    """
    return panoptic_deeplab(
        labels,
        "resnet50.tv_in1k",
        form=form,
        separable=separable,
        decoder_width=decoder_width,
        instance_width=instance_width,
        pyramid_width=pyramid_width,
        context_size=context_size,
        size_divisibility=size_divisibility,
        relations=relations,
        instance_maps=instance_maps,
        pretrained=pretrained,
        representation=representation,
        longest_side=longest_side,
        test_scale=test_scale,
    )


def panoptic_deeplab_r101(
    labels: LabelSpace,
    *,
    separable: bool = True,
    decoder_width: int = 256,
    instance_width: int = 128,
    pyramid_width: int = 256,
    context_size: tuple[int, int] | None = None,
    size_divisibility: int | None = None,
    relations: Relations | None = None,
    instance_maps: CenterInstanceMaps | None = None,
    pretrained: bool = False,
    representation: CenterRepresentation | None = None,
    longest_side: int | None = None,
    test_scale: float = 1.0,
) -> PanopticDeepLab:
    """Build the network on ResNet-101 with DeepLab's stem, which detectron2 calls R-103.

    For the arguments see :func:`panoptic_deeplab`.
    """
    return panoptic_deeplab(
        labels,
        "resnet103",
        separable=separable,
        decoder_width=decoder_width,
        instance_width=instance_width,
        pyramid_width=pyramid_width,
        context_size=context_size,
        size_divisibility=size_divisibility,
        relations=relations,
        instance_maps=instance_maps,
        pretrained=pretrained,
        representation=representation,
        longest_side=longest_side,
        test_scale=test_scale,
    )


def panoptic_deeplab_hrnet48(
    labels: LabelSpace,
    *,
    separable: bool = True,
    decoder_width: int = 256,
    instance_width: int = 128,
    pyramid_width: int = 256,
    context_size: tuple[int, int] | None = None,
    size_divisibility: int | None = None,
    relations: Relations | None = None,
    instance_maps: CenterInstanceMaps | None = None,
    pretrained: bool = False,
    representation: CenterRepresentation | None = None,
    longest_side: int | None = None,
    test_scale: float = 1.0,
) -> PanopticDeepLab:
    """Build the network on HRNet-W48, whose four branches have strides 4 to 32.

    For the arguments see :func:`panoptic_deeplab`.
    """
    return panoptic_deeplab(
        labels,
        "hrnet_w48.ms_in1k",
        separable=separable,
        output_stride=32,
        decoder_width=decoder_width,
        instance_width=instance_width,
        pyramid_width=pyramid_width,
        context_size=context_size,
        size_divisibility=size_divisibility,
        relations=relations,
        instance_maps=instance_maps,
        pretrained=pretrained,
        representation=representation,
        longest_side=longest_side,
        test_scale=test_scale,
    )


def panoptic_deeplab_mobilenetv2(
    labels: LabelSpace,
    *,
    form: Literal["detectron2", "standalone"] = "standalone",
    separable: bool = True,
    decoder_width: int = 256,
    instance_width: int = 128,
    pyramid_width: int = 256,
    context_size: tuple[int, int] | None = None,
    size_divisibility: int | None = None,
    relations: Relations | None = None,
    instance_maps: CenterInstanceMaps | None = None,
    pretrained: bool = False,
    representation: CenterRepresentation | None = None,
    longest_side: int | None = None,
    test_scale: float = 1.0,
) -> PanopticDeepLab:
    """Build the network on MobileNetV2, which only the older repository has; its form is therefore the default.

    For the arguments see :func:`panoptic_deeplab`.
    """
    return panoptic_deeplab(
        labels,
        "mobilenetv2_100.ra_in1k",
        form=form,
        separable=separable,
        output_stride=32,
        decoder_width=decoder_width,
        instance_width=instance_width,
        pyramid_width=pyramid_width,
        context_size=context_size,
        size_divisibility=size_divisibility,
        relations=relations,
        instance_maps=instance_maps,
        pretrained=pretrained,
        representation=representation,
        longest_side=longest_side,
        test_scale=test_scale,
    )
