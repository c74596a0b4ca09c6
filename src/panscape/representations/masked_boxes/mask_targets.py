"""Boxes on which masks are trained, and the objects that they belong to.

Diaz-Zapata, "YOLO-Based Panoptic Segmentation" (MSc thesis, 2020), Section 3.3, trains masks on detections and
the objects they match. Objects that the detector misses would never train; here their boxes, jittered, are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from panscape.constraints import BelowOne, PositiveFraction, PositiveInt, check_fields
from panscape.ops.boxes import clip_boxes, has_area
from panscape.representations.masked_boxes.aligned_loss import CellTargets
from panscape.representations.regions.losses import Objects, objects_of, sum_over_cells
from panscape.representations.regions.types import RegionTargets


@dataclass(frozen=True, slots=True)
class MaskSampling:
    """How the boxes of masks are assigned to objects and sampled for training.

    Attributes:
        num: Number of boxes of an image.
        min_iou: Smallest IoU of a box with its object, which has the same category.
        jitter: Largest shift of each side of an object's box, as a share of the box.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    num: PositiveInt = 32
    min_iou: PositiveFraction = 0.5
    jitter: BelowOne = 0.1

    def __post_init__(self) -> None:
        check_fields(self)


class MaskBoxes(NamedTuple):
    """Boxes of masks of a batch; unused rows are 0.

    Attributes:
        boxes: xyxy in pixels of the input, float [B, D, 4].
        category: index into ``labels.thing_ids``, int64 [B, D].
    """

    boxes: Tensor
    category: Tensor


def sample_mask_boxes(
    boxes: Sequence[Tensor], categories: Sequence[Tensor], targets: RegionTargets, sampling: MaskSampling
) -> MaskBoxes:
    """Sample detections that match an object and jittered boxes of objects, by torch's global generator.

    An object's jittered box that does not match any more is replaced by its own. No object gets a further box before
    all others have one.

    Args:
        boxes: detections of each image, float [P, 4].
        categories: of the detections, indices into ``labels.thing_ids``, int64 [P].
        targets: of the images.
        sampling: the rules; D is their ``num``.
    """
    found = MaskBoxes(
        targets.box.new_zeros(len(boxes), sampling.num, 4), targets.category.new_zeros(len(boxes), sampling.num)
    )
    for b, objects in enumerate(objects_of(targets)):
        detected = clip_boxes(boxes[b].detach().to(objects.box.dtype), targets.valid[b])
        jittered = _jittered(objects.box, targets.valid[b], sampling.jitter)
        is_matched = match_masks(jittered, objects.category - 1, objects, sampling.min_iou) >= 0
        box = torch.cat([detected, torch.where(is_matched[:, None], jittered, objects.box)])
        category = torch.cat([categories[b], objects.category - 1])
        matched = match_masks(box, category, objects, sampling.min_iou)
        rows = _sample_evenly((matched >= 0).nonzero()[:, 0], matched, sampling.num)
        found.boxes[b, : len(rows)], found.category[b, : len(rows)] = box[rows], category[rows]
    return found


def sample_mask_cells(
    cells: Sequence[CellTargets], targets: RegionTargets, sampling: MaskSampling
) -> tuple[MaskBoxes, Tensor]:
    """Sample cells that are trained for objects, by torch's global generator.

    No object gets a further cell before all others have one.

    Args:
        cells: of each image.
        targets: of the images.
        sampling: the rules; D is their ``num``.

    Returns:
        The jittered boxes of their objects, and the cells, int64 [B, D].
    """
    found = MaskBoxes(
        targets.box.new_zeros(len(cells), sampling.num, 4), targets.category.new_zeros(len(cells), sampling.num)
    )
    index = torch.zeros_like(found.category)
    for b, (objects, one) in enumerate(zip(objects_of(targets), cells, strict=True)):
        boxes = _jittered(objects.box[one.object], targets.valid[b], sampling.jitter)
        rows = _sample_evenly(has_area(boxes).nonzero()[:, 0], one.object, sampling.num)
        found.boxes[b, : len(rows)] = boxes[rows]
        found.category[b, : len(rows)] = objects.category[one.object[rows]] - 1
        index[b, : len(rows)] = one.cell[rows]
    return found, index


def _sample_evenly(rows: Tensor, of_object: Tensor, num: int) -> Tensor:
    """Return ``num`` of the rows at random; no object gets a further one before all others have one.

    Args:
        rows: int64 [R].
        of_object: object of each row, int64 [N].
        num: number of rows to return, if there are as many.
    """
    rows = rows[torch.randperm(len(rows), device=rows.device)]
    earlier = (of_object[rows, None] == of_object[rows]).tril(-1).sum(dim=1)
    return rows[earlier.sort(stable=True).indices[:num]]


def _jittered(boxes: Tensor, window: Tensor, jitter: float) -> Tensor:
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return clip_boxes(boxes + (2 * torch.rand_like(boxes) - 1) * jitter * sides, window)


def match_masks(boxes: Tensor, category: Tensor, objects: Objects, min_iou: float) -> Tensor:
    """Return the object of each box: of its category, with the largest IoU, at least ``min_iou``; -1 for none.

    Args:
        boxes: of one image, float [N, 4].
        category: index into ``labels.thing_ids``, int64 [N].
        objects: of the image.
        min_iou: see above.

    Returns:
        int64 [N].
    """
    if not len(objects.box):
        return torch.full_like(category, -1)
    from torchvision import ops

    box_iou: Any = ops.box_iou
    iou: Tensor = box_iou(boxes, objects.box) * (category[:, None] + 1 == objects.category)
    best, matched = iou.max(dim=1)
    return torch.where(best >= min_iou, matched, -1)


def sum_of_mask_loss(
    masks: Tensor, mask_boxes: MaskBoxes, targets: RegionTargets, min_iou: float
) -> tuple[Tensor, Tensor]:
    """Sum the binary cross entropy of the cells of all masks whose boxes match an object.

    The target of a cell is whether the pixel at its centre belongs to the object; cells outside of the input and those
    on void do not count.

    Args:
        masks: logits, float [B, D, M, M].
        mask_boxes: of the masks.
        targets: of the images.
        min_iou: see :func:`match_masks`.

    Returns:
        The sum, and the number of cells that count.
    """
    total, num = masks.sum() * 0, torch.zeros((), device=masks.device)
    for b, objects in enumerate(objects_of(targets)):
        matched = match_masks(mask_boxes.boxes[b], mask_boxes.category[b], objects, min_iou)
        rows = (matched >= 0).nonzero()[:, 0]
        cost, num_cells = sum_over_cells(
            masks[b, rows], mask_boxes.boxes[b, rows], matched[rows], targets.segment[b], targets.semantic[b]
        )
        total, num = total + cost, num + num_cells
    return total, num
