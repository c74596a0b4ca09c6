"""Error types: assign exactly one type to every false negative and every false positive of PQ.

Source: the idea is that of TIDE for average precision (Bolya et al., "TIDE: A General Toolbox for Identifying Object
Detection Errors", ECCV 2020). The impact of a type is what fixing its errors alone would gain; it is computed in
:mod:`panscape.metrics.error_breakdown`.

All overlaps are those of PQ: IoU excludes the pixels of a prediction that are void in the ground truth, crowds in the
ground truth are not segments, and a segment is *unmatched* if PQ does not match it. Other protocols
(:mod:`panscape.metrics.protocol`) apply here as well: crowds may be void or ordinary segments, all stuff of a category
may be one segment, and if a protocol removes predicted void from the union, these pixels are removed from the true
segment in every IoU and fraction below. An unmatched segment gets the first type that applies:

classification
    An unmatched prediction and an unmatched true segment of different categories overlap with IoU > 0.5. Each has at
    most one such partner. Fixed: the pair is a match with this IoU.
oversegmentation
    The pieces of a true segment are the predictions of its category that have more than half of their pixels (outside
    void) on it. The segment is oversegmented if it has at least two pieces and their union overlaps it with IoU > 0.5.
    Its unmatched pieces are false positives of this type. Fixed: the pieces are one prediction, which matches with that
    IoU; if one of the pieces was matched alone, the match gets that IoU.
undersegmentation
    A prediction covers more than half of each of two or more true segments of its category. Fixed: the prediction is
    cut along the ground truth, so each of these segments is matched by the part that lies on it. The IoU is the
    fraction of the segment that this part covers.
localization
    An unmatched prediction and an unmatched true segment of one category overlap with IoU from 0.1 (TIDE's threshold)
    to 0.5: the right object with a wrong outline. Pairs are formed greedily by descending IoU; each segment is in one
    pair at most. Every match with IoU < 1 also has an error of this type, which is not a false negative or positive but
    the loss of SQ. Fixed: all these pairs, and all matches, have IoU 1.
void
    A true segment of which more than half is void in the prediction. Or a prediction that has more pixels on void and
    crowds of the ground truth together than on any other true segment, but too few on void and the crowd of its
    category to be excused. Fixed: the true segment is matched (:mod:`panscape.metrics.error_breakdown` defines its
    IoU), the prediction is removed.
missed
    Every other false negative. Fixed: it is matched.
background
    Every other false positive. Fixed: it is removed.

Errors are also grouped by size, the square root of an area in pixels. This is the area of the true segment involved;
for a false positive, the one with the most shared pixels among the true segments that determined its type. If there is
none (background, void), it is the area of the prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from panscape.metrics.matching import SegmentMatches, SegmentOverlaps, match_segments, segment_overlaps
from panscape.metrics.overlaps import areas_of, overlaps
from panscape.metrics.protocol import Protocol, get_protocol
from panscape.ops.contingency_table import ContingencyTable
from panscape.panoptic import PanopticMap

NEAR_IOU = 0.1
"""Minimum IoU of a localization error between an unmatched prediction and an unmatched true segment of its category."""

SIZE_NAMES = ("below 16", "16 to 32", "32 to 64", "64 to 128", "128 and more")
"""The size classes, by the square root of the area in pixels."""

NO_ERROR = -1
"""Value of a segment that is neither a false negative nor a false positive."""

_SIZE_LIMITS = np.array([16, 32, 64, 128], np.int64) ** 2


class ErrorType(IntEnum):
    """The error types, in display order; the value is the row in all counts."""

    CLASSIFICATION = 0
    UNDERSEGMENTATION = 1
    OVERSEGMENTATION = 2
    MISSED = 3
    BACKGROUND = 4
    LOCALIZATION = 5
    VOID = 6

    @property
    def title(self) -> str:
        """Display name."""
        return _TITLES[self]


_TITLES = {
    ErrorType.CLASSIFICATION: "classification",
    ErrorType.UNDERSEGMENTATION: "undersegmentation",
    ErrorType.OVERSEGMENTATION: "oversegmentation",
    ErrorType.MISSED: "missed",
    ErrorType.BACKGROUND: "background",
    ErrorType.LOCALIZATION: "localization",
    ErrorType.VOID: "void",
}

MATCHED_ROW = len(ErrorType)
"""Row of the matches in counts, after the rows of the error types."""

NUM_ROWS = MATCHED_ROW + 1
_Integers = NDArray[np.int64]
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SegmentErrors:
    """The errors of one image by segment; rows of the maps are ids minus one.

    Attributes:
        truth_type: int64 [S], the type of every false negative; `NO_ERROR` for all other true segments.
        prediction_type: int64 [T], the type of every false positive; `NO_ERROR` for all other predictions.
        gain: float64 [7, S], increase of the sum of IoU at a true segment if a type of error is fixed; 0 for segments
            with type missed or void, whose IoU is unknown.
        truth_size: int64 [S], the size class.
        prediction_size: int64 [T], likewise, of the true segment involved if there is one.
        taken_for: int64 [S], the row of the prediction with another category that matches a true segment with a
            classification error, else -1.
    """

    truth_type: _Integers
    prediction_type: _Integers
    gain: _Floats
    truth_size: _Integers
    prediction_size: _Integers
    taken_for: _Integers


class ErrorCounts(NamedTuple):
    """The non-zero entries of an image's counts, float64 [K, 8, 5, 3] (see :mod:`panscape.metrics.error_breakdown`).

    Attributes:
        cell: int64 [C], positions in the flattened counts, ascending.
        value: float64 [C].
    """

    cell: _Integers
    value: _Floats


def find_errors(
    prediction: PanopticMap,
    truth: PanopticMap,
    histogram: ContingencyTable | None = None,
    matches: SegmentMatches | None = None,
    protocol: str | Protocol = "coco",
    stuff_ids: Sequence[int] | None = None,
) -> SegmentErrors:
    """Assign an error type to every false negative and every false positive of one image.

    Args:
        prediction: of the same size as ``truth``.
        truth: with its crowds, if any.
        histogram: the result of :func:`~panscape.metrics.overlaps.overlaps` for both maps, if already computed.
        matches: the result of :func:`~panscape.metrics.matching.match_segments` under the protocol, if computed.
        protocol: a name in :data:`~panscape.metrics.protocol.PROTOCOLS`, or a custom protocol.
        stuff_ids: the stuff categories; only protocols with ``is_stuff_whole`` need them.

    Returns:
        The errors. A segment that the protocol merges from several has the row of its first, as in the matches.

    Raises:
        InvalidArgumentError: the maps differ in size, or the protocol needs ``stuff_ids``.
        UnknownNameError: no protocol has this name.
    """
    protocol = get_protocol(protocol)
    histogram = overlaps(prediction, truth) if histogram is None else histogram
    found = segment_overlaps(prediction, truth, histogram, protocol, stuff_ids)
    if matches is None:
        matches = match_segments(prediction, truth, histogram, protocol, stuff_ids)
    return _Search(found, matches).run()


class _Search:
    """The state of :func:`find_errors`: overlaps, and the types assigned so far."""

    def __init__(self, found: SegmentOverlaps, matches: SegmentMatches) -> None:
        # By row, which is the id minus one.
        self.truth_area, self.predicted_area = found.truth_area[1:], found.predicted_area[1:]
        self.truth_counted, self.predicted_counted = found.counted_truth[1:], found.counted_prediction[1:]
        self.left_void = found.under_void[1:]
        num_truth, num_predicted = len(self.truth_area), len(self.predicted_area)
        is_unknown = (found.truth_id == 0) | found.is_crowd[found.truth_id]
        self.on_unknown = areas_of(found.predicted_id[is_unknown], found.area[is_unknown], num_predicted)[1:]
        pair = found.is_pair
        self.a, self.b, self.shared = found.truth_id[pair] - 1, found.predicted_id[pair] - 1, found.area[pair]
        self.iou, self.is_same = found.iou[pair], found.is_same[pair]

        self.is_false_negative, self.is_false_positive = np.zeros(num_truth, bool), np.zeros(num_predicted, bool)
        self.is_false_negative[matches.false_negatives.numpy()] = True
        self.is_false_positive[matches.false_positives.numpy()] = True
        self.is_matched = np.zeros(num_predicted, bool)
        self.is_matched[matches.prediction.numpy()] = True
        self.match_iou = np.zeros(num_truth)  # 0 for unmatched segments
        self.match_iou[matches.truth.numpy()] = matches.iou.numpy()

        self.truth_type = np.full(num_truth, NO_ERROR, np.int64)
        self.prediction_type = np.full(num_predicted, NO_ERROR, np.int64)
        self.gain = np.zeros((len(ErrorType), num_truth))
        self.size_area = self.predicted_area.copy()  # the area that determines the size class of a false positive
        self.taken_for = np.full(num_truth, -1, np.int64)

    def run(self) -> SegmentErrors:
        """Assign a type to every unmatched segment."""
        self._find_classification()
        self._find_oversegmentation()
        self._find_undersegmentation()
        self._find_localization()
        self._assign_rest()
        return SegmentErrors(
            self.truth_type,
            self.prediction_type,
            self.gain,
            np.searchsorted(_SIZE_LIMITS, self.truth_area, side="right"),
            np.searchsorted(_SIZE_LIMITS, self.size_area, side="right"),
            self.taken_for,
        )

    def _assign(self, error_type: ErrorType, pairs: NDArray[np.intp] | NDArray[np.bool_], iou: _Floats) -> None:
        """Assign a type to the unmatched segments of some pairs; ``iou`` [pairs] is that after fixing."""
        a, b, shared = self.a[pairs], self.b[pairs], self.shared[pairs]
        is_new = self.is_false_negative[a] & (self.truth_type[a] == NO_ERROR)
        self.truth_type[a[is_new]] = error_type
        gains = is_new | (self.match_iou[a] > 0)
        self.gain[error_type, a[gains]] = np.maximum(iou[gains] - self.match_iou[a[gains]], 0)
        order = np.argsort(shared, kind="stable")  # the largest is written last
        a, b = a[order], b[order]
        is_new = self.is_false_positive[b] & (self.prediction_type[b] == NO_ERROR)
        a, b = a[is_new], b[is_new]
        self.prediction_type[b] = error_type
        self.size_area[b] = self.truth_area[a]

    def _find_classification(self) -> None:
        pairs = ~self.is_same & (self.iou > 0.5) & self.is_false_negative[self.a] & ~self.is_matched[self.b]
        self.taken_for[self.a[pairs]] = self.b[pairs]
        self._assign(ErrorType.CLASSIFICATION, pairs, self.iou[pairs])

    def _find_oversegmentation(self) -> None:
        is_piece = self.is_same & (2 * self.shared > self.predicted_counted[self.b])
        a, num_truth = self.a[is_piece], len(self.truth_area)
        num_pieces = np.bincount(a, minlength=num_truth)
        shared = np.bincount(a, self.shared[is_piece], num_truth)
        counted = np.bincount(a, self.predicted_counted[self.b[is_piece]], num_truth)
        joined_iou = shared / np.maximum(self.truth_counted + counted - shared, 1)
        is_split = (num_pieces >= 2) & (joined_iou > 0.5)
        pairs = is_piece & is_split[self.a]
        self._assign(ErrorType.OVERSEGMENTATION, pairs, joined_iou[self.a[pairs]])

    def _find_undersegmentation(self) -> None:
        is_covered = self.is_same & (2 * self.shared > self.truth_counted[self.a])
        num_covered = np.bincount(self.b[is_covered], minlength=len(self.predicted_area))
        pairs = is_covered & (num_covered[self.b] >= 2)
        self._assign(ErrorType.UNDERSEGMENTATION, pairs, self.shared[pairs] / self.truth_counted[self.a[pairs]])

    def _find_localization(self) -> None:
        possible = (
            self.is_same
            & (self.iou >= NEAR_IOU)
            & (self.is_false_negative & (self.truth_type == NO_ERROR))[self.a]
            & (~self.is_matched & (self.prediction_type == NO_ERROR))[self.b]
        ).nonzero()[0]
        chosen, seen_truth, seen_prediction = [], set(), set()
        for pair in possible[np.argsort(-self.iou[possible], kind="stable")].tolist():
            a, b = int(self.a[pair]), int(self.b[pair])
            if a not in seen_truth and b not in seen_prediction:
                chosen.append(pair)
                seen_truth.add(a)
                seen_prediction.add(b)
        self._assign(ErrorType.LOCALIZATION, np.array(chosen, np.intp), np.ones(len(chosen)))
        is_matched = self.match_iou > 0
        self.gain[ErrorType.LOCALIZATION, is_matched] = 1 - self.match_iou[is_matched]

    def _assign_rest(self) -> None:
        is_open = self.is_false_negative & (self.truth_type == NO_ERROR)
        is_predicted_void = 2 * self.left_void > self.truth_area
        self.truth_type[is_open] = np.where(is_predicted_void, ErrorType.VOID, ErrorType.MISSED)[is_open]
        largest = np.zeros_like(self.predicted_area)
        np.maximum.at(largest, self.b, self.shared)
        is_open = self.is_false_positive & (self.prediction_type == NO_ERROR)
        is_unknown = self.on_unknown > largest
        self.prediction_type[is_open] = np.where(is_unknown, ErrorType.VOID, ErrorType.BACKGROUND)[is_open]


def count_errors(
    errors: SegmentErrors, matches: SegmentMatches, prediction: PanopticMap, truth: PanopticMap
) -> ErrorCounts:
    """Count the errors of one image by category, type and size.

    Args:
        errors: the result of :func:`find_errors`.
        matches: the matches that ``errors`` are based on.
        prediction: the predicted map.
        truth: the ground truth.

    Returns:
        Entries of counts [K, 8, 5, 3] for any K above the categories of the maps.
    """
    of_truth, of_prediction = truth.category.cpu().numpy(), prediction.category.cpu().numpy()
    fn, fp = (errors.truth_type >= 0).nonzero()[0], (errors.prediction_type >= 0).nonzero()[0]
    matched, (error_type, gaining) = matches.truth.numpy(), errors.gain.nonzero()
    parts = (
        (of_truth[fn], errors.truth_type[fn], errors.truth_size[fn], 0, np.ones(len(fn))),
        (
            of_prediction[fp],
            errors.prediction_type[fp],
            errors.prediction_size[fp],
            1,
            np.ones(len(fp)),
        ),
        (of_truth[gaining], error_type, errors.truth_size[gaining], 2, errors.gain[error_type, gaining]),
        (of_truth[matched], MATCHED_ROW, errors.truth_size[matched], 0, np.ones(len(matched))),
        (of_truth[matched], MATCHED_ROW, errors.truth_size[matched], 2, matches.iou.numpy()),
    )
    cells = [((c * NUM_ROWS + row) * len(SIZE_NAMES) + size) * 3 + column for c, row, size, column, _ in parts]
    cell, where = np.unique(np.concatenate(cells), return_inverse=True)
    values = np.concatenate([part[-1] for part in parts])
    return ErrorCounts(cell.astype(np.int64), np.bincount(where, values, len(cell)).astype(np.float64))
