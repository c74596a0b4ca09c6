"""Select objects among predicted boxes: score threshold, top-k of each level, and NMS.

The selection of Real-Time Panoptic Segmentation from Dense Detections (Hou et al., CVPR 2020) with the exact semantics
of its released code, except for two corrections in steps 2 and 4:

1. Every location and category whose probability is above a threshold is a candidate; one location may give several.
   Its score is that probability times the location's centerness.
2. The ``pre_nms_top_k`` candidates of highest score are kept in each level, ties in the order of location and category
   (the code: any order).
3. Boxes are clipped to 0..W-1 and 0..H-1.
4. NMS within each category drops boxes whose IoU with a higher-scoring box exceeds a threshold. The code skips the last
   category if there is no stuff; here no category is skipped.
5. Class-agnostic NMS with a higher threshold follows.
6. The ``max_boxes`` boxes of highest score are kept, and those with the same score as the last of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from panscape.constraints import PositiveInt, UnitInterval, check_fields
from panscape.errors import InvalidArgumentError
from panscape.ops.interpolate import finite_values
from panscape.ops.nms import nms
from panscape.representations.dense_boxes.locations import Pyramid, distance2box, fcos_locations, level_sizes


@dataclass(frozen=True, slots=True)
class BoxSelection:
    """Options of selecting boxes; the defaults are those of the released code.

    Attributes:
        threshold: minimum probability of a candidate before centerness, exclusive; 0..1.
        pre_nms_top_k: maximum number of candidates of a level, at least 1.
        nms_iou: IoU threshold of NMS within a category; 0..1.
        class_agnostic_nms_iou: IoU threshold of NMS across categories; 0..1, 1 keeps all boxes.
        max_boxes: maximum number of boxes, except for ties; at least 1.
    """

    threshold: UnitInterval = 0.06
    pre_nms_top_k: PositiveInt = 1000
    nms_iou: UnitInterval = 0.6
    class_agnostic_nms_iou: UnitInterval = 0.97
    max_boxes: PositiveInt = 100

    def __post_init__(self) -> None:
        check_fields(self)


class Boxes(NamedTuple):
    """Detected boxes of one image, highest score first.

    Attributes:
        boxes: float32 [P, 4], xyxy in pixels of the input, clipped.
        category: int64 [P], a channel of the category logits.
        score: float32 [P] in 0..1.
        location: int64 [P], the location that predicted the box.
    """

    boxes: Tensor
    category: Tensor
    score: Tensor
    location: Tensor


def select_boxes(
    box_category: Tensor,
    box: Tensor,
    centerness: Tensor,
    pyramid: Pyramid,
    size: tuple[int, int],
    selection: BoxSelection,
) -> Boxes:
    """Select the boxes of one image by the rules above; without gradients.

    Args:
        box_category: logits, float [T, L]; NaN, here and in ``centerness``, counts as the lowest value.
        box: distances to the left, top, right and bottom side, float [4, L]; NaN counts as 0.
        centerness: logits, float [L].
        pyramid: geometry of the locations.
        size: height and width of the image in the top left corner of the network's input, to which boxes are clipped.
        selection: options of selecting boxes.

    Raises:
        InvalidArgumentError: shapes do not match the padded size.
    """
    ends = [0]
    for level in level_sizes(pyramid):
        ends.append(ends[-1] + level.area)
    for name, part, ndim in (("box_category", box_category, 2), ("box", box, 2), ("centerness", centerness, 1)):
        if part.ndim != ndim or part.shape[-1] != ends[-1]:
            raise InvalidArgumentError(
                f"expected {name} with {ends[-1]} locations for {pyramid.padded_size[0]}x{pyramid.padded_size[1]} "
                f"pixels, got {list(part.shape)}"
            )
    with torch.no_grad():
        found = _candidates(box_category.detach(), centerness.detach(), ends, selection)
        points = fcos_locations(pyramid, box.device)[:, found.location]
        corners = distance2box(points, finite_values(box[:, found.location], nan=0)).T
        limit = corners.new_tensor([size[1] - 1, size[0] - 1, size[1] - 1, size[0] - 1])
        found = found._replace(boxes=torch.minimum(corners.clamp_min(0), limit))
        return _post_nms_top_k(_without_duplicates(found, selection), selection.max_boxes)


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
    """Apply NMS within each category, then across categories, by descending score; ties by category, then location."""
    if len(found.score) == 0:
        return found
    kept = []
    for category in torch.unique(found.category).tolist():
        number = (found.category == category).nonzero()[:, 0]
        # NMS runs for each category separately: the usual offset per category would round IoUs differently.
        kept.append(number[nms(found.boxes[number], found.score[number], selection.nms_iou)])
    chosen = torch.cat(kept)
    chosen = chosen[nms(found.boxes[chosen], found.score[chosen], selection.class_agnostic_nms_iou)]
    return Boxes(*(part[chosen] for part in found))


def _post_nms_top_k(found: Boxes, max_boxes: int) -> Boxes:
    """Keep the first ``max_boxes`` boxes and those with the same score as the last of them."""
    if len(found.score) <= max_boxes:
        return found
    num = int((found.score >= found.score[max_boxes - 1]).sum())
    return Boxes(*(part[:num] for part in found))
