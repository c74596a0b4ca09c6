"""Assign boxes to objects by their overlap, and sample from them, for the losses of both stages."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

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
    boxes: Tensor, objects: Tensor, *, positive: float, negative: float, best_of_each: bool = False
) -> BoxMatches:
    """Assign each box to the object that it overlaps most.

    A box is positive from an IoU of ``positive`` on and negative below ``negative``.

    Args:
        boxes: float [N, 4], xyxy.
        objects: float [G, 4], xyxy.
        positive: smallest IoU of a positive box.
        negative: IoU from which on a box is not negative.
        best_of_each: whether the boxes that overlap an object most, if at all, are positive and belong to it, so that
            every object has one (Faster R-CNN, Section 3.1.2); of several such objects, the last.
    """
    from torchvision import ops

    box_iou: Any = ops.box_iou
    best_iou = boxes.new_zeros(len(boxes))
    best = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    most = boxes.new_zeros(len(objects))
    if len(objects):
        rows = max(1, _CHUNK // len(objects))
        for start in range(0, len(boxes), rows):
            part = slice(start, start + rows)
            iou = box_iou(boxes[part], objects)
            best_iou[part], best[part] = iou.max(dim=1)
            most = torch.maximum(most, iou.amax(dim=0))
        if best_of_each:
            for start in range(0, len(boxes), rows):
                part = slice(start, start + rows)
                is_most = (box_iou(boxes[part], objects) == most) & (most > 0)
                last = torch.where(is_most, torch.arange(len(objects), device=boxes.device), -1).amax(dim=1)
                best[part] = torch.where(last >= 0, last, best[part])
                best_iou[part] = torch.where(last >= 0, 1.0, best_iou[part])
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
