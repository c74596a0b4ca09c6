"""Which of many predicted boxes are objects: the surest of each level, without the duplicates.

The selection of Real-Time Panoptic Segmentation from Dense Detections (Hou et al., CVPR 2020) in the exact semantics of
its released code, with two corrections that are named:

1. Every location and category whose probability is above a threshold is a candidate; one location may give several.
   Its score is that probability times the location's centerness.
2. Of each level the highest ``pre_nms_top_k`` are kept, ties in the order of location and category (the code: any
   order).
3. Boxes are clipped to 0..W-1 and 0..H-1.
4. Within each category, a box goes whose overlap (IoU) with a higher one exceeds a threshold. The code leaves the last
   category out where there is no stuff; here none is.
5. Then, of boxes of any category, those go that overlap a higher one even more.
6. The highest ``max_boxes`` are kept, and those that tie with the last of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.ops.interpolate import finite_values
from panscape.ops.nms import nms
from panscape.representations.dense_boxes.locations import distance2box, fcos_locations, level_sizes


@dataclass(frozen=True, slots=True)
class BoxSelection:
    """How candidates are chosen; the defaults are those of the released code.

    Attributes:
        threshold: a candidate's probability is above it, before centerness; 0..1.
        pre_nms_top_k: no more candidates of a level than this, at least 1.
        nms_iou: boxes of one category that overlap a higher one by more than this go; 0..1.
        class_agnostic_nms_iou: boxes that overlap a higher one of any category by more than this go; 0..1, 1 keeps all.
        max_boxes: no more boxes than this, but for ties; at least 1.
    """

    threshold: float = 0.06
    pre_nms_top_k: int = 1000
    nms_iou: float = 0.6
    class_agnostic_nms_iou: float = 0.97
    max_boxes: int = 100

    def __post_init__(self) -> None:
        for name in ("threshold", "nms_iou", "class_agnostic_nms_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidArgumentError(f"expected {name} in 0..1, got {getattr(self, name)}")
        for name in ("pre_nms_top_k", "max_boxes"):
            if getattr(self, name) < 1:
                raise InvalidArgumentError(f"expected {name} of 1 or more, got {getattr(self, name)}")


class Boxes(NamedTuple):
    """Detected boxes of one image, highest score first.

    Attributes:
        box: float32 [P, 4], xyxy in pixels of the input, clipped.
        category: int64 [P], a channel of the category logits.
        score: float32 [P] in 0..1.
        location: int64 [P], where the box was predicted.
    """

    box: Tensor
    category: Tensor
    score: Tensor
    location: Tensor


def select_boxes(
    box_category: Tensor,
    box: Tensor,
    centerness: Tensor,
    padded_size: tuple[int, int],
    size: tuple[int, int],
    finest_stride: int,
    num_levels: int,
    selection: BoxSelection,
) -> Boxes:
    """Select the boxes of one image by the rules above; without gradients.

    Args:
        box_category: logits, float [T, L]; those that are not a number, here and in ``centerness``, are the lowest.
        box: distances to the left, top, right and bottom side, float [4, L]; 0 where they are not a number.
        centerness: logits, float [L].
        padded_size: height and width of the network's input.
        size: height and width of the image in its top left corner, to which boxes are clipped.
        finest_stride: as for ``level_sizes``.
        num_levels: as for ``level_sizes``.
        selection: what to keep.

    Raises:
        InvalidArgumentError: shapes do not go with ``padded_size``.
    """
    ends = [0]
    for level in level_sizes(padded_size, finest_stride, num_levels):
        ends.append(ends[-1] + level.area)
    for name, part, ndim in (("box_category", box_category, 2), ("box", box, 2), ("centerness", centerness, 1)):
        if part.ndim != ndim or part.shape[-1] != ends[-1]:
            raise InvalidArgumentError(
                f"expected {name} with {ends[-1]} locations for {padded_size[0]}x{padded_size[1]} pixels, "
                f"got {list(part.shape)}"
            )
    with torch.no_grad():
        found = _candidates(box_category.detach(), centerness.detach(), ends, selection)
        points = fcos_locations(padded_size, finest_stride, num_levels, box.device)[:, found.location]
        corners = distance2box(points, finite_values(box[:, found.location], nan=0)).T
        limit = corners.new_tensor([size[1] - 1, size[0] - 1, size[1] - 1, size[0] - 1])
        found = found._replace(box=torch.minimum(corners.clamp_min(0), limit))
        return _highest(_without_duplicates(found, selection), selection.max_boxes)


def _candidates(box_category: Tensor, centerness: Tensor, ends: list[int], selection: BoxSelection) -> Boxes:
    """Return the candidates of all levels in the order of location and category; their boxes are still empty."""
    prob = finite_values(box_category).sigmoid()
    sureness = finite_values(centerness).sigmoid()
    location, category = (prob > selection.threshold).T.nonzero().unbind(1)
    score = prob[category, location] * sureness[location]
    kept = []
    begins = torch.searchsorted(location, location.new_tensor(ends)).tolist()
    for begin, end in pairwise(begins):
        number = torch.arange(begin, end, device=score.device)
        if end - begin > selection.pre_nms_top_k:
            order = score[begin:end].sort(descending=True, stable=True).indices[: selection.pre_nms_top_k]
            number = number[order.sort().values]
        kept.append(number)
    chosen = torch.cat(kept)
    return Boxes(score.new_zeros(len(chosen), 4), category[chosen], score[chosen], location[chosen])


def _without_duplicates(found: Boxes, selection: BoxSelection) -> Boxes:
    """Suppress boxes within each category, then across them; the highest first, ties by category, then location."""
    if len(found.score) == 0:
        return found
    kept = []
    for category in torch.unique(found.category).tolist():
        number = (found.category == category).nonzero()[:, 0]
        # Each category by itself: shifting them apart, as is usual, would round overlaps differently.
        kept.append(number[nms(found.box[number], found.score[number], selection.nms_iou)])
    chosen = torch.cat(kept)
    chosen = chosen[nms(found.box[chosen], found.score[chosen], selection.class_agnostic_nms_iou)]
    return Boxes(*(part[chosen] for part in found))


def _highest(found: Boxes, max_boxes: int) -> Boxes:
    """Keep the first ``max_boxes`` and those that have the score of the last one."""
    if len(found.score) <= max_boxes:
        return found
    num = int((found.score >= found.score[max_boxes - 1]).sum())
    return Boxes(*(part[:num] for part in found))
