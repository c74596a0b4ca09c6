"""Panoptic SwiftNet: pyramidal fusion for real-time panoptic segmentation.

Josip Saric, Marin Orsic, Sinisa Segvic. Remote Sensing 15(8), 2023. arXiv:2203.07908.

One backbone is applied to an image pyramid; one upsampling path fuses all its features into a map at a quarter of the
resolution; three heads of one convolution each predict category, object centre and offset to the centre.

Where the paper and the authors' released code disagree, this follows the code, so that their weights work here:

- Every level of the pyramid has BatchNorm layers of its own (the paper does not mention it).
- A module of the upsampling path upsamples, adds, then convolves (the paper: adds, convolves, then upsamples).
- Skips are taken before the last ReLU of a residual stage.
- The offset loss is divided by the sum of its weights, not by the number of pixels (Equation 1); the paper's version is
  ``CenterRepresentation(compat="paper")``.
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
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.constraints import check_fields
from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.models.center_model import CenterModel, CenterModelConfig
from panscape.models.pisr import refined_head, valid_cells
from panscape.models.variants import variant
from panscape.nn.backbones import STRIDES, Backbone
from panscape.nn.blocks import norm_relu_conv
from panscape.nn.image_pyramid import ImagePyramid
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
        third, momentum = width // 3, 0.005  # of the released code
        self.reduce = norm_relu_conv(in_channels, width, 1, momentum=momentum)
        self.pooled = nn.ModuleList(norm_relu_conv(width, third, 1, momentum=momentum) for _ in self.grids)
        self.fuse = norm_relu_conv(width + third * len(self.grids), width, 1, momentum=momentum)

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
        config: all other options.

    Raises:
        InvalidArgumentError: the representation's ``loss_stride`` does not divide 4.
    """

    def __init__(self, labels: LabelSpace, backbone: Backbone, config: SwiftNetConfig) -> None:
        levels, width = config.num_levels, config.width
        super().__init__(
            labels,
            config.representation or config.published(labels),
            stride=STRIDES[-1] * 2 ** (levels - 1),
            output_stride=_OUTPUT_STRIDE,
            longest_side=config.longest_side,
            test_scale=config.test_scale,
        )
        self.pyramid = ImagePyramid(backbone, levels)
        channels = backbone.channels
        start = SpatialPyramidPooling if config.context == "spp" else RectifiedProjection
        self.start = start(channels[-1], width)
        self._skips = skips_by_module(levels)
        self.path = nn.ModuleList(
            UpsamplingModule([channels[stage] for stage, _ in skips], width) for skips in self._skips
        )
        self.semantic = norm_relu_conv(width, len(labels), 1, bias=True)
        self.center = norm_relu_conv(width, 1, 1, bias=True)
        self.offset = norm_relu_conv(width, 2, 1, bias=True)
        self.relations = self.relate(config.relations, width, config.instance_maps)
        if self.relations is not None:
            self.refined_semantic = _refined_head(self.semantic, self.relations.semantic_width)
            self.refined_center = _refined_head(self.center, self.relations.instance_width)
            self.refined_offset = _refined_head(self.offset, self.relations.instance_width)

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
        of_semantic, of_instances = self.relations(x, first, valid_cells(images.shape[-2:], x, _OUTPUT_STRIDE))
        return self.second_stage(first, of_semantic, of_instances)

    @property
    def backbones(self) -> tuple[str, ...]:
        """The levels of the image pyramid."""
        return tuple(f"pyramid.levels.{level}" for level in range(len(self.pyramid.levels)))

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the backbone, of all levels, for a separate learning rate."""
        return self.pyramid.parameters()


def _refined_head(first: nn.Sequential, width: int) -> nn.Module:
    """Return a second stage's head with ``width`` input channels, a copy of the first stage's if the widths match."""
    norm, _, conv = first
    channels, out_channels = cast(nn.BatchNorm2d, norm).num_features, cast(nn.Conv2d, conv).out_channels
    return refined_head(first, channels, width, lambda w: norm_relu_conv(w, out_channels, 1, bias=True))


@dataclass(frozen=True, kw_only=True)
class SwiftNetConfig(CenterModelConfig[PanopticSwiftNet]):
    """Options of Panoptic SwiftNet; the defaults are the published network.

    Attributes:
        backbone: See :class:`~panscape.models.variants.ModelConfig`; by default ResNet-18 with torchvision's weights,
            from which the authors start.
        levels: Scales of the image pyramid, 1 to 4; None for 3, or for 1 with ``context="spp"``.
        context: "pyramid", or "spp" for spatial pyramid pooling (one level).
        width: Channels of the upsampling path; 256 as published.

    Raises:
        InvalidArgumentError: levels, context or width is invalid.
    """

    backbone: str | Backbone = "resnet18.tv_in1k"
    levels: int | None = None
    context: Literal["pyramid", "spp"] = "pyramid"
    width: int = 256

    def __post_init__(self) -> None:
        check_fields(self)
        if not 1 <= self.num_levels <= 4 or (self.context == "spp" and self.num_levels != 1):
            raise InvalidArgumentError(
                f'expected 1 to 4 levels, and 1 with context="spp", got levels={self.levels} with '
                f"context={self.context!r}"
            )
        if self.width < 4:
            raise InvalidArgumentError(f"expected a width of at least 4 channels, got {self.width}")

    @property
    def num_levels(self) -> int:
        """Number of scales of the image pyramid."""
        return self.levels if self.levels is not None else 1 if self.context == "spp" else 3

    def published(self, labels: LabelSpace) -> CenterRepresentation:
        """See :meth:`CenterModelConfig.published`."""
        return PUBLISHED.get(labels.name, CenterRepresentation())

    def build(self, labels: LabelSpace) -> PanopticSwiftNet:
        """See :meth:`ModelConfig.build`."""
        return PanopticSwiftNet(labels, self.create_backbone(), self)


swiftnet = variant("swiftnet", "Build Panoptic SwiftNet on any backbone.", SwiftNetConfig)
swiftnet_r18 = variant(
    "swiftnet_r18",
    """Build the published network: ResNet-18, 256 channels, three levels (or one with ``context="spp"``).

    Rows of Table 6: ``levels=1`` (single), ``context="spp"``, ``levels=2`` and ``levels=3``.
    """,
    SwiftNetConfig,
)
