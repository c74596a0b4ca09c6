"""Objects as dense boxes: every location predicts box, category and centerness; levelness and semantics are dense.

The representation of Real-Time Panoptic Segmentation from Dense Detections (Hou et al., CVPR 2020, arXiv 1912.01202).
An object's mask consists of the pixels whose predicted boxes agree with the object's box. The authors released no
training code; details that the paper leaves open follow FCOS (Tian et al., ICCV 2019), see
docs/models/dense_detections.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import inf
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.constraints import NonNegative, PositiveFraction, PositiveInt, check_fields
from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.labels import LabelSpace
from panscape.nn.losses import global_normalizers, ohem_cross_entropy_per_image
from panscape.ops.cropped_masks import Detections
from panscape.panoptic import PanopticMap
from panscape.representations.checks import check_categories, check_category_weights
from panscape.representations.dense_boxes.decode import decode_dense_boxes, detect_dense_boxes
from panscape.representations.dense_boxes.decode_config import DenseBoxDecoding
from panscape.representations.dense_boxes.encode import dense_box_targets
from panscape.representations.dense_boxes.locations import Pyramid
from panscape.representations.dense_boxes.losses import (
    MaskQueries,
    mask_queries,
    sum_of_box_loss,
    sum_of_category_loss,
    sum_of_centerness_loss,
    sum_of_mask_loss,
)
from panscape.representations.dense_boxes.oracles import decode_with_truth
from panscape.representations.dense_boxes.panels import draw_panels
from panscape.representations.dense_boxes.types import DenseBoxOutputs, DenseBoxTargets

__all__ = [
    "DENSE_BOX_ORACLES",
    "DenseBoxDecoding",
    "DenseBoxOutputs",
    "DenseBoxRepresentation",
    "DenseBoxTargets",
]

DENSE_BOX_ORACLES = ("semantic", "boxes")
"""The parts that :meth:`DenseBoxRepresentation.decode_with_truth` can replace."""


@dataclass(frozen=True, slots=True)
class DenseBoxRepresentation:
    """Targets, losses and post-processing. Defaults are the paper's for Cityscapes, or follow the authors' code.

    Attributes:
        level_ends: Largest distance from a location to a side of its box, pixels, for each level except the last;
            there is one level more than values.
        finest_stride: Pixels between locations of the first level, even; it doubles with each level.
        supervision: "masks", or "boxes" to train objects from their boxes alone (Table 3, last row), without a mask
            loss; the semantic segmentation is trained on all pixels either way.
        box_loss: Loss of boxes, "iou", minus its logarithm (UnitBox), or "giou", one minus the generalized IoU.
        category_normalization: Divisor of the focal loss of categories: "positives", the number of locations with an
            object, as in FCOS, which requires a network initialised with the prior of rare objects; or "locations",
            the number of all locations, as in the paper.
        category_weights: Weight of each category in the semantic loss; empty for 1 each. Ours.
        hard_pixel_fraction: Share of hardest pixels of each image in the semantic loss.
        max_mask_queries: Maximum number of detected boxes of an image in the mask loss; bounds the memory.
        detach_query: Stop gradients of the mask loss into the box of the query; only the pixels' boxes receive them.
        box_loss_weight: Weight of the box loss.
        centerness_loss_weight: Weight of the centerness loss.
        category_loss_weight: Weight of the loss of the locations' categories.
        levelness_loss_weight: Weight of the levelness loss.
        semantic_loss_weight: Weight of the semantic loss; 1 for Cityscapes and 0.4 for COCO in the paper.
        mask_loss_weight: Weight of the mask loss; 0 disables it (Table 3).
        decoding: Post-processing options; the mask loss selects objects and the cells' levels by the same rules.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    level_ends: tuple[float, ...] = (64.0, 128.0, 256.0, 512.0)
    finest_stride: int = 8
    supervision: Literal["masks", "boxes"] = "masks"
    box_loss: Literal["iou", "giou"] = "iou"
    category_normalization: Literal["positives", "locations"] = "positives"
    category_weights: tuple[float, ...] = ()
    hard_pixel_fraction: PositiveFraction = 0.3
    max_mask_queries: PositiveInt = 40
    detach_query: bool = True
    box_loss_weight: NonNegative = 1.0
    centerness_loss_weight: NonNegative = 1.0
    category_loss_weight: NonNegative = 1.0
    levelness_loss_weight: NonNegative = 1.0
    semantic_loss_weight: NonNegative = 1.0
    mask_loss_weight: NonNegative = 1.0
    decoding: DenseBoxDecoding = field(default_factory=DenseBoxDecoding)

    def __post_init__(self) -> None:
        check_fields(self)
        if not all(low < high for low, high in pairwise((0.0, *self.level_ends, inf))):
            raise InvalidArgumentError(f"expected ascending level_ends above 0, got {self.level_ends}")
        if self.finest_stride < 2 or self.finest_stride % 2:
            raise InvalidArgumentError(f"expected an even finest_stride of 2 or more, got {self.finest_stride}")
        check_category_weights(self.category_weights)

    @property
    def num_levels(self) -> int:
        """Number of levels."""
        return len(self.level_ends) + 1

    def encode(self, truth: PanopticMap, labels: LabelSpace, padded_to: tuple[int, int]) -> DenseBoxTargets:
        """Encode a ground truth; see :mod:`panscape.representations.dense_boxes.encode` for the rules.

        Args:
            truth: ground truth on the CPU; void and crowds are ignored, except that the semantic target has crowds.
            labels: label space, which defines things and stuff.
            padded_to: height and width of the network's input, multiples of ``finest_stride``; the ground truth is
                padded to it with void.

        Raises:
            InvalidArgumentError: the ground truth has categories that the label space lacks or is larger than
                ``padded_to``, or ``padded_to`` is not a multiple of ``finest_stride``.
        """
        check_categories(truth, labels)
        check_category_weights(self.category_weights, labels)
        if any(side > padded for side, padded in zip(truth.size, padded_to, strict=True)):
            raise InvalidArgumentError(
                f"expected ground truth of at most {padded_to[0]}x{padded_to[1]} pixels, got "
                f"{truth.size.height}x{truth.size.width}"
            )
        boxes = truth.boxes()
        padded = truth.pad(*padded_to)
        is_crowd = torch.zeros_like(truth.category, dtype=torch.bool) if truth.crowd is None else truth.crowd
        # Index among the things, from 1 on; stuff is 0.
        number = torch.zeros(len(labels), dtype=torch.int64)
        number[list(labels.thing_ids)] = torch.arange(1, len(labels.thing_ids) + 1)
        maps = dense_box_targets(
            padded.ids,
            boxes,
            number[truth.category],
            is_crowd,
            level_ends=self.level_ends,
            finest_stride=self.finest_stride,
            supervision=self.supervision,
        )
        return DenseBoxTargets(padded.semantic(void=-1) + 1, *maps)

    def loss(self, outputs: DenseBoxOutputs, targets: DenseBoxTargets) -> dict[str, Tensor]:
        """Compare outputs with stacked targets (Sections 4.2 and 4.3); the total is the sum of the values.

        If processes share a batch, all must call this equally often: see :func:`panscape.nn.losses.global_normalizers`.

        Args:
            outputs: outputs for an input of the size that the targets were padded to.
            targets: each with a first axis B.

        Returns:
            "box", "centerness", "category", "semantic"; "levelness" if the network has it; "mask" if its weight is not
            0 and masks are known. Each is finite and has a gradient path to its outputs, whatever the ground truth.

        Raises:
            InvalidArgumentError: outputs and targets are of different sizes.
        """
        outputs = _each(outputs, _in_full_precision)
        pyramid = self._pyramid(outputs)
        if targets.semantic.shape[-2:] != pyramid.padded_size or targets.box.shape != outputs.box.shape:
            raise InvalidArgumentError(
                f"expected targets of {pyramid.padded_size[0]}x{pyramid.padded_size[1]} pixels with boxes "
                f"{list(outputs.box.shape)}, got {list(targets.semantic.shape[-2:])} with {list(targets.box.shape)}; "
                "encode the same crop that entered the network, with the same levels"
            )
        has_object, is_known = targets.box_category > 0, targets.levelness >= 0
        queries = self._mask_queries(outputs, targets, pyramid)
        num_queries = targets.box_category.new_tensor(0 if queries is None else len(queries.segment))
        objects, cells, masks = global_normalizers(torch.stack([has_object.sum(), is_known.sum(), num_queries]))
        categorized = objects if self.category_normalization == "positives" else has_object.numel()
        box, centerness = outputs.box, outputs.centerness
        semantic = F.interpolate(outputs.semantic, size=pyramid.padded_size, mode="bilinear", align_corners=False)
        losses = {
            "box": self.box_loss_weight
            * (sum_of_box_loss(box, targets.box_category, targets.box, self.box_loss) / objects),
            "centerness": self.centerness_loss_weight
            * (sum_of_centerness_loss(centerness, targets.box_category, targets.box) / objects),
            "category": self.category_loss_weight
            * (sum_of_category_loss(outputs.box_category, targets.box_category) / categorized),
            "semantic": self.semantic_loss_weight
            * ohem_cross_entropy_per_image(semantic, targets.semantic, self.hard_pixel_fraction, self.category_weights),
        }
        if outputs.levelness is not None:
            cost = F.cross_entropy(outputs.levelness, targets.levelness, ignore_index=-1, reduction="sum")
            losses["levelness"] = self.levelness_loss_weight * (cost / cells)
        if queries is not None:
            level = self.decoding.levels(outputs.levelness)
            cost = sum_of_mask_loss(box, level, queries, targets.segment, is_known, pyramid)
            losses["mask"] = self.mask_loss_weight * (cost / masks)
        return losses

    def decode(
        self, outputs: DenseBoxOutputs, geometries: Sequence[ImageGeometry], labels: LabelSpace
    ) -> list[PanopticMap]:
        """Decode a batch of outputs into one map per image; see :mod:`panscape.representations.dense_boxes.decode`.

        Args:
            outputs: outputs for the padded images.
            geometries: sizes of each image; maps have its own size, to which outputs are upsampled.
            labels: label space, which defines things and stuff.
        """
        return decode_dense_boxes(outputs, geometries, labels, self._pyramid(outputs), self.decoding)

    def detect(
        self, outputs: DenseBoxOutputs, geometries: Sequence[ImageGeometry], labels: LabelSpace
    ) -> list[Detections]:
        """Return the detected objects of each image of a batch before they are merged into a map.

        These are all selected boxes (``score_threshold``, ``max_detections``), whatever their score; ``fusion`` is not
        applied. The paper measures average precision on them.

        Args:
            outputs: outputs for the padded images.
            geometries: as for :meth:`decode`.
            labels: label space, which defines things and stuff.
        """
        return detect_dense_boxes(outputs, geometries, labels, self._pyramid(outputs), self.decoding)

    def decode_with_truth(
        self, outputs: DenseBoxOutputs, truth: PanopticMap, parts: Collection[str], labels: LabelSpace
    ) -> PanopticMap:
        """Decode the map of one image with parts of the outputs replaced by ground truth, at its full size.

        Predictions are kept where the ground truth is undefined: the category of void, and the boxes of void, stuff
        and crowds.

        Args:
            outputs: a batch of one.
            truth: ground truth of the image, at its size, on any device.
            parts: some of :data:`DENSE_BOX_ORACLES`: "semantic" for the category of every pixel, "boxes" for the boxes
                of the objects that cover a location and of their pixels. If empty, this is :meth:`decode`.
            labels: label space, which defines things and stuff.
        """
        if not parts:
            return self.decode(outputs, [ImageGeometry.of(truth.size)], labels)[0]
        device, pyramid = outputs.box.device, self._pyramid(outputs)
        targets = replace(self, supervision="masks").encode(truth.to("cpu"), labels, pyramid.padded_size)
        targets = DenseBoxTargets(*(t.to(device) for t in targets))
        return decode_with_truth(outputs, truth.to(device), targets, parts, labels, pyramid, self.decoding)

    def visualize(self, outputs: DenseBoxOutputs, size: tuple[int, int], labels: LabelSpace) -> dict[str, Tensor]:
        """Visualise the outputs of one image: "semantic", "boxes", "levels" if the network has levelness, and "masks".

        Args:
            outputs: a batch of one.
            size: height and width of the image.
            labels: label space, which defines the colours.

        Returns:
            Visualisations by name, uint8 [3, H, W]; see
            :func:`panscape.representations.dense_boxes.panels.draw_panels`.
        """
        outputs = _each(outputs, lambda part: part.detach().float().cpu())
        return draw_panels(outputs, size, labels, self._pyramid(outputs), self.decoding)

    def _mask_queries(self, outputs: DenseBoxOutputs, targets: DenseBoxTargets, pyramid: Pyramid) -> MaskQueries | None:
        if self.supervision == "boxes" or not self.mask_loss_weight:
            return None
        queries = mask_queries(
            outputs.box_category,
            outputs.box,
            outputs.centerness,
            targets.box,
            targets.location_segment,
            pyramid,
            self.decoding.selection,
            self.max_mask_queries,
        )
        return queries._replace(boxes=queries.boxes.detach()) if self.detach_query else queries

    def padded_size(self, outputs: DenseBoxOutputs) -> tuple[int, int]:
        """Return the height and width of the padded input of these outputs."""
        height, width = (side * self.finest_stride for side in outputs.semantic.shape[-2:])
        return height, width

    def _pyramid(self, outputs: DenseBoxOutputs) -> Pyramid:
        return Pyramid(self.padded_size(outputs), self.finest_stride, self.num_levels)


def _each(outputs: DenseBoxOutputs, change: Callable[[Tensor], Tensor]) -> DenseBoxOutputs:
    """Apply a function to each part that is not None."""
    semantic, box_category, box, centerness, levelness = outputs
    levelness = None if levelness is None else change(levelness)
    return DenseBoxOutputs(change(semantic), change(box_category), change(box), change(centerness), levelness)


def _in_full_precision(part: Tensor) -> Tensor:
    return part if part.dtype == torch.float64 else part.float()
