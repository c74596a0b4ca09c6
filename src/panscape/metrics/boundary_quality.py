"""Boundary PQ: panoptic quality that sees contours.

Source: Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021.

The IoU of large segments hardly sees their contour. Here the IoU of a pair is the smaller one of the IoU of the masks
and the IoU of their boundaries; all else is as in :class:`~panscape.metrics.panoptic_quality.PanopticQuality`.

Every rule that changes a number, as in the released ``coco_panoptic_api`` of the authors:

- The boundary of a segment is those of its pixels that are within *d* pixels of its contour: the mask minus its erosion
  by *d* passes of a 3x3 square. What lies outside the image is outside the segment, so the edge of the image is
  contour, too. *d* is 0.02 of the image's diagonal, rounded (halves to even), at least 1.
- Void and crowds of the truth are outside of all other segments, and where a segment meets them there is contour.
- Boundaries are found on whole masks. Only then do pixels that are void in the truth leave the boundary of the
  prediction in the union, as they leave its mask: void near the middle of a prediction makes no contour in it.
- A pair of equal category matches if this IoU is strictly above 0.5. It is never above that of the masks, so the
  matches are some of those of PQ, and partners stay unique.
- Whether an unmatched prediction is excused by void or by a crowd is decided by its mask, not by its boundary.

Other rules of PQ (:mod:`panscape.metrics.protocol`) hold for boundaries as they do for masks: what they take for void
or for one whole is so before boundaries are found, and what leaves the union of masks leaves that of boundaries.

One deviation: the released code marks the inside of all segments with one number, the largest category id plus one.
That may be the id of a segment, whose boundary is then counted wrongly. Here the inside is no segment's.
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
from panscape.metrics.overlaps import areas_of, require_categories, require_same_labels
from panscape.metrics.panoptic_quality import PanopticQuality, PanopticQualityReport, count_matches
from panscape.metrics.protocol import Protocol, get_protocol, require_same_protocol
from panscape.ops.boundaries import segment_boundaries
from panscape.ops.confusion import JointHistogram, joint_histogram
from panscape.panoptic import PanopticMap


def boundary_distance(size: tuple[int, int], dilation_ratio: float = 0.02) -> int:
    """Return how many pixels deep boundaries are in an image of ``size`` (height, width).

    Raises:
        InvalidArgumentError: the ratio is not above 0.
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
    histogram: JointHistogram | None = None,
    dilation_ratio: float = 0.02,
    protocol: str | Protocol = "coco",
    stuff_ids: Sequence[int] | None = None,
) -> SegmentMatches:
    """Match the segments of one image by their masks and boundaries, by the rules at the top of this module.

    Args:
        prediction: of the same size as ``truth``.
        truth: with its crowds, if any.
        histogram: what :func:`~panscape.metrics.overlaps.overlaps` gives for both, if it is there already.
        dilation_ratio: depth of boundaries as a part of the image's diagonal.
        protocol: a name in :data:`~panscape.metrics.protocol.PROTOCOLS`, or rules of your own.
        stuff_ids: categories that are stuff; rules by which stuff is whole need them, others do not ask for them.

    Returns:
        The matches; ``iou`` is the smaller one of mask and boundary.

    Raises:
        InvalidArgumentError: the maps differ in size, the ratio is not above 0, or the rules need ``stuff_ids``.
        UnknownNameError: no rules have this name.
    """
    protocol = get_protocol(protocol)
    distance = boundary_distance(truth.size, dilation_ratio)

    def smaller(a: Ids, b: Ids, iou: Shares) -> Shares:
        true_ids = _known_as(truth.ids, ids_under_protocol(truth, protocol, stuff_ids, is_truth=True))
        predicted_ids = _known_as(prediction.ids, ids_under_protocol(prediction, protocol, stuff_ids, is_truth=False))
        nums = truth.num_segments, prediction.num_segments
        counts = _count_boundaries(true_ids, predicted_ids.to(true_ids.device), *nums, distance)
        return np.minimum(iou, _boundary_iou(*counts, *nums, a, b, protocol))

    return match_segments(prediction, truth, histogram, protocol, stuff_ids, refined=smaller)


def _known_as(ids: Tensor, names: Ids | None) -> Tensor:
    """Return a map under the names that rules have for its ids."""
    return ids if names is None else torch.from_numpy(names).to(ids)[ids.long()]


def _count_boundaries(
    true_ids: Tensor, predicted_ids: Tensor, num_truth: int, num_prediction: int, distance: int
) -> tuple[Ids, Ids, Ids]:
    """Return the histogram of two maps of boundaries, in which all insides are the id after the last."""
    counts = joint_histogram(
        _outlines(true_ids, num_truth + 1, distance),
        _outlines(predicted_ids, num_prediction + 1, distance),
        num_truth + 1,
        num_prediction + 1,
    )
    truth_id, predicted_id, area = (part.cpu().numpy() for part in counts)
    return truth_id, predicted_id, area


def _boundary_iou(
    truth_id: Ids, predicted_id: Ids, area: Ids, num_truth: int, num_prediction: int, a: Ids, b: Ids, protocol: Protocol
) -> Shares:
    """Return the IoU of the boundaries of pairs of ids, truth ``a`` and prediction ``b``."""
    in_union = truth_id > 0  # what is void in the truth has left the prediction
    of_prediction = areas_of(predicted_id[in_union], area[in_union], num_prediction + 1)
    in_union = (predicted_id > 0) | (not protocol.predicted_void_leaves_union)
    of_truth = areas_of(truth_id[in_union], area[in_union], num_truth + 1)
    shared = _areas_of_pairs(truth_id, predicted_id, area, a, b)
    iou: Shares = shared / np.maximum(of_truth[a] + of_prediction[b] - shared, 1)  # all of both may have left
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
    """Accumulates boundary PQ over images, by the rules at the top of this module.

    Sums are in the same order as those of :class:`~panscape.metrics.panoptic_quality.PanopticQuality`. Accumulators of
    several processes are merged with :meth:`merge`, or by adding up their :attr:`state`.

    Attributes:
        labels: the label space of predictions and truth.
        dilation_ratio: depth of boundaries as a part of the image's diagonal.
        protocol: what decides where evaluators differ.
        state: float64 [K, 4]: matches, false positives, misses and sum of IoU by category.
    """

    def __init__(self, labels: LabelSpace, dilation_ratio: float = 0.02, protocol: str | Protocol = "coco") -> None:
        """Start without images.

        Args:
            labels: the label space of predictions and truth.
            dilation_ratio: depth of boundaries as a part of the image's diagonal.
            protocol: a name in :data:`~panscape.metrics.protocol.PROTOCOLS`, or rules of your own.

        Raises:
            InvalidArgumentError: the ratio is not above 0.
            UnknownNameError: no rules have this name.
        """
        _require_ratio(dilation_ratio)
        self.labels = labels
        self.dilation_ratio = dilation_ratio
        self.protocol = get_protocol(protocol)
        self.state = torch.zeros(len(labels), 4, dtype=torch.float64)

    def update(self, prediction: PanopticMap, truth: PanopticMap, histogram: JointHistogram | None = None) -> None:
        """Take one image into account.

        Args:
            prediction: of the same size as ``truth``.
            truth: with its crowds, if any.
            histogram: what :func:`~panscape.metrics.overlaps.overlaps` gives for both, if it is there already.

        Raises:
            InvalidArgumentError: the maps differ in size or have a category that the label space lacks.
        """
        require_categories(self.labels, prediction, truth)
        stuff_ids = self.labels.stuff_ids
        matches = match_boundaries(prediction, truth, histogram, self.dilation_ratio, self.protocol, stuff_ids)
        self.state += torch.from_numpy(count_matches(prediction, truth, matches, len(self.labels)))

    def check_compatible(self, other: BoundaryPanopticQuality) -> None:
        """Check that another accumulator can be merged with this one.

        Raises:
            InvalidArgumentError: it has another label space, other rules or boundaries of another depth.
        """
        require_same_labels(self.labels, other.labels)
        require_same_protocol(self.protocol, other.protocol)
        if self.dilation_ratio != other.dilation_ratio:
            raise InvalidArgumentError(
                f"expected a metric with a dilation_ratio of {self.dilation_ratio}, got one with "
                f"{other.dilation_ratio}; merge metrics of one ratio only"
            )

    def merge(self, other: BoundaryPanopticQuality) -> None:
        """Add the images of another accumulator to this one.

        Raises:
            InvalidArgumentError: it has another label space, other rules or boundaries of another depth.
        """
        self.check_compatible(other)
        self.state += other.state

    def reset(self) -> None:
        """Forget all images."""
        self.state.zero_()

    def compute(self) -> PanopticQualityReport:
        """Report on all images so far."""
        quality = PanopticQuality(self.labels, self.protocol)  # from the counts on, it is PQ
        quality.state += self.state
        return quality.compute()
