"""Boxes of YOLOv3: anchors, decoding of its logits, and selection of detections by NMS.

Redmon and Farhadi, "YOLOv3: An Incremental Improvement", arXiv:1804.02767, Section 2, with the thresholds of Darknet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.ops.boxes import has_area
from panscape.ops.nms import nms

ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
"""Width and height of YOLOv3's anchors in pixels of the input, of strides 8, 16 and 32: clusters of COCO's boxes."""

STRIDES = (8, 16, 32)

_MAX_CANDIDATES = 10_000  # before NMS, whose cost is quadratic; an untrained detector has hundreds of thousands
_LARGEST_EXPONENT = 10.0  # of sides in units of their anchor: 22026, beyond any image, but finite


class YoloBoxes(NamedTuple):
    """Decoded logits: one box of each anchor in each cell, by stride, row, column and anchor.

    Attributes:
        boxes: xyxy in pixels of the input, may exceed it, float32 [..., N, 4].
        objectness: probability of an object, float32 [..., N].
        category_prob: probability of each category if there is an object, independent of the others, float32
            [..., N, C].
    """

    boxes: Tensor
    objectness: Tensor
    category_prob: Tensor


class YoloDetections(NamedTuple):
    """Detections of one image, by descending score.

    Attributes:
        boxes: xyxy in pixels, float [D, 4].
        category: index of the detector's category, int64 [D].
        score: objectness times the category's probability, float [D].
        objectness: float [D].
        row: index of each box among those that were selected from, int64 [D].
    """

    boxes: Tensor
    category: Tensor
    score: Tensor
    objectness: Tensor
    row: Tensor


def flatten_logits(logits: Sequence[Tensor], num_anchors: int) -> Tensor:
    """Return the logits of all strides by stride, row, column and anchor, float [B, N, 5 + C].

    Args:
        logits: float [B, A * (5 + C), h, w] of each stride.
        num_anchors: A.

    Raises:
        InvalidArgumentError: the channels are not those of this number of anchors.
    """
    flat = []
    for level in logits:
        if level.ndim != 4 or level.shape[1] % num_anchors or level.shape[1] < 6 * num_anchors:
            raise InvalidArgumentError(
                f"expected logits [B, {num_anchors} * (5 + categories), h, w], got {list(level.shape)}"
            )
        batch, channels, rows, columns = level.shape
        by_anchor = level.reshape(batch, num_anchors, channels // num_anchors, rows, columns)
        flat.append(by_anchor.permute(0, 3, 4, 1, 2).flatten(1, 3))
    return torch.cat(flat, dim=1)


def cells(level_sizes: Sequence[tuple[int, int]], anchors: Tensor, strides: Sequence[int] = STRIDES) -> Tensor:
    """Return column, row, stride, width and height of the anchor of each box, float32 [N, 5], in their order.

    Args:
        level_sizes: rows and columns of each stride.
        anchors: width and height in pixels, by stride, float [L, A, 2].
        strides: in pixels.
    """
    found = []
    for (rows, columns), stride, sizes in zip(level_sizes, strides, anchors, strict=True):
        y, x = torch.meshgrid(
            torch.arange(rows, device=anchors.device), torch.arange(columns, device=anchors.device), indexing="ij"
        )
        place = torch.stack([x, y, torch.full_like(x, stride)], dim=-1).float()[:, :, None]
        shape = (rows, columns, len(sizes), -1)
        found.append(torch.cat([place.expand(shape), sizes.expand(rows, columns, -1, -1)], dim=-1).flatten(0, 2))
    return torch.cat(found)


def decode_logits(logits: Sequence[Tensor], anchors: Tensor, strides: Sequence[int] = STRIDES) -> YoloBoxes:
    """Return boxes and probabilities from the network's logits.

    The centre is the cell's column and row plus the sigmoid of the first two, times the stride. The size is the
    anchor's times the exponential of the next two. The others are logits of probabilities.

    Args:
        logits: of each stride, float [B, A * (5 + C), h, w]; the channels of an anchor are x, y, width, height,
            objectness and categories.
        anchors: width and height in pixels of the input, by stride, float [L, A, 2].
        strides: in pixels.

    Raises:
        InvalidArgumentError: the channels are not those of these anchors.
    """
    cell = cells([(level.shape[-2], level.shape[-1]) for level in logits], anchors.float(), strides)
    return decode_cells(flatten_logits(logits, anchors.shape[1]), cell)


def decode_cells(logits: Tensor, cell: Tensor, *, centers_in_cells: bool = True) -> YoloBoxes:
    """Return boxes and probabilities from flat logits; see :func:`decode_logits`.

    Args:
        logits: see :func:`flatten_logits`, float [..., N, 5 + C].
        cell: see :func:`cells`, float [N, 5].
        centers_in_cells: whether the centre of a box lies in its cell, as in YOLOv3; if not, the first two logits are
            its distance from the centre of the cell in units of the stride, as in YOLOX (arXiv:2107.08430).
    """
    logits = logits.float()
    offsets = logits[..., :2].sigmoid() if centers_in_cells else logits[..., :2] + 0.5
    centers = (offsets + cell[:, :2]) * cell[:, 2:3]
    half = 0.5 * cell[:, 3:] * logits[..., 2:4].clamp(max=_LARGEST_EXPONENT).exp()
    prob = logits[..., 4:].sigmoid()
    return YoloBoxes(torch.cat([centers - half, centers + half], dim=-1), prob[..., 0], prob[..., 1:])


def select_detections(
    boxes: Tensor,
    objectness: Tensor,
    category_prob: Tensor,
    *,
    min_score: float = 0.5,
    max_overlap: float = 0.45,
    max_detections: int = 100,
    one_category: bool = False,
) -> YoloDetections:
    """Return the detections of one image: NMS within each category, among the 10,000 best candidates.

    Args:
        boxes: float [N, 4]; boxes without area are dropped.
        objectness: float [N].
        category_prob: float [N, C].
        min_score: detections have a larger score, objectness times probability.
        max_overlap: detections whose IoU with a better one of their category is larger are dropped.
        max_detections: number of best detections to keep.
        one_category: keep each box under its best remaining category only; otherwise a box may remain under several.
    """
    all_scores = objectness[:, None] * category_prob
    row, category = ((all_scores > min_score) & has_area(boxes)[:, None]).nonzero(as_tuple=True)
    best = all_scores[row, category].sort(descending=True, stable=True).indices[:_MAX_CANDIDATES]
    row, category = row[best], category[best]
    score = all_scores[row, category]
    kept = nms(boxes[row].detach().float(), score.detach().float(), max_overlap, category)
    if one_category:
        place = torch.arange(kept.shape[0], device=kept.device)  # not len(), which export cannot trace
        first = place.new_full((len(boxes),), _MAX_CANDIDATES).scatter_reduce(0, row[kept], place, "amin")
        kept = kept[first[row[kept]] == place]
    kept = kept[:max_detections]
    row = row[kept]
    return YoloDetections(boxes[row], category[kept], score[kept], objectness[row], row)
