"""Boundary PQ: panoptic quality that sees contours.

Source: Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021.

The IoU of large segments hardly sees their contour. Here the IoU of a pair is the smaller one of the IoU of the masks
and the IoU of their boundaries; all else is as in :class:`~panscape.metrics.panoptic_quality.PanopticQuality`.

Every rule that changes a number, as in the released ``coco_panoptic_api`` of the authors:

- The boundary of a segment is those of its pixels that are within *d* pixels of its contour: the mask minus its erosion
  by *d* passes of a 3x3 square. What lies outside the picture is outside the segment, so the edge of the picture is
  contour, too. *d* is 0.02 of the picture's diagonal, rounded (halves to even), at least 1.
- Void and crowds of the truth are outside of all other segments, and where a segment meets them there is contour.
- Boundaries are found on whole masks. Only then do pixels that are void in the truth leave the boundary of the
  prediction in the union, as they leave its mask: void near the middle of a prediction makes no contour in it.
- A pair of equal category matches if this IoU is strictly above 0.5. It is never above that of the masks, so the
  matches are some of those of PQ, and partners stay unique.
- Whether an unmatched prediction is excused by void or by a crowd is decided by its mask, not by its boundary.

One deviation: the released code marks the inside of all segments with one number, the largest category id plus one.
That may be the id of a segment, whose boundary is then counted wrongly. Here the inside is no segment's.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.kernels.joint_histogram import JointHistogram, joint_histogram
from panscape.kernels.segment_boundaries import segment_boundaries
from panscape.labels import LabelSpace
from panscape.metrics.matching import Ids, SegmentMatches, Shares, match_segments
from panscape.metrics.overlaps import require_categories, require_same_labels
from panscape.metrics.panoptic_quality import PanopticQuality, PanopticQualityReport, count_matches
from panscape.panoptic import PanopticMap


def boundary_distance(size: tuple[int, int], dilation_ratio: float = 0.02) -> int:
    """Return how many pixels deep boundaries are in a picture of ``size`` (height, width)."""
    height, width = size
    return max(1, round(dilation_ratio * math.sqrt(height**2 + width**2)))


def match_boundaries(
    prediction: PanopticMap, truth: PanopticMap, histogram: JointHistogram | None = None, dilation_ratio: float = 0.02
) -> SegmentMatches:
    """Match the segments of one picture by their masks and boundaries, by the rules at the top of this module.

    Args:
        prediction: of the same size as ``truth``.
        truth: with its crowds, if any.
        histogram: what :func:`~panscape.metrics.overlaps.overlaps` gives for both, if it is there already.
        dilation_ratio: depth of boundaries as a part of the picture's diagonal.

    Returns:
        The matches; ``iou`` is the smaller one of mask and boundary.

    Raises:
        InvalidArgumentError: the maps differ in size.
    """
    distance = boundary_distance(truth.size, dilation_ratio)

    def smaller(a: Ids, b: Ids, iou: Shares) -> Shares:
        return np.minimum(iou, _boundary_iou(prediction, truth, a, b, distance))

    return match_segments(prediction, truth, histogram, refined=smaller)


def _boundary_iou(prediction: PanopticMap, truth: PanopticMap, a: Ids, b: Ids, distance: int) -> Shares:
    """Return the IoU of the boundaries of pairs of ids, truth ``a`` and prediction ``b``."""
    true_inside, predicted_inside = truth.num_segments + 1, prediction.num_segments + 1
    counts = joint_histogram(
        _outlines(truth.ids, true_inside, distance),
        _outlines(prediction.ids.to(truth.ids.device), predicted_inside, distance),
        true_inside,
        predicted_inside,
    )
    truth_id, predicted_id, area = (part.cpu().numpy() for part in counts)
    of_truth, of_prediction = (np.zeros(m.num_segments + 2, np.int64) for m in (truth, prediction))
    np.add.at(of_truth, truth_id, area)
    np.add.at(of_prediction, predicted_id, np.where(truth_id > 0, area, 0))  # without what is void in the truth
    shared = _areas_of_pairs(truth_id, predicted_id, area, a, b)
    iou: Shares = shared / (of_truth[a] + of_prediction[b] - shared)
    return iou


def _outlines(ids: Tensor, inside: int, distance: int) -> Tensor:
    """Return the map with the inside of all segments as one more segment; void stays void."""
    return torch.where(segment_boundaries(ids, distance) | (ids == 0), ids, inside)


def _areas_of_pairs(truth: Ids, prediction: Ids, area: Ids, a: Ids, b: Ids) -> Ids:
    """Look pairs of ids up in the parts of a histogram; pairs that do not occur have 0."""
    columns = int(prediction.max(initial=0)) + int(b.max(initial=0)) + 1
    keys = truth * columns + prediction  # ascending, as the pairs of a histogram are
    wanted = a * columns + b
    place = np.searchsorted(keys, wanted).clip(max=max(len(keys) - 1, 0))
    found: Ids = np.where(keys[place] == wanted, area[place], 0)
    return found


class BoundaryPanopticQuality:
    """Accumulates boundary PQ over pictures, by the rules at the top of this module.

    Sums are in the same order as those of :class:`~panscape.metrics.panoptic_quality.PanopticQuality`. Accumulators of
    several processes are merged with :meth:`merge`, or by adding up their :attr:`state`.

    Attributes:
        labels: the label space of predictions and truth.
        dilation_ratio: depth of boundaries as a part of the picture's diagonal.
        state: float64 [K, 4]: matches, false positives, misses and sum of IoU by category.
    """

    def __init__(self, labels: LabelSpace, dilation_ratio: float = 0.02) -> None:
        """Start without pictures.

        Args:
            labels: the label space of predictions and truth.
            dilation_ratio: depth of boundaries as a part of the picture's diagonal.

        Raises:
            InvalidArgumentError: the ratio is not above 0.
        """
        if not 0 < dilation_ratio < math.inf:
            raise InvalidArgumentError(f"expected a dilation_ratio above 0, for example 0.02, got {dilation_ratio}")
        self.labels = labels
        self.dilation_ratio = dilation_ratio
        self.state = torch.zeros(len(labels), 4, dtype=torch.float64)

    def update(self, prediction: PanopticMap, truth: PanopticMap, histogram: JointHistogram | None = None) -> None:
        """Take one picture into account.

        Args:
            prediction: of the same size as ``truth``.
            truth: with its crowds, if any.
            histogram: what :func:`~panscape.metrics.overlaps.overlaps` gives for both, if it is there already.

        Raises:
            InvalidArgumentError: the maps differ in size or have a category that the label space lacks.
        """
        require_categories(self.labels, prediction, truth)
        matches = match_boundaries(prediction, truth, histogram, self.dilation_ratio)
        self.state += torch.from_numpy(count_matches(prediction, truth, matches, len(self.labels)))

    def merge(self, other: BoundaryPanopticQuality) -> None:
        """Add the pictures of another accumulator to this one.

        Raises:
            InvalidArgumentError: it has another label space or boundaries of another depth.
        """
        require_same_labels(self.labels, other.labels)
        if self.dilation_ratio != other.dilation_ratio:
            raise InvalidArgumentError(
                f"expected a metric with a dilation_ratio of {self.dilation_ratio}, got one with "
                f"{other.dilation_ratio}; merge metrics of one ratio only"
            )
        self.state += other.state

    def reset(self) -> None:
        """Forget all pictures."""
        self.state.zero_()

    def compute(self) -> PanopticQualityReport:
        """Report on all pictures so far."""
        quality = PanopticQuality(self.labels)  # from the counts on, it is PQ
        quality.state += self.state
        return quality.compute()
