"""The loss of YOLOv3's boxes: each object trains one anchor in one cell.

Redmon and Farhadi, "YOLOv3: An Incremental Improvement", arXiv:1804.02767, Section 2; what it leaves open is as in
Darknet, whose layer computes these gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.ops.yolo_boxes import decode_cells
from panscape.representations.masked_boxes.anchors import sides_iou
from panscape.representations.regions.losses import Objects, is_mostly_ignored, objects_of
from panscape.representations.regions.types import RegionTargets


class DetectorLoss(NamedTuple):
    """The losses of a batch, each a sum over anchors and a mean over images."""

    box: Tensor
    objectness: Tensor
    category: Tensor


class AnchorTargets(NamedTuple):
    """What the anchors of one image are trained for.

    Attributes:
        anchor: index of each trained anchor, ascending and without duplicates, int64 [P].
        object: the object of each; of several objects with one anchor, the last, int64 [P].
        category: which things the objects of each anchor are, float [P, T].
    """

    anchor: Tensor
    object: Tensor
    category: Tensor


def detector_loss(
    logits: Tensor,
    cell: Tensor,
    targets: RegionTargets,
    num_things: int,
    *,
    ignore_iou: float,
    smallest_share: float,
    max_crowd: float,
) -> DetectorLoss:
    """Compare the logits of all anchors with the objects of their images.

    Boxes: binary cross entropy of the centre's place in its cell, half the squared error of the sides' logarithms,
    times 2 minus the object's share of the input. Objectness: binary cross entropy, to 1 for trained anchors and to 0
    for the others, except those whose predicted box overlaps an object by more than ``ignore_iou``. Categories:
    independent binary cross entropy of trained anchors.

    Args:
        logits: float [B, N, 5 + T].
        cell: :func:`~panscape.ops.yolo_boxes.cells` of the padded input, by anchor, float [N, 5].
        targets: of the images.
        num_things: T, the number of the detector's categories.
        ignore_iou: see above.
        smallest_share: objects whose width or height is a smaller share of the input's are left out.
        max_crowd: untrained anchors whose predicted box is ignored by at least this share do not count.

    Returns:
        Each with a gradient path to the logits, whatever the ground truth.

    Raises:
        InvalidArgumentError: the logits have other sizes than these cells, categories and images.
    """
    check_logits(logits, cell, targets, num_things)
    size = (targets.semantic.shape[1], targets.semantic.shape[2])
    box, category, objectness = logits[..., :4].sum() * 0, logits[..., 5:].sum() * 0, logits[..., 4].sum() * 0
    predicted = decode_cells(logits.detach(), cell).boxes
    for b, all_objects in enumerate(objects_of(targets)):
        is_large = is_large_enough(all_objects.box, size, smallest_share)
        objects = Objects(*(part[is_large] for part in all_objects))
        trained = assign_anchors(objects, cell, size[1], num_things)
        target = torch.zeros_like(cell[:, 0])
        target[trained.anchor] = 1
        counts = ~_overlap_any(predicted[b], objects.box, ignore_iou)
        counts &= ~is_mostly_ignored(predicted[b], targets.segment[b], max_crowd)
        counts[trained.anchor] = True
        costs = F.binary_cross_entropy_with_logits(logits[b, :, 4], target, reduction="none")
        objectness = objectness + costs[counts].sum()
        found = logits[b, trained.anchor]
        box = box + _box_loss(found[:, :4], objects.box[trained.object], cell[trained.anchor], size)
        category = category + F.binary_cross_entropy_with_logits(found[:, 5:], trained.category, reduction="sum")
    return DetectorLoss(box / len(logits), objectness / len(logits), category / len(logits))


def assign_anchors(objects: Objects, cell: Tensor, width: int, num_things: int) -> AnchorTargets:
    """Assign each object to the anchor whose sides overlap its own most, in the cell that has its centre.

    Args:
        objects: of one image.
        cell: column, row, stride, width and height by anchor, float [N, 5].
        width: width of the padded input, a multiple of all strides.
        num_things: number of things.
    """
    first = ((cell[:, 0] == 0) & (cell[:, 1] == 0)).nonzero()[:, 0]  # the anchors of the first cell of each stride
    sides = objects.box[:, 2:] - objects.box[:, :2]
    kind = sides_iou(sides, cell[first, 3:]).argmax(dim=1)
    strides = cell[first, 2]
    column, row = (0.5 * (objects.box[:, :2] + objects.box[:, 2:]) / strides[kind, None]).long().unbind(1)
    num_columns = (width / strides).long()
    num_anchors = (strides[:, None] == strides).sum(dim=1)
    anchor = first[kind] + (row * num_columns[kind] + column) * num_anchors[kind]
    order = torch.arange(len(anchor), device=cell.device)
    unique, slot = torch.unique(anchor, return_inverse=True)
    last = torch.zeros_like(unique).scatter_reduce(0, slot, order, "amax")
    category = torch.zeros(len(unique), num_things, device=cell.device)
    category[slot, objects.category - 1] = 1
    return AnchorTargets(unique, last, category)


def _box_loss(logits: Tensor, boxes: Tensor, cell: Tensor, size: Sequence[int]) -> Tensor:
    sides = boxes[:, 2:] - boxes[:, :2]
    centers = 0.5 * (boxes[:, 2:] + boxes[:, :2])
    offsets = centers / cell[:, 2:3] - cell[:, :2]
    logarithms = (sides / cell[:, 3:]).log()
    place = F.binary_cross_entropy_with_logits(logits[:, :2], offsets, reduction="none")
    shape = 0.5 * (logits[:, 2:] - logarithms).square()
    weight = 2 - sides.prod(dim=1) / (size[0] * size[1])
    return (weight[:, None] * (place + shape)).sum()


def is_large_enough(boxes: Tensor, size: tuple[int, int], share: float) -> Tensor:
    """Return whether both sides of each box are at least this share of the input's, bool [N].

    Args:
        boxes: float [N, 4].
        size: height and width of the input.
        share: see above.
    """
    return (boxes[:, 2:] - boxes[:, :2] >= boxes.new_tensor([size[1], size[0]]) * share).all(dim=1)


def check_logits(logits: Tensor, cell: Tensor, targets: RegionTargets, num_things: int) -> None:
    """Check the logits of a detector.

    Raises:
        InvalidArgumentError: they have other sizes than these cells, categories and images.
    """
    expected = [len(targets.semantic), len(cell), 5 + num_things]
    if list(logits.shape) != expected:
        raise InvalidArgumentError(
            f"expected detector logits {expected} for {num_things} things, got "
            f"{list(logits.shape)}; encode the same crop that entered the network, and train a detector of these things"
        )


def _overlap_any(boxes: Tensor, objects: Tensor, iou: float) -> Tensor:
    """Return whether each box has a larger IoU with an object, bool [N]."""
    if not len(objects):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    from torchvision import ops

    box_iou: Any = ops.box_iou
    found: Tensor = box_iou(boxes, objects).amax(dim=1) > iou
    return found
