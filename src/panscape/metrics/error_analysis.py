"""Which kind of error every false negative and every false positive is, and how it would be mended.

What the kinds cost is counted in :mod:`panscape.metrics.error_costs`. The idea is that of TIDE for average precision
(Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020): every false negative and
every false positive gets exactly one kind, and a kind's cost is what its mending alone would gain.

All overlaps are those of PQ: IoU leaves out the pixels of a prediction that are void in the truth, crowds in the truth
are no segments, and a segment is *unmatched* when PQ has no partner for it. By other rules of PQ
(:mod:`panscape.metrics.protocol`) it is as those have it: crowds may be void or segments like others, all stuff of a
category may be one segment, and where void in the prediction leaves the union, it is no part of the truth segment in
all IoU and shares below. An unmatched segment gets the first kind that fits:

classification
    An unmatched prediction and an unmatched truth segment of different categories overlap with IoU > 0.5. Each has at
    most one such partner. Mended: the pair is a match with this IoU.
oversegmentation
    The pieces of a truth segment are the predictions of its category that lie on it with more than half of their pixels
    (those outside void). It is split if it has at least two and all of them together overlap it with IoU > 0.5. Its
    unmatched pieces are false positives of this kind. Mended: the pieces are one prediction, which matches with that
    IoU; if one of the pieces was matched alone, the match gets that IoU.
undersegmentation
    A prediction covers more than half of each of two or more truth segments of its category. Mended: it is cut along
    the truth, so each of these segments is matched by the part that lies on it, whose IoU is the share it covers.
localization
    An unmatched prediction and an unmatched truth segment of one category overlap with IoU of at least 0.1 (TIDE's
    threshold) up to 0.5: the right thing with the wrong outline. Pairs are made from the largest IoU down; each segment
    is in one. Every match with IoU < 1 has an error of this kind as well, which is no false negative or positive but
    the loss of SQ. Mended: all these pairs, and all matches, have IoU 1.
void
    A truth segment of which more than half is void in the prediction: nothing was said. Or a prediction that has more
    of its pixels on void and crowds of the truth together than on any other truth segment, and yet not enough on void
    and the crowd of its category to be excused: nobody knows what is there. Mended: the truth segment is matched (with
    which IoU: see below), the prediction is gone.
missed
    Every other false negative: no prediction could be it. Mended: it is matched.
background
    Every other false positive: there is nothing that it could be. Mended: it is gone.

Errors are told apart by size, too: the square root of an area in pixels. It is that of the truth segment concerned, for
a false positive the one that it shares most pixels with among those that gave it its kind. Where there is none
(background, void) it is that of the prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from panscape.metrics.matching import SegmentMatches, match_segments, overlaps_under_protocol
from panscape.metrics.overlaps import areas_of, crowds_of, overlaps
from panscape.metrics.protocol import Protocol, get_protocol
from panscape.ops.confusion import JointHistogram
from panscape.panoptic import PanopticMap

NEAR_IOU = 0.1
"""From this IoU on, an unmatched prediction and an unmatched truth segment of its category are the same thing."""

SIZE_NAMES = ("below 16", "16 to 32", "32 to 64", "64 to 128", "128 and more")
"""The classes of size: square root of the area in pixels."""

NO_ERROR = -1
"""In place of a kind: the segment is no false negative and no false positive."""

_SIZE_LIMITS = np.array([16, 32, 64, 128], np.int64) ** 2


class ErrorKind(IntEnum):
    """The kinds of error, in the order in which they are shown; the value is the row in all counts."""

    CLASSIFICATION = 0
    UNDERSEGMENTATION = 1
    OVERSEGMENTATION = 2
    MISSED = 3
    BACKGROUND = 4
    LOCALIZATION = 5
    VOID = 6

    @property
    def title(self) -> str:
        """What a person calls it."""
        return _TITLES[self]


_TITLES = {
    ErrorKind.CLASSIFICATION: "classification",
    ErrorKind.UNDERSEGMENTATION: "undersegmentation",
    ErrorKind.OVERSEGMENTATION: "oversegmentation",
    ErrorKind.MISSED: "missed",
    ErrorKind.BACKGROUND: "background",
    ErrorKind.LOCALIZATION: "localization",
    ErrorKind.VOID: "void",
}

MATCHED_ROW = len(ErrorKind)
"""Counts have a row for every kind, and after them this one for the matches."""

NUM_ROWS = MATCHED_ROW + 1
_Integers = NDArray[np.int64]
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SegmentErrors:
    """The errors of one image, segment by segment; rows of the maps are ids minus one.

    Attributes:
        truth_kind: int64 [S], the kind of every false negative; `NO_ERROR` for all other truth segments.
        prediction_kind: int64 [T], the kind of every false positive; `NO_ERROR` for all other predictions.
        gain: float64 [7, S], by how much the sum of IoU grows at a truth segment if a kind of error is mended; 0 for
            those missed or left void, whose IoU nobody knows.
        truth_size: int64 [S], the class of size.
        prediction_size: int64 [T], likewise, of the truth segment concerned where there is one.
        taken_for: int64 [S], the row of the prediction that a confused truth segment was taken for, else -1.
    """

    truth_kind: _Integers
    prediction_kind: _Integers
    gain: _Floats
    truth_size: _Integers
    prediction_size: _Integers
    taken_for: _Integers


class ErrorCounts(NamedTuple):
    """The non-zero entries of an image's counts, float64 [K, 8, 5, 3] (see :mod:`panscape.metrics.error_costs`).

    Attributes:
        cell: int64 [C], positions in the flattened counts, ascending.
        value: float64 [C].
    """

    cell: _Integers
    value: _Floats


def find_errors(
    prediction: PanopticMap,
    truth: PanopticMap,
    histogram: JointHistogram | None = None,
    matches: SegmentMatches | None = None,
    protocol: str | Protocol = "coco",
    stuff_ids: Sequence[int] | None = None,
) -> SegmentErrors:
    """Give every false negative and every false positive of one image its kind.

    Args:
        prediction: of the same size as ``truth``.
        truth: with its crowds, if any.
        histogram: what :func:`~panscape.metrics.overlaps.overlaps` gives for both, if it is there already.
        matches: what :func:`~panscape.metrics.matching.match_segments` gives by the rules, if it is there already.
        protocol: a name in :data:`~panscape.metrics.protocol.PROTOCOLS`, or rules of your own.
        stuff_ids: categories that are stuff; rules by which stuff is whole need them, others do not ask for them.

    Returns:
        The errors. Where rules make one segment of several, it goes by its first row, as in the matches.

    Raises:
        InvalidArgumentError: the maps differ in size, or the rules need ``stuff_ids``.
        UnknownNameError: no rules have this name.
    """
    protocol = get_protocol(protocol)
    histogram = overlaps(prediction, truth) if histogram is None else histogram
    pairs = overlaps_under_protocol(prediction, truth, histogram, protocol, stuff_ids)
    if matches is None:
        matches = match_segments(prediction, truth, histogram, protocol, stuff_ids)
    return _Search(prediction, truth, pairs, matches, protocol).run()


class _Search:
    """The state of :func:`find_errors`: overlaps, and what has been decided so far."""

    def __init__(
        self,
        prediction: PanopticMap,
        truth: PanopticMap,
        pairs: tuple[_Integers, _Integers, _Integers],
        matches: SegmentMatches,
        protocol: Protocol,
    ) -> None:
        truth_id, predicted_id, area = pairs
        num_truth, num_predicted = truth.num_segments, prediction.num_segments
        is_crowd = crowds_of(truth) & (protocol.crowd == "excuse")
        is_void, is_silent = truth_id == 0, predicted_id == 0
        is_unknown = is_void | is_crowd[truth_id]
        self.truth_area = areas_of(truth_id, area, num_truth)[1:]
        self.predicted_area = areas_of(predicted_id, area, num_predicted)[1:]
        self.on_unknown = areas_of(predicted_id[is_unknown], area[is_unknown], num_predicted)[1:]
        self.left_void = areas_of(truth_id[is_silent], area[is_silent], num_truth)[1:]
        # What is left of segments in unions.
        self.truth_counted = self.truth_area - self.left_void * protocol.predicted_void_leaves_union
        self.predicted_counted = self.predicted_area - areas_of(predicted_id[is_void], area[is_void], num_predicted)[1:]

        # Pairs of a truth segment that is no crowd and a prediction.
        pair = (truth_id > 0) & (predicted_id > 0) & ~is_crowd[truth_id]
        self.a, self.b, self.shared = truth_id[pair] - 1, predicted_id[pair] - 1, area[pair]
        self.iou = self.shared / (self.truth_counted[self.a] + self.predicted_counted[self.b] - self.shared)
        self.is_same = truth.category.cpu().numpy()[self.a] == prediction.category.cpu().numpy()[self.b]

        self.is_missed, self.is_spurious = np.zeros(num_truth, bool), np.zeros(num_predicted, bool)
        self.is_missed[matches.missed.numpy()] = True
        self.is_spurious[matches.spurious.numpy()] = True
        self.is_taken = np.zeros(num_predicted, bool)
        self.is_taken[matches.prediction.numpy()] = True
        self.match_iou = np.zeros(num_truth)  # 0 for all that are not matched
        self.match_iou[matches.truth.numpy()] = matches.iou.numpy()

        self.truth_kind = np.full(num_truth, NO_ERROR, np.int64)
        self.prediction_kind = np.full(num_predicted, NO_ERROR, np.int64)
        self.gain = np.zeros((len(ErrorKind), num_truth))
        self.size_area = self.predicted_area.copy()  # what the size of a prediction's error is told by
        self.taken_for = np.full(num_truth, -1, np.int64)

    def run(self) -> SegmentErrors:
        """Decide for every unmatched segment."""
        self._confused()
        self._split()
        self._merged()
        self._near()
        self._rest()
        return SegmentErrors(
            self.truth_kind,
            self.prediction_kind,
            self.gain,
            np.searchsorted(_SIZE_LIMITS, self.truth_area, side="right"),
            np.searchsorted(_SIZE_LIMITS, self.size_area, side="right"),
            self.taken_for,
        )

    def _settle(self, kind: ErrorKind, pairs: NDArray[np.intp] | NDArray[np.bool_], iou: _Floats) -> None:
        """Give the unmatched segments of some pairs a kind; ``iou`` [pairs] is what their truth has when mended."""
        a, b, shared = self.a[pairs], self.b[pairs], self.shared[pairs]
        is_new = self.is_missed[a] & (self.truth_kind[a] == NO_ERROR)
        self.truth_kind[a[is_new]] = kind
        gains = is_new | (self.match_iou[a] > 0)
        self.gain[kind, a[gains]] = np.maximum(iou[gains] - self.match_iou[a[gains]], 0)
        order = np.argsort(shared, kind="stable")  # the largest is written last
        a, b = a[order], b[order]
        is_new = self.is_spurious[b] & (self.prediction_kind[b] == NO_ERROR)
        a, b = a[is_new], b[is_new]
        self.prediction_kind[b] = kind
        self.size_area[b] = self.truth_area[a]

    def _confused(self) -> None:
        pairs = ~self.is_same & (self.iou > 0.5) & self.is_missed[self.a] & ~self.is_taken[self.b]
        self.taken_for[self.a[pairs]] = self.b[pairs]
        self._settle(ErrorKind.CLASSIFICATION, pairs, self.iou[pairs])

    def _split(self) -> None:
        is_piece = self.is_same & (2 * self.shared > self.predicted_counted[self.b])
        a, num_truth = self.a[is_piece], len(self.truth_area)
        num_pieces = np.bincount(a, minlength=num_truth)
        shared = np.bincount(a, self.shared[is_piece], num_truth)
        counted = np.bincount(a, self.predicted_counted[self.b[is_piece]], num_truth)
        joined_iou = shared / np.maximum(self.truth_counted + counted - shared, 1)
        is_split = (num_pieces >= 2) & (joined_iou > 0.5)
        pairs = is_piece & is_split[self.a]
        self._settle(ErrorKind.OVERSEGMENTATION, pairs, joined_iou[self.a[pairs]])

    def _merged(self) -> None:
        is_covered = self.is_same & (2 * self.shared > self.truth_counted[self.a])
        num_covered = np.bincount(self.b[is_covered], minlength=len(self.predicted_area))
        pairs = is_covered & (num_covered[self.b] >= 2)
        self._settle(ErrorKind.UNDERSEGMENTATION, pairs, self.shared[pairs] / self.truth_counted[self.a[pairs]])

    def _near(self) -> None:
        possible = (
            self.is_same
            & (self.iou >= NEAR_IOU)
            & (self.is_missed & (self.truth_kind == NO_ERROR))[self.a]
            & (~self.is_taken & (self.prediction_kind == NO_ERROR))[self.b]
        ).nonzero()[0]
        chosen, seen_truth, seen_prediction = [], set(), set()
        for pair in possible[np.argsort(-self.iou[possible], kind="stable")].tolist():
            a, b = int(self.a[pair]), int(self.b[pair])
            if a not in seen_truth and b not in seen_prediction:
                chosen.append(pair)
                seen_truth.add(a)
                seen_prediction.add(b)
        self._settle(ErrorKind.LOCALIZATION, np.array(chosen, np.intp), np.ones(len(chosen)))
        is_matched = self.match_iou > 0
        self.gain[ErrorKind.LOCALIZATION, is_matched] = 1 - self.match_iou[is_matched]

    def _rest(self) -> None:
        is_open = self.is_missed & (self.truth_kind == NO_ERROR)
        is_silent = 2 * self.left_void > self.truth_area
        self.truth_kind[is_open] = np.where(is_silent, ErrorKind.VOID, ErrorKind.MISSED)[is_open]
        largest = np.zeros_like(self.predicted_area)
        np.maximum.at(largest, self.b, self.shared)
        is_open = self.is_spurious & (self.prediction_kind == NO_ERROR)
        is_unknown = self.on_unknown > largest
        self.prediction_kind[is_open] = np.where(is_unknown, ErrorKind.VOID, ErrorKind.BACKGROUND)[is_open]


def count_errors(
    errors: SegmentErrors, matches: SegmentMatches, prediction: PanopticMap, truth: PanopticMap
) -> ErrorCounts:
    """Count the errors of one image by category, kind and size.

    Args:
        errors: what :func:`find_errors` found.
        matches: what it was given or found.
        prediction: the maps that both are of.
        truth: likewise.

    Returns:
        Entries of counts [K, 8, 5, 3] for any K above the maps' categories.
    """
    of_truth, of_prediction = truth.category.cpu().numpy(), prediction.category.cpu().numpy()
    missed, spurious = (errors.truth_kind >= 0).nonzero()[0], (errors.prediction_kind >= 0).nonzero()[0]
    matched, (kind, gaining) = matches.truth.numpy(), errors.gain.nonzero()
    parts = (
        (of_truth[missed], errors.truth_kind[missed], errors.truth_size[missed], 0, np.ones(len(missed))),
        (
            of_prediction[spurious],
            errors.prediction_kind[spurious],
            errors.prediction_size[spurious],
            1,
            np.ones(len(spurious)),
        ),
        (of_truth[gaining], kind, errors.truth_size[gaining], 2, errors.gain[kind, gaining]),
        (of_truth[matched], MATCHED_ROW, errors.truth_size[matched], 0, np.ones(len(matched))),
        (of_truth[matched], MATCHED_ROW, errors.truth_size[matched], 2, matches.iou.numpy()),
    )
    cells = [((c * NUM_ROWS + row) * len(SIZE_NAMES) + size) * 3 + column for c, row, size, column, _ in parts]
    cell, where = np.unique(np.concatenate(cells), return_inverse=True)
    values = np.concatenate([part[-1] for part in parts])
    return ErrorCounts(cell.astype(np.int64), np.bincount(where, values, len(cell)).astype(np.float64))
