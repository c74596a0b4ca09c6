"""Panoptic SwiftNet: pyramidal fusion for real-time panoptic segmentation.

Josip Saric, Marin Orsic, Sinisa Segvic. Remote Sensing 15(8), 2023. arXiv:2203.07908.

One backbone is applied to an image pyramid; one upsampling path fuses all its features into a map at a quarter of the
resolution; three heads of one convolution each predict category, object centre and offset to the centre.

Where the paper and the authors' released code disagree, this follows the code, so that their weights work here:

- Every level of the pyramid has BatchNorm layers of its own (the paper does not mention it).
- A module of the upsampling path upsamples, adds, then convolves (the paper: adds, convolves, then upsamples).
- Skips are taken before the last ReLU of a residual stage.
- The offset loss is divided by the sum of its weights, not by the number of pixels (Equation 1); the paper's version is
  ``CenterRepresentation(offset_divisor="pixels")``.
- Gaussians of centres have sigma 10 (COCO: 8), not the 5 that the paper gives for BSB Aerial.
- The regions of boundary-aware learning are three bands and a ridge, not four (see
  ``representations/centers/boundary_weights.py``).

Where this differs from both:

- Boundary weights are computed on the augmented crop, as all targets are; the authors compute them once on the whole
  annotation. They differ on objects that the crop cuts.
- Distances to the boundary are exact; the authors use a 5x5 chamfer approximation.
- Images are padded to multiples of ``32 * 2 ** (levels - 1)``: 128 for three levels, as published, and less for fewer.
- Any timm backbone, and any width, can replace ResNet-18 and 256 channels.
- Relations can be inserted between the upsampling path and the heads (see ``models/pisr.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.models.center_model import CenterModel
from panscape.models.pisr import second_head, valid_cells
from panscape.nn.backbones import STRIDES, Backbone, create_backbone
from panscape.nn.blocks import norm_relu_conv
from panscape.nn.image_pyramid import ImagePyramid
from panscape.nn.pisr import Relations
from panscape.nn.pisr_instances import CenterInstanceMaps
from panscape.representations.centers import CenterDecoding, CenterOutputs, CenterRepresentation

_OUTPUT_STRIDE = 4

# Vistas lists its categories in its JSON; the reader names the label space "vistas" if it is not the bundled one.
_VISTAS = CenterRepresentation(decoding=CenterDecoding(stuff_area=4096))

# Settings of the released configurations, by label space.
PUBLISHED: Mapping[str, CenterRepresentation] = {
    "cityscapes": CenterRepresentation(hard_pixel_fraction=0.2, decoding=CenterDecoding(align_corners=True)),
    "coco_panoptic": CenterRepresentation(sigma=8, decoding=CenterDecoding(nms_kernel=41, stuff_area=4096)),
    "vistas": _VISTAS,
    "vistas_v1.2": _VISTAS,
}


class UpsamplingModule(nn.Module):
    """Upsample, add the skips, convolve: one step of the upsampling path (Section 2.1).

    Args:
        skip_channels: channels of each skip; each has its own projection.
        width: channels of the path.
    """

    def __init__(self, skip_channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.projections = nn.ModuleList(norm_relu_conv(channels, width, 1) for channels in skip_channels)
        self.blend = norm_relu_conv(width, width, 3)

    def forward(self, x: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Map x [B, D, h, w] and skips [B, C_i, H, W] to [B, D, H, W]."""
        skip = sum(project(s) for project, s in zip(self.projections, skips, strict=True))
        x = F.interpolate(x, size=skips[0].shape[-2:], mode="bilinear", align_corners=True)
        return cast(Tensor, self.blend(x + skip))


class RectifiedProjection(nn.Sequential):
    """ReLU and a 1x1 convolution: the start of the upsampling path."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__(nn.ReLU(), nn.Conv2d(in_channels, width, 1, bias=False))


class SpatialPyramidPooling(nn.Module):
    """Spatial pyramid pooling of the coarsest features (Table 6, "SPP"); the alternative to an image pyramid.

    Args:
        in_channels: channels of the coarsest features, before their ReLU.
        width: channels of the upsampling path; each grid has a third of them.
    """

    grids = (8, 4, 2)  # cells along the height; along the width in proportion

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        third, slow = width // 3, 0.005
        self.reduce = norm_relu_conv(in_channels, width, 1, momentum=slow)
        self.pooled = nn.ModuleList(norm_relu_conv(width, third, 1, momentum=slow) for _ in self.grids)
        self.fuse = norm_relu_conv(width + third * len(self.grids), width, 1, momentum=slow)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, D, H, W]."""
        height, width = x.shape[-2:]
        x = self.reduce(torch.relu(x))
        branches = [x]
        for grid, project in zip(self.grids, self.pooled, strict=True):
            cells = (grid, max(1, round(width / height * grid)))
            pooled = project(F.adaptive_avg_pool2d(x, cells))
            branches.append(F.interpolate(pooled, size=(height, width), mode="bilinear", align_corners=True))
        return cast(Tensor, self.fuse(torch.cat(branches, dim=1)))


def skips_by_module(levels: int) -> list[list[tuple[int, int]]]:
    """Return for each upsampling module the (stage, level) of the skips it adds, by ascending level.

    Stage ``i`` has stride ``4 * 2 ** i`` on its level, and level ``l`` has the image at ``1 / 2 ** l``: features of
    equal ``stage + level`` have the same size. ``levels + 2`` modules lead to stride 4.
    """
    coarsest = len(STRIDES) - 1 + levels - 1
    return [
        [(total - level, level) for level in range(levels) if 0 <= total - level < len(STRIDES)]
        for total in range(coarsest - 1, -1, -1)
    ]


class PanopticSwiftNet(CenterModel):
    """The Panoptic SwiftNet model.

    Args:
        labels: the label space; the semantic head has one channel per category.
        backbone: features at strides 4 to 32.
        levels: scales of the image pyramid.
        context: "pyramid", or "spp" for spatial pyramid pooling (one level).
        width: channels of the upsampling path; 256 in the paper.
        representation: targets, losses and post-processing.
        relations: relations between the features of the upsampling path and the predictions of the heads, which are
            then a first stage; separate heads predict the outputs. None for the published network.
        instance_maps: options of the relations' instance heatmaps; None for the defaults, with the NMS window of
            post-processing.
        longest_side, test_scale: see :class:`~panscape.models.PanopticModel`.

    Raises:
        InvalidArgumentError: the representation's ``loss_stride`` does not divide 4.
    """

    def __init__(
        self,
        labels: LabelSpace,
        backbone: Backbone,
        *,
        levels: int,
        context: Literal["pyramid", "spp"],
        width: int,
        representation: CenterRepresentation,
        relations: Relations | None = None,
        instance_maps: CenterInstanceMaps | None = None,
        longest_side: int | None = None,
        test_scale: float = 1.0,
    ) -> None:
        stride = STRIDES[-1] * 2 ** (levels - 1)
        super().__init__(labels, stride, representation, _OUTPUT_STRIDE, longest_side, test_scale)
        self.pyramid = ImagePyramid(backbone, levels)
        channels = backbone.channels
        start = SpatialPyramidPooling if context == "spp" else RectifiedProjection
        self.start = start(channels[-1], width)
        self._skips = skips_by_module(levels)
        self.path = nn.ModuleList(
            UpsamplingModule([channels[stage] for stage, _ in skips], width) for skips in self._skips
        )
        self.semantic = norm_relu_conv(width, len(labels), 1, bias=True)
        self.center = norm_relu_conv(width, 1, 1, bias=True)
        self.offset = norm_relu_conv(width, 2, 1, bias=True)
        self.relations = self.relate(relations, width, instance_maps)
        if self.relations is not None:
            seen_by_semantic, seen_by_others = self.relations.semantic_width, self.relations.instance_width
            self.refined_semantic = _second_head(self.semantic, seen_by_semantic)
            self.refined_center = _second_head(self.center, seen_by_others)
            self.refined_offset = _second_head(self.offset, seen_by_others)

    def forward(self, images: Tensor) -> CenterOutputs:
        """Map images, float [B, 3, H, W] in 0..1, to outputs at a quarter of the padded size.

        With relations, in training, they include the outputs of the first stage, to which the losses apply as well.
        """
        features = self.pyramid(self.preprocess(images))
        x = self.start(features[-1][-1])
        for module, skips in zip(self.path, self._skips, strict=True):
            x = module(x, [features[level][stage] for stage, level in skips])
        first = self.named(self.semantic(x), self.center(x), self.offset(x))
        if self.relations is None:
            return first
        of_semantic, of_others = self.relations(x, first, valid_cells(images.shape[-2:], x, _OUTPUT_STRIDE))
        return self.second_stage(first, of_semantic, of_others)

    @property
    def backbones(self) -> tuple[str, ...]:
        """The levels of the image pyramid."""
        return tuple(f"pyramid.levels.{level}" for level in range(len(self.pyramid.levels)))

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the backbone, of all levels, for a separate learning rate."""
        return self.pyramid.parameters()


def _second_head(first: nn.Sequential, width: int) -> nn.Module:
    """Return a second stage's head with ``width`` input channels, a copy of the first stage's if the widths match."""
    norm, _, conv = first
    channels, out_channels = cast(nn.BatchNorm2d, norm).num_features, cast(nn.Conv2d, conv).out_channels
    return second_head(first, channels, width, lambda w: norm_relu_conv(w, out_channels, 1, bias=True))


def swiftnet(
    labels: LabelSpace,
    backbone: str | Backbone = "resnet18",
    *,
    levels: int = 3,
    context: Literal["pyramid", "spp"] = "pyramid",
    width: int = 256,
    pretrained: bool = False,
    representation: CenterRepresentation | None = None,
    relations: Relations | None = None,
    instance_maps: CenterInstanceMaps | None = None,
    longest_side: int | None = None,
    test_scale: float = 1.0,
) -> PanopticSwiftNet:
    """Build Panoptic SwiftNet on any backbone.

    Args:
        labels: the label space.
        backbone: a name for :func:`~panscape.nn.backbones.create_backbone`, or a module that implements its protocol.
        levels: scales of the image pyramid, 1 to 4.
        context: "pyramid", or "spp" (then ``levels`` is 1).
        width: channels of the upsampling path.
        pretrained: initialise the backbone with timm's ImageNet weights.
        representation: targets, losses and post-processing; by default the published values for the label space.
        relations: relations that add the context of categories and objects to the features, for example ``PISR()``;
            None for the published network.
        instance_maps: options of the relations' instance heatmaps; None for the defaults, with the NMS window of
            post-processing.
        longest_side: maximum side of images in inference; larger ones are downscaled.
        test_scale: factor by which images are resized in inference.

    Raises:
        InvalidArgumentError: levels, context, width or loss_stride is invalid, or the backbone lacks a stride.
        UnknownNameError: no backbone has this name.
    """
    if context not in ("pyramid", "spp"):
        raise InvalidArgumentError(f'expected context "pyramid" or "spp", got {context!r}')
    if not 1 <= levels <= 4 or (context == "spp" and levels != 1):
        raise InvalidArgumentError(
            f'expected 1 to 4 levels, and 1 with context="spp", got levels={levels} with context={context!r}'
        )
    if width < 4:
        raise InvalidArgumentError(f"expected a width of at least 4 channels, got {width}")
    if isinstance(backbone, str):
        backbone = create_backbone(backbone, pretrained=pretrained)
    return PanopticSwiftNet(
        labels,
        backbone,
        levels=levels,
        context=context,
        width=width,
        representation=representation or PUBLISHED.get(labels.name, CenterRepresentation()),
        relations=relations,
        instance_maps=instance_maps,
        longest_side=longest_side,
        test_scale=test_scale,
    )


def swiftnet_r18(
    labels: LabelSpace,
    *,
    levels: int | None = None,
    context: Literal["pyramid", "spp"] = "pyramid",
    width: int = 256,
    pretrained: bool = False,
    representation: CenterRepresentation | None = None,
    relations: Relations | None = None,
    instance_maps: CenterInstanceMaps | None = None,
    longest_side: int | None = None,
    test_scale: float = 1.0,
) -> PanopticSwiftNet:
    """Build the published network: ResNet-18, 256 channels, three levels (or one with ``context="spp"``).

    Rows of Table 6: ``levels=1`` (single), ``context="spp"``, ``levels=2`` and ``levels=3``. For the arguments see
    :func:`swiftnet`.
    """
    return swiftnet(
        labels,
        "resnet18.tv_in1k",  # torchvision's weights, from which the authors start
        levels=(1 if context == "spp" else 3) if levels is None else levels,
        context=context,
        width=width,
        pretrained=pretrained,
        representation=representation,
        relations=relations,
        instance_maps=instance_maps,
        longest_side=longest_side,
        test_scale=test_scale,
    )
