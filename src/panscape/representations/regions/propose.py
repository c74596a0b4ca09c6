"""The first stage's proposals and the second stage's detections: boxes from offsets, selected by NMS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from panscape.constraints import NonNegative, PositiveInt, UnitInterval, check_fields
from panscape.ops.boxes import has_area
from panscape.ops.nms import nms


@dataclass(frozen=True, slots=True)
class ProposalSelection:
    """How proposals are selected among the refined anchors.

    Attributes:
        before_nms: Number of anchors with the highest objectness that enter NMS.
        before_nms_in_training: Likewise in training.
        after_nms: Number of proposals of an image.
        after_nms_in_training: Likewise in training.
        max_overlap: IoU from which on NMS drops a proposal.
        per_level: Select and suppress within each level of the pyramid (detectron2), instead of among all together
            (seamseg); the best proposals of all levels remain.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    before_nms: PositiveInt = 6000
    before_nms_in_training: PositiveInt = 12000
    after_nms: PositiveInt = 1000
    after_nms_in_training: PositiveInt = 2000
    max_overlap: UnitInterval = 0.7
    per_level: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class DetectionSelection:
    """How detections are selected among classified boxes.

    Attributes:
        min_score: Detections have a larger score, the probability of a category.
        max_overlap: IoU from which on NMS, within a category, drops a detection.
        max_detections: Number of detections of an image.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    min_score: NonNegative = 0.05
    max_overlap: UnitInterval = 0.5
    max_detections: PositiveInt = 100

    def __post_init__(self) -> None:
        check_fields(self)


class DetectedBoxes(NamedTuple):
    """Detections of one image, by descending score.

    Attributes:
        boxes: float [D, 4], xyxy in pixels.
        category: an index into ``labels.thing_ids``, int64 [D].
        score: float [D].
    """

    boxes: Tensor
    category: Tensor
    score: Tensor


def select_proposals(
    objectness: Tensor,
    boxes: Tensor,
    num_per_level: Sequence[int],
    selection: ProposalSelection,
    *,
    training: bool = False,
) -> Tensor:
    """Return the proposals of one image by descending objectness, float [P, 4]; boxes without area are none.

    Args:
        objectness: logits of all anchors, float [A].
        boxes: refined and clipped anchors, float [A, 4].
        num_per_level: number of anchors of each level, in their order.
        selection: the rules.
        training: select as many as in training.
    """
    before, after = (
        (selection.before_nms_in_training, selection.after_nms_in_training)
        if training
        else (selection.before_nms, selection.after_nms)
    )
    sizes = list(num_per_level) if selection.per_level else [len(boxes)]
    found_boxes, found_scores = [], []
    for score, box in zip(torch.split(objectness, sizes), torch.split(boxes, sizes), strict=True):
        best, index = score.topk(min(before, len(score)))
        box = box[index]
        is_box = has_area(box)
        box, best = box[is_box], best[is_box]
        keep = nms(box, best, selection.max_overlap)[:after]
        found_boxes.append(box[keep])
        found_scores.append(best[keep])
    boxes, scores = torch.cat(found_boxes), torch.cat(found_scores)
    return boxes[scores.sort(descending=True, stable=True).indices[:after]]


def select_detections(prob: Tensor, boxes: Tensor, selection: DetectionSelection) -> DetectedBoxes:
    """Return the detections of one image.

    Args:
        prob: probabilities of the regions, background first, float [R, T + 1].
        boxes: refined and clipped boxes of each region and thing, float [R, T, 4].
        selection: the rules.
    """
    region, thing = ((prob[:, 1:] > selection.min_score) & has_area(boxes)).nonzero(as_tuple=True)
    score, box = prob[region, thing + 1], boxes[region, thing]
    rows = nms(box, score, selection.max_overlap, thing)[: selection.max_detections]
    return DetectedBoxes(box[rows], thing[rows], score[rows])
