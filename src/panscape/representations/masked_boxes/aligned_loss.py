"""The loss of boxes without anchors: each object trains the cells that predict it best.

Feng et al., "TOOD: Task-aligned One-stage Object Detection" (ICCV 2021), Section 3.3: the cells of an object are those
with the highest alignment, a product of powers of the score and of the IoU, and the alignment is the target of the
score. Here the target is that of the objectness, and the categories of an object's cells are trained to 0 and 1. The
powers 0.5 and 6 are those in common use today; the paper has 1 and 6. The box loss is that of Zheng et al.,
"Distance-IoU Loss" (AAAI 2020): complete IoU.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.nn.losses import global_normalizers
from panscape.ops.yolo_boxes import decode_cells
from panscape.representations.masked_boxes.detector_loss import DetectorLoss, check_logits, is_large_enough
from panscape.representations.regions.losses import Objects, is_mostly_ignored, objects_of
from panscape.representations.regions.types import RegionTargets

_SCORE_POWER, _IOU_POWER = 0.5, 6.0


class CellTargets(NamedTuple):
    """What the cells of one image are trained for.

    Attributes:
        cell: index of each trained cell, ascending and without duplicates, int64 [P].
        object: the object of each, int64 [P].
        quality: target of the objectness: the alignment, scaled so that an object's largest one is its largest IoU,
            0..1, float32 [P].
    """

    cell: Tensor
    object: Tensor
    quality: Tensor


@torch.no_grad()
def assign_cells(
    logits: Tensor, cell: Tensor, targets: RegionTargets, *, cells_per_object: int, smallest_share: float
) -> list[CellTargets]:
    """Assign each object to the cells with the highest alignment among those whose centre shows it.

    The cells of each stride that have the centre of its box are candidates, too, so that small objects have some. A
    cell of several objects trains the one that its box overlaps most.

    Args:
        logits: float [B, N, 5 + T].
        cell: :func:`~panscape.ops.yolo_boxes.cells` of the padded input, one for each place, float [N, 5].
        targets: of the images.
        cells_per_object: largest number of cells of an object.
        smallest_share: objects whose width or height is a smaller share of the input's are left out.
    """
    decoded = decode_cells(logits, cell, centers_in_cells=False)
    score = decoded.objectness[..., None] * decoded.category_prob
    size = (targets.semantic.shape[1], targets.semantic.shape[2])
    column, row = ((cell[:, :2] + 0.5) * cell[:, 2:3]).long().unbind(1)
    found = []
    for b, objects in enumerate(objects_of(targets)):
        number = torch.arange(1, len(objects.box) + 1, device=cell.device)
        is_shown = targets.segment[b][row, column][:, None] == number
        candidates = is_shown | _has_center(cell, objects.box)
        candidates &= is_large_enough(objects.box, size, smallest_share)
        found.append(_most_aligned(decoded.boxes[b], score[b], objects, candidates, cells_per_object))
    return found


def aligned_detector_loss(
    logits: Tensor,
    cell: Tensor,
    targets: RegionTargets,
    num_things: int,
    *,
    cells_per_object: int,
    smallest_share: float,
    max_crowd: float,
) -> DetectorLoss:
    """Compare the logits of all cells with the objects of their images; see :func:`assign_cells`.

    Objectness: binary cross entropy to the quality, and to 0 for other cells. Boxes: one minus complete IoU;
    categories: binary cross entropy of all things; both of trained cells, weighted by the quality.

    Args:
        logits: float [B, N, 5 + T].
        cell: see :func:`assign_cells`.
        targets: of the images.
        num_things: T.
        cells_per_object: see :func:`assign_cells`.
        smallest_share: see :func:`assign_cells`.
        max_crowd: untrained cells whose predicted box is ignored by at least this share do not count.

    Returns:
        Each a sum, divided by the sum of qualities of the whole batch or 1, with a gradient path to the logits.

    Raises:
        InvalidArgumentError: the logits have other sizes than these cells, categories and images.
    """
    from torchvision import ops

    complete_iou_loss: Any = ops.complete_box_iou_loss
    check_logits(logits, cell, targets, num_things)
    assigned = assign_cells(logits, cell, targets, cells_per_object=cells_per_object, smallest_share=smallest_share)
    predicted = decode_cells(logits, cell, centers_in_cells=False).boxes
    box, category, objectness = logits[..., :4].sum() * 0, logits[..., 5:].sum() * 0, logits[..., 4].sum() * 0
    for b, (objects, trained) in enumerate(zip(objects_of(targets), assigned, strict=True)):
        target = torch.zeros_like(predicted[b, :, 0])
        target[trained.cell] = trained.quality
        counts = ~is_mostly_ignored(predicted[b].detach(), targets.segment[b], max_crowd)
        counts[trained.cell] = True
        costs = F.binary_cross_entropy_with_logits(logits[b, :, 4], target, reduction="none")
        objectness = objectness + costs[counts].sum()
        overlap = complete_iou_loss(predicted[b, trained.cell], objects.box[trained.object], reduction="none")
        box = box + (overlap * trained.quality).sum()
        thing = F.one_hot(objects.category[trained.object] - 1, num_things).to(logits.dtype)
        costs = F.binary_cross_entropy_with_logits(logits[b, trained.cell, 5:], thing, reduction="none")
        category = category + (costs.sum(dim=1) * trained.quality).sum()
    (total,) = global_normalizers(torch.stack([one.quality.sum() for one in assigned]).sum()[None])
    return DetectorLoss(box / total, objectness / total, category / total)


def _has_center(cell: Tensor, boxes: Tensor) -> Tensor:
    """Return whether each cell has the centre of each box, bool [N, M]."""
    centers = 0.5 * (boxes[:, :2] + boxes[:, 2:])
    return ((centers / cell[:, None, 2:3]).floor() == cell[:, None, :2]).all(dim=2)


def _most_aligned(boxes: Tensor, score: Tensor, objects: Objects, candidates: Tensor, num: int) -> CellTargets:
    """Choose among the candidate cells [N, M] of one image."""
    if not len(objects.box):
        nothing = objects.category
        return CellTargets(nothing, nothing, score[:0, 0])
    from torchvision import ops

    box_iou: Any = ops.box_iou
    iou: Tensor = box_iou(boxes, objects.box)
    alignment = score[:, objects.category - 1] ** _SCORE_POWER * iou**_IOU_POWER
    # Candidates without overlap come before cells that are no candidates.
    best, place = alignment.masked_fill(~candidates, -1).topk(min(num, len(boxes)), dim=0)
    is_chosen = torch.zeros_like(candidates).scatter(0, place, best >= 0)
    cell = is_chosen.any(dim=1).nonzero()[:, 0]
    matched = iou[cell].masked_fill(~is_chosen[cell], -1).argmax(dim=1)
    alignment, iou = alignment[cell, matched], iou[cell, matched]
    largest, largest_iou = (
        part.new_zeros(len(objects.box)).scatter_reduce(0, matched, part, "amax")[matched] for part in (alignment, iou)
    )
    tiny = torch.finfo(alignment.dtype).tiny
    return CellTargets(cell, matched, (alignment / largest.clamp(min=tiny) * largest_iou).nan_to_num(0))
