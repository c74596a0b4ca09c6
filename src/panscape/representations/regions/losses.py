"""Losses of both stages, as sums that are divided by the counts of the whole batch.

Porzi et al., "Seamless Scene Segmentation" (CVPR 2019), Section 3, whose losses are those of Faster R-CNN (Ren et al.,
NeurIPS 2015) and Mask R-CNN (He et al., ICCV 2017). Losses are sums, not means, as several processes may share a batch:
see ``panscape.nn.losses.global_normalizers``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.constraints import NonNegative, PositiveFraction, PositiveInt, UnitInterval, check_fields
from panscape.errors import InvalidArgumentError
from panscape.ops.boxes import encode_boxes, has_area, is_inside
from panscape.representations.regions.crop_aware_box_loss import crop_aware_targets
from panscape.representations.regions.match import BestOfEach, BoxMatches, match_boxes, sample_boxes
from panscape.representations.regions.types import RegionTargets

BoxLoss = Literal["ordinary", "crop_aware"]

SECOND_STAGE_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Factors of the second stage's offsets."""


@dataclass(frozen=True, slots=True)
class StageSampling:
    """How the boxes of a stage are assigned to objects and sampled for its losses.

    Attributes:
        num: Number of boxes of an image.
        positive_share: Largest share of positive ones.
        positive_iou: Smallest IoU of a positive box with its object.
        negative_iou: IoU from which on a box is not negative.
        beta: Error up to which the box loss is quadratic; 0 for the absolute error.

    Raises:
        InvalidArgumentError: a value is out of range, or the negative IoU exceeds the positive one.
    """

    num: PositiveInt = 256
    positive_share: PositiveFraction = 0.5
    positive_iou: UnitInterval = 0.7
    negative_iou: UnitInterval = 0.3
    beta: NonNegative = 1 / 9

    def __post_init__(self) -> None:
        check_fields(self)
        if self.negative_iou > self.positive_iou:
            raise InvalidArgumentError(
                f"expected a negative_iou of at most positive_iou {self.positive_iou}, got {self.negative_iou}"
            )


class StageLoss(NamedTuple):
    """The losses of one stage, of all images, and the number of sampled boxes by which they are divided."""

    category: Tensor
    box: Tensor
    num: Tensor


def first_stage_loss(
    objectness: Tensor,
    offsets: Tensor,
    anchors: Tensor,
    targets: RegionTargets,
    sampling: StageSampling,
    kind: BoxLoss,
    *,
    best_anchors: BestOfEach,
    inside_only: bool,
    max_crowd: float,
) -> StageLoss:
    """Sum the losses of a sample of anchors.

    Args:
        objectness: float [B, A].
        offsets: float [B, A, 4].
        anchors: float [A, 4].
        targets: of the images.
        sampling: the rules.
        kind: the box loss.
        best_anchors: see :class:`RegionRepresentation`.
        inside_only: leave out anchors that exceed the valid part of the input.
        max_crowd: leave out anchors of which at least this share is ignored.
    """
    category, box, num = objectness.sum() * 0, offsets.sum() * 0, torch.zeros((), device=objectness.device)
    for b, objects in enumerate(objects_of(targets)):
        is_known = ~is_mostly_ignored(anchors, targets.segment[b], max_crowd)
        if inside_only:
            is_known &= is_inside(anchors, targets.valid[b])
        usable = is_known.nonzero()[:, 0]
        matches = match_boxes(
            anchors[usable],
            objects.box,
            positive=sampling.positive_iou,
            negative=sampling.negative_iou,
            best_of_each=best_anchors,
        )
        sample = sample_boxes(matches.label, sampling.num, sampling.positive_share)
        rows, label = usable[sample], matches.label[sample]
        category = category + F.binary_cross_entropy_with_logits(
            objectness[b, rows], label.to(objectness.dtype), reduction="sum"
        )
        is_positive = label == 1
        rows, matched = rows[is_positive], matches.object[sample][is_positive]
        box = box + sum_of_box_loss(
            offsets[b, rows], anchors[rows], objects.box[matched], objects.cut_off[matched], kind, sampling.beta
        )
        num = num + len(sample)
    return StageLoss(category, box, num)


def second_stage_loss(
    category: Tensor,
    offsets: Tensor,
    regions: Tensor,
    targets: RegionTargets,
    sampling: StageSampling,
    kind: BoxLoss,
) -> StageLoss:
    """Sum the losses of the sampled regions.

    Args:
        category: logits, background first, float [B, R, T + 1].
        offsets: float [B, R, T, 4].
        regions: as :func:`sample_regions` returns them, float [B, R, 4]; those without area do not count.
        targets: of the images.
        sampling: the rules by which the regions were sampled.
        kind: the box loss.
    """
    category_loss, box_loss = category.sum() * 0, offsets.sum() * 0
    num = torch.zeros((), device=category.device)
    for b, objects in enumerate(objects_of(targets)):
        rows = has_area(regions[b]).nonzero()[:, 0]
        matches = match_regions(regions[b, rows], objects.box, sampling)
        thing = torch.zeros_like(matches.label)
        is_positive = matches.label == 1
        thing[is_positive] = objects.category[matches.object[is_positive]]
        category_loss = category_loss + F.cross_entropy(category[b, rows], thing, reduction="sum")
        rows, matched, thing = rows[is_positive], matches.object[is_positive], thing[is_positive]
        box_loss = box_loss + sum_of_box_loss(
            offsets[b, rows, thing - 1],
            regions[b, rows],
            objects.box[matched],
            objects.cut_off[matched],
            kind,
            sampling.beta,
            SECOND_STAGE_WEIGHTS,
        )
        num = num + len(thing) + (~is_positive).sum()
    return StageLoss(category_loss, box_loss, num)


def sum_of_mask_loss(
    masks: Tensor, boxes: Tensor, targets: RegionTargets, sampling: StageSampling
) -> tuple[Tensor, Tensor]:
    """Sum the binary cross entropy of the cells of positive regions' masks.

    The target of a cell is whether the pixel at its centre belongs to the region's object; cells outside of the input
    and those on void do not count.

    Args:
        masks: logits, float [B, D, M, M].
        boxes: of the masks, float [B, D, 4]; those without area do not count.
        targets: of the images.
        sampling: the rules by which the boxes were assigned to objects.

    Returns:
        The sum, and the number of cells that count.
    """
    total, num = masks.sum() * 0, torch.zeros((), device=masks.device)
    for b, objects in enumerate(objects_of(targets)):
        rows = has_area(boxes[b]).nonzero()[:, 0]
        matches = match_regions(boxes[b, rows], objects.box, sampling)
        rows, matched = rows[matches.label == 1], matches.object[matches.label == 1]
        cost, num_cells = sum_over_cells(
            masks[b, rows], boxes[b, rows], matched, targets.segment[b], targets.semantic[b]
        )
        total, num = total + cost, num + num_cells
    return total, num


def sum_over_cells(
    masks: Tensor, boxes: Tensor, matched: Tensor, segment: Tensor, semantic: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum the binary cross entropy of masks of one image, see :func:`sum_of_mask_loss`.

    Args:
        masks: logits, float [N, M, M].
        boxes: of the masks, float [N, 4].
        matched: the object of each, int64 [N].
        segment: see :class:`RegionTargets`, int32 [H, W].
        semantic: see :class:`RegionTargets`, int64 [H, W].

    Returns:
        The sum, and the number of cells that count.
    """
    at_cells, known = (sample_at_cells(plane, boxes, masks.shape[-1]) for plane in (segment, semantic))
    is_object = at_cells == matched[:, None, None] + 1
    is_known = (known > 0).to(masks.dtype)
    cost = F.binary_cross_entropy_with_logits(masks, is_object.to(masks.dtype), is_known, reduction="sum")
    return cost, is_known.sum()


def sample_regions(
    proposals: Sequence[Tensor], targets: RegionTargets, sampling: StageSampling, *, max_crowd: float, of_empty: bool
) -> list[Tensor]:
    """Sample proposals for the second stage's losses; the boxes of objects are proposals, too.

    Args:
        proposals: of each image, float [P, 4].
        targets: of the images.
        sampling: the rules.
        max_crowd: leave out proposals of which at least this share is ignored.
        of_empty: also sample from images without objects, where all proposals are background.

    Returns:
        The sample of each image, positive ones first, float [R, 4].
    """
    sampled = []
    for b, objects in enumerate(objects_of(targets)):
        boxes = torch.cat([objects.box, proposals[b].detach()])
        if not of_empty and not len(objects.box):
            boxes = boxes[:0]
        boxes = boxes[has_area(boxes) & ~is_mostly_ignored(boxes, targets.segment[b], max_crowd)]
        matches = match_regions(boxes, objects.box, sampling)
        sampled.append(boxes[sample_boxes(matches.label, sampling.num, sampling.positive_share)])
    return sampled


def match_regions(regions: Tensor, objects: Tensor, sampling: StageSampling) -> BoxMatches:
    """Assign regions to objects by the rules of the second stage."""
    return match_boxes(regions, objects, positive=sampling.positive_iou, negative=sampling.negative_iou)


def sum_of_box_loss(
    offsets: Tensor,
    anchors: Tensor,
    boxes: Tensor,
    cut_off: Tensor,
    kind: BoxLoss,
    beta: float,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
) -> Tensor:
    """Sum the smooth L1 loss of boxes; for the arguments see :func:`box_targets`."""
    targets = box_targets(offsets, anchors, boxes, cut_off, kind, beta, weights)
    return F.smooth_l1_loss(offsets, targets, reduction="sum", beta=beta)


def box_targets(
    offsets: Tensor,
    anchors: Tensor,
    boxes: Tensor,
    cut_off: Tensor,
    kind: BoxLoss,
    beta: float,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
) -> Tensor:
    """Return the targets of offsets, float [N, 4]; "crop_aware" replaces them as the crop-aware box loss does.

    Args:
        offsets: float [N, 4].
        anchors: float [N, 4].
        boxes: visible boxes of the objects, float [N, 4].
        cut_off: bool [N, 4].
        kind: "ordinary" or "crop_aware".
        beta: see :class:`StageSampling`.
        weights: factors of the offsets.
    """
    targets = encode_boxes(boxes, anchors, weights).to(offsets.dtype)
    if kind == "crop_aware":
        targets = crop_aware_targets(offsets, targets, cut_off, weights=weights, beta=beta)
    return targets


class Objects(NamedTuple):
    """The objects of one image; see :class:`RegionTargets`, without unused rows."""

    box: Tensor
    category: Tensor
    cut_off: Tensor


def objects_of(targets: RegionTargets) -> list[Objects]:
    """Return the objects of each image."""
    numbers = (targets.category > 0).sum(dim=1).tolist()
    return [Objects(targets.box[b, :n], targets.category[b, :n], targets.cut_off[b, :n]) for b, n in enumerate(numbers)]


def is_mostly_ignored(boxes: Tensor, segment: Tensor, max_share: float) -> Tensor:
    """Return whether at least a share of each box is ignored, bool [N]; boxes are rounded to whole pixels.

    Args:
        boxes: float [N, 4].
        segment: int32 [H, W]; ignored pixels are negative.
        max_share: the share of the whole box, also of its part outside of the image.
    """
    ignored = segment < 0
    if not bool(ignored.any()):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    sums = F.pad(ignored.to(torch.float32).cumsum(0).cumsum(1), (1, 0, 1, 0))  # exact below 2^24 pixels
    limit = boxes.new_tensor([segment.shape[1], segment.shape[0]] * 2)
    x0, y0, x1, y1 = torch.minimum(boxes.round().clamp(min=0), limit).long().unbind(1)
    covered = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    return covered >= max_share * area.clamp(min=1)


def sample_at_cells(plane: Tensor, boxes: Tensor, num: int) -> Tensor:
    """Return the values of the pixels at the centres of ``num x num`` cells of each box, [N, num, num].

    Args:
        plane: [H, W].
        boxes: float [N, 4], xyxy.
        num: cells along each side.

    Returns:
        Of the type of ``plane``; 0 outside of it.
    """
    height, width = plane.shape
    steps = (torch.arange(num, device=boxes.device) + 0.5) / num
    x, y = (
        (boxes[:, axis, None] + (boxes[:, axis + 2, None] - boxes[:, axis, None]) * steps).floor().long()
        for axis in (0, 1)
    )
    values = plane[y.clamp(0, height - 1)[:, :, None], x.clamp(0, width - 1)[:, None]]
    is_outside = ((y < 0) | (y >= height))[:, :, None] | ((x < 0) | (x >= width))[:, None]
    return values.masked_fill(is_outside, 0)
