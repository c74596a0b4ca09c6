"""Losses of dense boxes over locations, as sums that are divided by the counts of the whole batch.

Real-Time Panoptic Segmentation from Dense Detections (Hou et al., CVPR 2020, Sections 4.2 and 4.3). Losses are sums,
not means, as several processes may share a batch: see ``panscape.nn.losses.global_normalizers``.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.nn.losses import ltrb_iou_loss, sigmoid_focal_loss
from panscape.representations.dense_boxes.locations import Pyramid, dense_boxes, distance2box, fcos_locations
from panscape.representations.dense_boxes.select_boxes import BoxSelection, select_boxes


class MaskQueries(NamedTuple):
    """Detected boxes that belong to ground-truth objects, of all images of a batch.

    Attributes:
        image: index of the image in the batch, int64 [Q].
        boxes: xyxy in pixels, float32 [Q, 4].
        quality: IoU of the box with the object's true box, float32 [Q].
        segment: the object, as in the targets, int32 [Q].
    """

    image: Tensor
    boxes: Tensor
    quality: Tensor
    segment: Tensor


def centerness_of(distances: Tensor) -> Tensor:
    """Return the centerness of locations: 1 at the centre of their box, 0 on a side (FCOS, Equation 3).

    Args:
        distances: to the left, top, right and bottom side, float [N, 4]; widths and heights are positive.
    """
    low, high = torch.stack([distances[:, :2], distances[:, 2:]]).aminmax(dim=0)
    return (low / high).prod(1).sqrt()


def sum_of_box_loss(box: Tensor, box_category: Tensor, target: Tensor, kind: Literal["iou", "giou"]) -> Tensor:
    """Sum the box loss over the locations with an object.

    Args:
        box: predicted distances, float [B, 4, L].
        box_category: target, int64 [B, L], above 0 at locations with an object.
        target: distances, float [B, 4, L].
        kind: see :func:`panscape.nn.losses.ltrb_iou_loss`.
    """
    has_object = box_category > 0
    return ltrb_iou_loss(box.transpose(1, 2)[has_object], target.transpose(1, 2)[has_object], kind).sum()


def sum_of_centerness_loss(centerness: Tensor, box_category: Tensor, target: Tensor) -> Tensor:
    """Sum the cross entropy of centerness over the locations with an object.

    Args:
        centerness: logits, float [B, L].
        box_category: as for :func:`sum_of_box_loss`.
        target: as for :func:`sum_of_box_loss`.
    """
    has_object = box_category > 0
    expected = centerness_of(target.transpose(1, 2)[has_object]).to(centerness.dtype)
    return F.binary_cross_entropy_with_logits(centerness[has_object], expected, reduction="sum")


def sum_of_category_loss(logits: Tensor, box_category: Tensor) -> Tensor:
    """Sum the focal loss over things and over the locations that are not ignored.

    Args:
        logits: float [B, T, L].
        box_category: target, int64 [B, L], the thing's channel + 1; 0 background, -1 ignored.
    """
    channels = torch.arange(1, logits.shape[1] + 1, device=logits.device)
    target = (box_category[:, None] == channels[:, None]).to(logits.dtype)
    return (sigmoid_focal_loss(logits, target) * (box_category >= 0)[:, None]).sum()


def mask_queries(
    box_category: Tensor,
    box: Tensor,
    centerness: Tensor,
    target: Tensor,
    location_segment: Tensor,
    pyramid: Pyramid,
    selection: BoxSelection,
    max_detections: int,
) -> MaskQueries:
    """Detect boxes as in inference and keep those predicted by an object's location, by descending score.

    Args:
        box_category: logits, float [B, T, L].
        box: predicted distances, float [B, 4, L]; gradients flow to the boxes, not to their quality.
        centerness: logits, float [B, L].
        target: distances, float [B, 4, L].
        location_segment: the object of each location, int32 [B, L]; 0 for none.
        pyramid: geometry of the locations.
        selection: options of selecting boxes, as in inference.
        max_detections: maximum number of boxes of an image.
    """
    points = fcos_locations(pyramid, box.device)
    height, width = pyramid.padded_size
    limit = torch.tensor([width - 1, height - 1] * 2, dtype=torch.float32, device=box.device)
    found = []
    for i in range(len(box)):
        # Boxes are clipped to the padded size, as the targets do not hold the size without padding.
        location = select_boxes(
            box_category[i], box[i], centerness[i], pyramid, pyramid.padded_size, selection
        ).location
        location = location[location_segment[i][location] > 0][:max_detections]
        boxes, own = (distance2box(points[:, location], part[i][:, location].float()).T for part in (box, target))
        boxes = torch.minimum(boxes.clamp_min(0), limit)
        quality = paired_iou(boxes.detach(), own)
        found.append(MaskQueries(torch.full_like(location, i), boxes, quality, location_segment[i][location]))
    return MaskQueries(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def sum_of_mask_loss(
    box: Tensor, level: Tensor | None, queries: MaskQueries, segment: Tensor, known: Tensor, pyramid: Pyramid
) -> Tensor:
    """Sum the mask loss over queries: the difference of masks from dense boxes to true masks (Equations 16 to 18).

    The loss of a cell outside the object is the IoU of its box with the query, inside the object one minus that. The
    sum over cells is divided by the object's number of cells and weighted by the query's quality. Gradients flow
    through the dense boxes, and through the queries' boxes if these require gradients. A cell without a level has an
    IoU of 0. Without levelness, the level with the largest IoU counts.

    Args:
        box: predicted distances, float [B, 4, L].
        level: the level whose box each cell takes, int64 [B, 2h, 2w], -1 for none; None without levelness.
        queries: the detected boxes whose masks are compared.
        segment: the object at each cell, int32 [B, 2h, 2w].
        known: bool [B, 2h, 2w], cells that count.
        pyramid: geometry of the locations.
    """
    dense = dense_boxes(box, level, pyramid).flatten(3)
    total = box[..., :0].sum().float()  # 0, with a gradient path
    for i in range(len(box)):
        mine = queries.image == i
        if not bool(mine.any()):
            continue
        iou = _largest_iou(queries.boxes[mine], dense[i])
        inside = queries.segment[mine, None] == segment[i].flatten()
        # iou outside and 1 - iou inside make a signed sum plus the number of cells inside.
        sign = known[i].flatten().to(iou.dtype) - 2 * inside.to(iou.dtype)
        num = inside.sum(1)
        error = ((iou * sign).sum(1) + num).clamp_min(0)  # rounding could make it negative
        total = total + (queries.quality[mine] * error / num.clamp_min(1)).sum()
    return total.to(box.dtype)


def paired_iou(some: Tensor, other: Tensor) -> Tensor:
    """Return the IoU of corresponding boxes, float [N]; 0 if both are empty."""
    return _iou(some.unbind(1), other.unbind(1))


def _largest_iou(boxes: Tensor, dense: Tensor) -> Tensor:
    """Return the IoU of boxes [Q, 4] with those of cells [D, 4, N], the maximum over D, float [Q, N]."""
    sides = [side[:, None] for side in boxes.unbind(1)]
    ious = [_iou(sides, cell.unbind(0)) for cell in dense]
    return ious[0] if len(ious) == 1 else torch.stack(ious).amax(0)


def _iou(some: tuple[Tensor, ...] | list[Tensor], other: tuple[Tensor, ...]) -> Tensor:
    width = torch.minimum(some[2], other[2]) - torch.maximum(some[0], other[0])
    height = torch.minimum(some[3], other[3]) - torch.maximum(some[1], other[1])
    intersection = width.clamp_min(0) * height.clamp_min(0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (some, other)]
    return intersection / (areas[0] + areas[1] - intersection).clamp_min(1e-6)
