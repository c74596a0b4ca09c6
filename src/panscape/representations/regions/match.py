"""Assign boxes to objects by their overlap, and sample from them, for the losses of both stages."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

BestOfEach = Literal["one", "all"]

_CHUNK = 1 << 24  # pairs of boxes whose overlap is computed at a time; bounds the memory to some 100 MB


class BoxMatches(NamedTuple):
    """The object of each box.

    Attributes:
        object: index of the object with the largest IoU, int64 [N]; 0 if there is no object.
        label: 1 positive, 0 negative, -1 neither, int64 [N].
    """

    object: Tensor
    label: Tensor


def match_boxes(
    boxes: Tensor, objects: Tensor, *, positive: float, negative: float, best_of_each: BestOfEach | None = None
) -> BoxMatches:
    """Assign each box to the object that it overlaps most.

    A box is positive from an IoU of ``positive`` on and negative below ``negative``.

    Args:
        boxes: float [N, 4], xyxy.
        objects: float [G, 4], xyxy.
        positive: smallest IoU of a positive box.
        negative: IoU from which on a box is not negative.
        best_of_each: whether the box that overlaps an object most, if at all, is positive and belongs to it, so that
            every object has one (Faster R-CNN, Section 3.1.2); of several such objects, the last. "one" is the first of
            the boxes with the largest IoU (seamseg), "all" is each of them (detectron2): an object inside of many boxes
            has the same IoU with all of them.
    """
    from torchvision import ops

    box_iou: Any = ops.box_iou
    best_iou = boxes.new_zeros(len(boxes))
    best = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    most, best_box = boxes.new_zeros(len(objects)), best.new_zeros(len(objects))
    if len(objects):
        rows = max(1, _CHUNK // len(objects))
        for start in range(0, len(boxes), rows):
            part = slice(start, start + rows)
            iou = box_iou(boxes[part], objects)
            best_iou[part], best[part] = iou.max(dim=1)
            iou_here, box_here = iou.max(dim=0)  # the first of equal ones
            best_box = torch.where(iou_here > most, start + box_here, best_box)
            most = torch.maximum(most, iou_here)
        number, last = torch.arange(len(objects), device=boxes.device), torch.full_like(best, -1)
        if best_of_each == "one":
            last = last.scatter_reduce(0, best_box[most > 0], number[most > 0], "amax")
        elif best_of_each == "all":
            for start in range(0, len(boxes), rows):
                part = slice(start, start + rows)
                is_most = (box_iou(boxes[part], objects) == most) & (most > 0)
                last[part] = torch.where(is_most, number, -1).amax(dim=1)
        best = torch.where(last >= 0, last, best)
        best_iou = torch.where(last >= 0, 1.0, best_iou)
    label = torch.full_like(best, -1)
    label[best_iou < negative] = 0
    label[best_iou >= positive] = 1
    return BoxMatches(best, label)


def sample_boxes(label: Tensor, num: int, positive_share: float) -> Tensor:
    """Return a random sample of positive and negative boxes, by torch's global generator.

    Args:
        label: see :class:`BoxMatches`, int64 [N].
        num: size of the sample; with too few boxes it is smaller.
        positive_share: largest share of positive boxes; negative ones fill the rest.

    Returns:
        Indices, the positive ones first, int64 [M].
    """
    num_positive = int(num * positive_share)
    positive = _random_subset((label == 1).nonzero()[:, 0], num_positive)
    negative = _random_subset((label == 0).nonzero()[:, 0], num - len(positive))
    return torch.cat([positive, negative])


def _random_subset(indices: Tensor, num: int) -> Tensor:
    return indices[torch.randperm(len(indices), device=indices.device)[:num]]
