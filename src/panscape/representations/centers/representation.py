"""Objects as centres: a heatmap of centres, and for every pixel the offset to the centre of its object.

The representation of Panoptic-DeepLab (Cheng et al., CVPR 2020) and Panoptic SwiftNet (Saric et al., 2023), with the
semantics of the latter's released code.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.constraints import NonNegative, Positive, PositiveFraction, PositiveInt, check_fields
from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.labels import LabelSpace
from panscape.nn.losses import ohem_cross_entropy, weighted_l1_loss, weighted_mse_loss
from panscape.ops.argmax import argmax_over_planes
from panscape.ops.interpolate import upsample
from panscape.panoptic import PanopticMap
from panscape.representations.centers.boundary_weights import Thresholds, boundary_weights
from panscape.representations.centers.decode import CenterDecoding, group_centers, group_centers_batched
from panscape.representations.centers.encode import center_targets
from panscape.representations.centers.resize_outputs import resize_outputs
from panscape.representations.centers.scores import score_instances
from panscape.representations.centers.types import CenterOutputs, CenterTargets
from panscape.representations.checks import check_categories, check_category_weights
from panscape.representations.loss_stride import one_in_each_square
from panscape.visualize import draw_heatmap, draw_offsets, draw_semantic

__all__ = ["CENTER_ORACLES", "CenterDecoding", "CenterOutputs", "CenterRepresentation", "CenterTargets"]

CENTER_ORACLES = ("semantic", "centers", "offsets")
"""The parts that :meth:`CenterRepresentation.with_truth` can replace."""


@dataclass(frozen=True, slots=True)
class CenterRepresentation:
    """Targets, losses and post-processing. Defaults are those of Panoptic SwiftNet's released Cityscapes configuration.

    Attributes:
        sigma: Standard deviation of the Gaussian around a centre, in pixels.
        small_area: Number of pixels below which an object is small.
        small_weight: Weight of small objects in the semantic loss.
        boundary_alphas: Offset weights from the boundary of an object inwards (Section 2.2, Table 8); (8, 4, 2, 1) for
            four regions, (8, 4, 1) for three, (8, 7, 6, 5, 4, 3, 2, 1) for eight; empty for plain L1.
        category_weights: Weight of each category in the semantic loss, to emphasise thin and rare categories; empty for
            1 each, as published.
        hard_pixel_fraction: Share of hardest pixels in the semantic loss; the paper uses 0.2 on Cityscapes, else 1.
        semantic_loss_weight: Weight of the semantic loss.
        center_loss_weight: Weight of the centre loss.
        offset_loss_weight: Weight of the offset loss; None is 0.0025 with boundary weights (Section 2.3) and 0.01
            without (Section 3.6).
        loss_stride: Side of the squares of which one pixel each enters the losses: 1 as published; 2 costs a quarter,
            and a small network then trains 1.4 times as fast. A divisor of the network's output stride.
        compat: Source to follow in training where the sources differ. "released", the published code of Panoptic
            SwiftNet and of detectron2: the last region of boundary weights is only the ridge, and the offset loss is
            divided by the sum of its weights. "paper", the text of Panoptic SwiftNet: regions of equal width, and the
            offset loss is divided by the number of pixels (Equation 1). "standalone", the older repository of
            Panoptic-DeepLab: as "released", but outputs are upsampled with aligned corners; requires a loss_stride
            of 1.
        first_stage_weight: Weight of the same losses on a first stage's outputs, if a network has them: gamma of
            PISR. That paper gives no value; 0.4 is that of object-contextual representations (OCR).
        decoding: Post-processing options.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    sigma: Positive = 10.0
    small_area: int = 4096
    small_weight: NonNegative = 3.0
    boundary_alphas: tuple[Positive, ...] = (8.0, 4.0, 2.0, 1.0)
    category_weights: tuple[float, ...] = ()
    hard_pixel_fraction: PositiveFraction = 1.0
    semantic_loss_weight: NonNegative = 1.0
    center_loss_weight: NonNegative = 200.0
    offset_loss_weight: NonNegative | None = None
    loss_stride: PositiveInt = 1
    compat: Literal["released", "paper", "standalone"] = "released"
    first_stage_weight: NonNegative = 0.4
    decoding: CenterDecoding = field(default_factory=CenterDecoding)

    def __post_init__(self) -> None:
        check_fields(self)
        check_category_weights(self.category_weights)
        if self.compat == "standalone" and self.loss_stride > 1:
            raise InvalidArgumentError(
                f'expected a loss_stride of 1 with compat="standalone", got {self.loss_stride}; with a larger one the '
                "corners are not aligned"
            )

    def encode(self, truth: PanopticMap, labels: LabelSpace) -> CenterTargets:
        """Encode a ground truth at its own resolution.

        Args:
            truth: ground truth on the CPU; crowds are used in the semantic target only.
            labels: label space, which defines things and stuff.

        Raises:
            InvalidArgumentError: the ground truth has categories that the label space lacks.
        """
        check_categories(truth, labels)
        check_category_weights(self.category_weights, labels)
        is_thing = torch.tensor([c.is_thing for c in labels])[truth.category]
        is_crowd = torch.zeros_like(is_thing) if truth.crowd is None else truth.crowd
        targets = center_targets(
            truth.ids,
            truth.category + 1,
            is_thing,
            is_crowd,
            sigma=self.sigma,
            small_area=self.small_area,
            small_weight=self.small_weight,
            void=0,
        )
        if self.category_weights:
            weight = torch.tensor((1.0, *self.category_weights))[targets.semantic]
            targets = targets._replace(semantic_weight=targets.semantic_weight * weight)
        if not self.boundary_alphas:
            return targets
        thresholds: Thresholds = "equal" if self.compat == "paper" else "released"
        weights = boundary_weights(truth.ids, truth.num_segments, self.boundary_alphas, thresholds)
        return targets._replace(offset_weight=targets.offset_weight * weights)

    def loss(self, outputs: CenterOutputs, targets: CenterTargets, padded_size: tuple[int, int]) -> dict[str, Tensor]:
        """Compare outputs with stacked targets at full resolution (Section 2.3); the total is the sum of the values.

        Args:
            outputs: network outputs, which are upsampled bilinearly to the padded size. Outputs of a first stage, if
                any, add the same losses under the names "first_semantic", "first_center" and "first_offset".
            targets: each with a first axis B; if smaller than the upsampled outputs, they are padded with void.
            padded_size: height and width of the padded input.

        Raises:
            InvalidArgumentError: ``loss_stride`` does not divide the padded size, or the targets are larger than it.
        """
        height, width = padded_size
        if height % self.loss_stride or width % self.loss_stride:
            raise InvalidArgumentError(
                f"expected a loss_stride that divides the padded size {height}x{width}, got {self.loss_stride}"
            )
        rows, columns = height - targets.semantic.shape[-2], width - targets.semantic.shape[-1]
        if rows < 0 or columns < 0:
            raise InvalidArgumentError(
                f"expected targets of at most {height}x{width} pixels, got {tuple(targets.semantic.shape[-2:])}; "
                "encode the same crop that entered the network"
            )
        if rows or columns:
            targets = CenterTargets(*(F.pad(t, (0, columns, 0, rows)) for t in targets))
        if self.loss_stride > 1:
            targets = CenterTargets(*(one_in_each_square(t, self.loss_stride) for t in targets))
        losses = self._losses(outputs, targets)
        if outputs.first_stage is not None:
            first = self._losses(outputs.first_stage, targets)
            losses |= {f"first_{name}": self.first_stage_weight * value for name, value in first.items()}
        return losses

    def _losses(self, outputs: CenterOutputs, targets: CenterTargets) -> dict[str, Tensor]:
        """Upsample the outputs of one stage to the targets' size and return their losses."""
        size = targets.semantic.shape[-2:]
        align_corners = self.compat == "standalone"
        semantic, center, offset = (
            o if o.shape[-2:] == size else F.interpolate(o, size, mode="bilinear", align_corners=align_corners)
            for o in outputs.tensors
        )
        offset_loss_weight = self.offset_loss_weight
        if offset_loss_weight is None:
            offset_loss_weight = 0.0025 if self.boundary_alphas else 0.01
        return {
            "semantic": self.semantic_loss_weight
            * ohem_cross_entropy(semantic, targets.semantic, targets.semantic_weight, self.hard_pixel_fraction),
            "center": self.center_loss_weight * weighted_mse_loss(center[:, 0], targets.center, targets.center_weight),
            "offset": offset_loss_weight
            * weighted_l1_loss(
                offset, targets.offset, targets.offset_weight, "pixels" if self.compat == "paper" else "weights"
            ),
        }

    def decode(
        self, outputs: CenterOutputs, geometries: Sequence[ImageGeometry], labels: LabelSpace
    ) -> list[PanopticMap]:
        """Decode a batch of outputs into one map per image, at its inference size (Section 2.4).

        Args:
            outputs: outputs at a fraction of the padded size, to which they are upsampled.
            geometries: sizes of each image; all have the same padded size.
            labels: label space, which defines things and stuff.

        Raises:
            InvalidArgumentError: the number of geometries differs from the number of images.
        """
        _require_one_each(outputs, geometries)
        semantic, center, offset = outputs.semantic.float(), outputs.center[:, 0].float(), outputs.offset.float()
        if semantic.device.type != "cpu":
            maps = group_centers_batched(semantic, center, offset, geometries, labels.thing_ids, self.decoding)
        else:
            maps = [
                group_centers(semantic[i], center[i], offset[i], geometry, labels.thing_ids, self.decoding)
                for i, geometry in enumerate(geometries)
            ]
        return [replace(one, labels=labels) for one in maps]

    def decode_resized(
        self, outputs: CenterOutputs, geometries: Sequence[ImageGeometry], labels: LabelSpace, *, scored: bool = False
    ) -> list[PanopticMap]:
        """Decode outputs into one map per image at the image's own size; outputs are resized to it before decoding.

        This implements ``decoding.resize`` "outputs"; where both sizes are equal, the result is that of :meth:`decode`.

        Args:
            outputs: as for :meth:`decode`.
            geometries: as for :meth:`decode`.
            labels: label space, which defines things and stuff.
            scored: compute the scores of :mod:`panscape.representations.centers.scores` from the resized outputs.

        Raises:
            InvalidArgumentError: as for :meth:`decode`.
        """
        _require_one_each(outputs, geometries)
        maps = []
        for i, geometry in enumerate(geometries):
            representation, one = self, outputs.image(i)
            if geometry.is_resized:
                resized = resize_outputs(*one.tensors, geometry, self.decoding)
                representation = replace(self, decoding=self.decoding.for_resized_outputs(geometry))
                one, geometry = CenterOutputs(*resized), ImageGeometry.of(geometry.size)
            (panoptic,) = representation.decode(one, [geometry], labels)
            if scored:
                align_corners = representation.decoding.align_corners
                panoptic = score_instances(panoptic, one, labels, geometry.padded_size, align_corners)
            maps.append(panoptic)
        return maps

    def with_truth(
        self,
        outputs: CenterOutputs,
        truth: PanopticMap,
        parts: Collection[str],
        labels: LabelSpace,
        padded_size: tuple[int, int],
    ) -> CenterOutputs:
        """Upsample the outputs of one image as :meth:`decode` does and replace parts by the ground truth (Table 7).

        Void pixels keep the predicted category, stuff and void pixels the predicted offset, as the ground truth defines
        none there. Crowds count as one object, as in the targets.

        Args:
            outputs: a batch of one, at a fraction of the padded size.
            truth: ground truth of the image, at its size.
            parts: some of :data:`CENTER_ORACLES`; if empty, the result decodes to the same map as ``outputs``.
            labels: label space, which defines things and stuff.
            padded_size: height and width of the padded input, to which outputs are upsampled.

        Returns:
            A batch of one at the ground truth's size.
        """
        semantic, center, offset = (
            upsample(o.detach().float(), padded_size, truth.size, self.decoding.align_corners) for o in outputs.tensors
        )
        # Boundary weights take most of the time of encoding and are not used here.
        targets = replace(self, boundary_alphas=()).encode(truth.to("cpu"), labels)
        category, heat, shift = (t.to(semantic.device) for t in (targets.semantic, targets.center, targets.offset))
        if "semantic" in parts:
            known = F.one_hot((category - 1).clamp_min(0), len(labels)).permute(2, 0, 1).float()
            semantic = torch.where(category > 0, known, semantic)
        if "centers" in parts:
            center = heat[None, None]
        if "offsets" in parts:
            is_thing = torch.tensor([False, *(c.is_thing for c in labels)], device=category.device)[category]
            offset = torch.where(is_thing, shift, offset)
        return CenterOutputs(semantic, center, offset)

    def visualize(
        self,
        outputs: CenterOutputs,
        size: tuple[int, int],
        labels: LabelSpace,
        padded_size: tuple[int, int],
    ) -> dict[str, Tensor]:
        """Visualise the outputs of one image as in the paper's Figures 3 and 4: semantic, centres, offset directions.

        Args:
            outputs: a batch of one.
            size: height and width of the image.
            labels: label space, which defines the colours.
            padded_size: height and width of the padded input, to which outputs are upsampled.

        Returns:
            Visualisations by name, uint8 [3, H, W].
        """

        def whole(plane: Tensor) -> Tensor:
            return upsample(plane, padded_size, size, self.decoding.align_corners)

        semantic, center, offset = (o[0].detach().float().cpu() for o in outputs.tensors)
        category = argmax_over_planes(semantic, whole)  # plane by plane, as all upsampled planes may take a gigabyte
        is_thing = torch.tensor([c.is_thing for c in labels])[category]
        return {
            "semantic": draw_semantic(category, labels),
            "centers": draw_heatmap(whole(center[0]).clamp(0, 1)),
            "offsets": draw_offsets(whole(offset), mask=is_thing),
        }


def _require_one_each(outputs: CenterOutputs, geometries: Sequence[ImageGeometry]) -> None:
    if len(outputs.semantic) != len(geometries):
        raise InvalidArgumentError(
            f"expected one size for each of the {len(outputs.semantic)} images, got {len(geometries)}"
        )
