"""Boundary PQ: panoptic quality that is sensitive to contours.

Source: Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021.

The IoU of large segments depends little on their contour. Here the IoU of a pair is the minimum of the mask IoU and
the boundary IoU; everything else is as in :class:`~panscape.metrics.panoptic_quality.PanopticQuality`.

The protocol, as in the ``coco_panoptic_api`` released by the authors:

- The boundary of a segment is the set of its pixels within *d* pixels of its contour: the mask minus its erosion by *d*
  passes of a 3x3 square. Pixels outside the image are outside the segment, so the edge of the image is a contour, too.
  *d* is 0.02 of the image diagonal, rounded (halves to even), at least 1.
- Void and crowds of the ground truth are outside all other segments; a segment has a contour where it meets them.
- Boundaries are computed on whole masks. Pixels that are void in the ground truth are removed from the boundary of the
  prediction in the union afterwards, as from its mask. Void in the middle of a prediction adds no contour to it.
- A pair of equal category matches if this IoU is strictly above 0.5. It is never above the mask IoU, so the matches are
  a subset of those of PQ, and they stay one to one.
- Whether void or a crowd excuses an unmatched prediction is decided by its mask, not by its boundary.

Other protocols of PQ (:mod:`panscape.metrics.protocol`) apply to boundaries as to masks: segments become void or are
merged before boundaries are computed, and pixels removed from the union of masks are removed from that of boundaries.

One deviation: the released code marks the interior of all segments with one number, the largest category id plus one.
This may be the id of a segment, whose boundary is then counted incorrectly. Here the interior has an id of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.metrics.matching import Ids, SegmentMatches, Shares, ids_under_protocol, match_segments
from panscape.metrics.overlaps import areas_of
from panscape.metrics.panoptic_quality import PanopticQuality
from panscape.metrics.protocol import Protocol, get_protocol
from panscape.ops.boundaries import segment_boundaries
from panscape.ops.contingency_table import ContingencyTable, contingency_table
from panscape.panoptic import PanopticMap


def boundary_distance(size: tuple[int, int], dilation_ratio: float = 0.02) -> int:
    """Return the depth of boundaries in pixels in an image of ``size`` (height, width).

    Raises:
        InvalidArgumentError: the ratio is not positive.
    """
    _require_ratio(dilation_ratio)
    height, width = size
    return max(1, round(dilation_ratio * math.sqrt(height**2 + width**2)))


def _require_ratio(dilation_ratio: float) -> None:
    if not 0 < dilation_ratio < math.inf:
        raise InvalidArgumentError(f"expected a dilation_ratio above 0, for example 0.02, got {dilation_ratio}")


def match_boundaries(
    prediction: PanopticMap,
    truth: PanopticMap,
    histogram: ContingencyTable | None = None,
    dilation_ratio: float = 0.02,
    protocol: str | Protocol = "coco",
    stuff_ids: Sequence[int] | None = None,
) -> SegmentMatches:
    """Match the segments of one image by their masks and boundaries, as defined at the top of this module.

    Args:
        prediction: of the same size as ``truth``.
        truth: with its crowds, if any.
        histogram: the result of :func:`~panscape.metrics.overlaps.overlaps` for both maps, if already computed.
        dilation_ratio: depth of boundaries as a fraction of the image diagonal.
        protocol: a name in :data:`~panscape.metrics.protocol.PROTOCOLS`, or a custom protocol.
        stuff_ids: the stuff categories; only protocols with ``is_stuff_whole`` need them.

    Returns:
        The matches; ``iou`` is the minimum of mask IoU and boundary IoU.

    Raises:
        InvalidArgumentError: the maps differ in size, the ratio is not positive, or the protocol needs ``stuff_ids``.
        UnknownNameError: no protocol has this name.
    """
    protocol = get_protocol(protocol)
    distance = boundary_distance(truth.size, dilation_ratio)

    def smaller(a: Ids, b: Ids, iou: Shares) -> Shares:
        true_ids = _relabel(truth.ids, ids_under_protocol(truth, protocol, stuff_ids, is_truth=True))
        predicted_ids = _relabel(prediction.ids, ids_under_protocol(prediction, protocol, stuff_ids, is_truth=False))
        nums = truth.num_segments, prediction.num_segments
        counts = _count_boundaries(true_ids, predicted_ids.to(true_ids.device), *nums, distance)
        return np.minimum(iou, _boundary_iou(*counts, *nums, a, b, protocol))

    return match_segments(prediction, truth, histogram, protocol, stuff_ids, refined=smaller)


def _relabel(ids: Tensor, new_ids: Ids | None) -> Tensor:
    """Return ids [H, W] mapped to those of a protocol."""
    return ids if new_ids is None else torch.from_numpy(new_ids).to(ids)[ids.long()]


def _count_boundaries(
    true_ids: Tensor, predicted_ids: Tensor, num_truth: int, num_prediction: int, distance: int
) -> tuple[Ids, Ids, Ids]:
    """Return the contingency table of two boundary maps; the interior of all segments is the id after the last."""
    counts = contingency_table(
        _boundary_map(true_ids, num_truth + 1, distance),
        _boundary_map(predicted_ids, num_prediction + 1, distance),
        num_truth + 1,
        num_prediction + 1,
    )
    truth_id, predicted_id, area = (part.cpu().numpy() for part in counts)
    return truth_id, predicted_id, area


def _boundary_iou(
    truth_id: Ids, predicted_id: Ids, area: Ids, num_truth: int, num_prediction: int, a: Ids, b: Ids, protocol: Protocol
) -> Shares:
    """Return the IoU of the boundaries of pairs of ids, truth ``a`` and prediction ``b``."""
    in_union = truth_id > 0  # pixels that are void in the truth are removed from the prediction
    of_prediction = areas_of(predicted_id[in_union], area[in_union], num_prediction + 1)
    in_union = (predicted_id > 0) | (not protocol.predicted_void_leaves_union)
    of_truth = areas_of(truth_id[in_union], area[in_union], num_truth + 1)
    shared = _areas_of_pairs(truth_id, predicted_id, area, a, b)
    iou: Shares = shared / np.maximum(
        of_truth[a] + of_prediction[b] - shared, 1
    )  # all pixels of both may have been removed
    return iou


def _boundary_map(ids: Tensor, interior: int, distance: int) -> Tensor:
    """Return the map with the interior of all segments as one additional segment; void stays void."""
    return torch.where(segment_boundaries(ids, distance) | (ids == 0), ids, interior)


def _areas_of_pairs(truth: Ids, prediction: Ids, area: Ids, a: Ids, b: Ids) -> Ids:
    """Return the areas of pairs of ids from the parts of a histogram; 0 for pairs that do not occur."""
    columns = int(prediction.max(initial=0)) + int(b.max(initial=0)) + 1
    keys = truth * columns + prediction  # ascending, as the pairs of a histogram are
    wanted = a * columns + b
    place = np.searchsorted(keys, wanted).clip(max=max(len(keys) - 1, 0))
    found: Ids = np.where(keys[place] == wanted, area[place], 0)
    return found


class BoundaryPanopticQuality(PanopticQuality):
    """Accumulates boundary PQ over images, as defined at the top of this module.

    Attributes:
        dilation_ratio: depth of boundaries as a fraction of the image diagonal.
    """

    options = ("protocol", "dilation_ratio")

    def __init__(self, labels: LabelSpace, dilation_ratio: float = 0.02, protocol: str | Protocol = "coco") -> None:
        """Start with no images.

        Args:
            labels: the label space of predictions and truth.
            dilation_ratio: depth of boundaries as a fraction of the image diagonal.
            protocol: a name in :data:`~panscape.metrics.protocol.PROTOCOLS`, or a custom protocol.

        Raises:
            InvalidArgumentError: the ratio is not positive.
            UnknownNameError: no protocol has this name.
        """
        _require_ratio(dilation_ratio)
        super().__init__(labels, protocol)
        self.dilation_ratio = dilation_ratio

    def match(self, prediction: PanopticMap, truth: PanopticMap, histogram: ContingencyTable) -> SegmentMatches:
        """Match the segments of one image with :func:`match_boundaries`."""
        stuff_ids = self.labels.stuff_ids
        return match_boundaries(prediction, truth, histogram, self.dilation_ratio, self.protocol, stuff_ids)
