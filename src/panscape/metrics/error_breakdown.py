"""Error breakdown: the impact of each error type (ΔPQ), the PQ with only these errors fixed minus the PQ.

The types are those of :mod:`panscape.metrics.error_types`. The impact of a type is measured by fixing all its
errors, leaving the others unchanged, and counting again. The impacts do not sum to 100 minus PQ: one error can hide
another, and PQ is a quotient.

The IoU that a missed segment would have once found is unknown. It gets the mean IoU of the matches of its category
(SQ), or if there are none, that of all matches, or 1: this assumes that a model that finds more segments outlines them
as well as those that it finds already. IoU 1 would fix their outlines as well, and missed segments would seem more
costly than classification errors, which keep their outlines. (TIDE removes missed objects from the ground truth
instead, which would leave out the gain of finding them.)

A category that has no segments left after fixing (it only had false positives) leaves the mean of its group, as in PQ;
its own PQ then counts as 1, and so does a group without categories left. No impact is negative: the IoU of a fixed
match is above half of any PQ. Means are over the categories that occur, also under protocols that count absent
categories with 0 or pool the segments of groups.

Fixing all types one after the other, localization last, results in PQ 1: the types cover all false negatives and all
false positives, and in the end every match has IoU 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.labels import LabelSpace
from panscape.metrics.base import MatchedMetric
from panscape.metrics.error_types import MATCHED_ROW, NUM_ROWS, SIZE_NAMES, ErrorType, count_errors, find_errors
from panscape.metrics.matching import SegmentMatches
from panscape.metrics.reports import Report
from panscape.metrics.tables import format_table
from panscape.ops.contingency_table import ContingencyTable
from panscape.panoptic import PanopticMap

_Floats = NDArray[np.float64]


def pq_if_fixed(counts: _Floats, fixed: _Floats) -> _Floats:
    """Return the PQ of every category after some errors are fixed.

    Args:
        counts: float64 [..., K, 8, 5, 3], as in :class:`ErrorBreakdown`.
        fixed: float64 [..., K, 7, 5, 3], the errors in ``counts`` that are fixed.

    Returns:
        float64 [..., K] in 0..1; nan for categories without matches and errors.
    """
    tp, iou_sum = (counts[..., MATCHED_ROW, :, column].sum(-1) for column in (0, 2))
    fn, fp = (counts[..., :MATCHED_ROW, :, column].sum((-1, -2)) for column in (0, 1))
    found, removed, gain = (fixed[..., column].sum((-1, -2)) for column in (0, 1, 2))
    assumed = fixed[..., 0][..., [ErrorType.MISSED, ErrorType.VOID], :].sum((-1, -2))
    with np.errstate(invalid="ignore", divide="ignore"):
        overall = iou_sum.sum(-1, keepdims=True) / tp.sum(-1, keepdims=True)
        sq = np.where(tp > 0, iou_sum / tp, np.where(np.isnan(overall), 1.0, overall))
        pq = (iou_sum + gain + assumed * sq) / (tp + found + (fn - found) / 2 + (fp - removed) / 2)
    return np.asarray(pq, np.float64)


def group_cost(before: _Floats, after: _Floats) -> _Floats:
    """Return the increase of the mean over categories.

    Args:
        before: float64 [..., K], PQ before fixing; nan for categories without segments.
        after: float64 [..., K], PQ after fixing; nan also for categories without segments left.

    Returns:
        float64 [...], nan if no category had segments.
    """
    return np.where(np.isnan(before).all(-1), np.nan, _mean(after, empty=1.0) - _mean(before, empty=0.0))


def _mean(values: _Floats, empty: float) -> _Floats:
    present = ~np.isnan(values)
    number = present.sum(-1)
    return np.where(number > 0, np.where(present, values, 0).sum(-1) / np.maximum(number, 1), empty)


@dataclass(frozen=True, slots=True)
class ErrorImpact:
    """The impact of one error type on a set of images, as differences of PQ in 0..1 (ΔPQ).

    Attributes:
        fn: number of false negatives of this type.
        fp: number of false positives of this type.
        all: gain in PQ over all categories if these errors are fixed; nan without segments.
        things: likewise for the mean over things.
        stuff: likewise for the mean over stuff.
        by_size: likewise over all categories, if only the errors of one size class are fixed; keys are `SIZE_NAMES`.
        per_category: gain in PQ of each category, by name; nan for categories without segments.
    """

    fn: int
    fp: int
    all: float
    things: float
    stuff: float
    by_size: Mapping[str, float]
    per_category: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SizeQuality:
    """Quality for the true segments of one size class.

    Attributes:
        num_truth: number of true segments.
        tp: number of matched segments among them.
        iou_sum: sum of the IoU of the matches.
        fp: number of false positives of this size.
        cost: gain in PQ over all categories if all errors of this size are fixed, localization included.
    """

    num_truth: int
    tp: int
    iou_sum: float
    fp: int
    cost: float


@dataclass(frozen=True, slots=True)
class ErrorReport(Report):
    """The error breakdown; ``str()`` returns a table in points of PQ (percent), the largest impact first.

    Attributes:
        types: impact by :class:`ErrorType`.
        sizes: quality by size class, keys are `SIZE_NAMES`.
        outlines: the part of the localization impact from matches with IoU < 1.
        near_misses: the part from outlines too inaccurate to match.
    """

    types: Mapping[ErrorType, ErrorImpact]
    sizes: Mapping[str, SizeQuality]
    outlines: ErrorImpact
    near_misses: ErrorImpact

    def __str__(self) -> str:
        rows = [["error", "ΔPQ", "things", "stuff", "FN", "FP"]]
        for error_type, cost in sorted(self.types.items(), key=lambda item: (-np.nan_to_num(item[1].all), item[0])):
            shares = ["-" if np.isnan(v) else f"{100 * v:.2f}" for v in (cost.all, cost.things, cost.stuff)]
            rows.append([error_type.title, *shares, str(cost.fn), str(cost.fp)])
        return format_table(rows)


class ErrorBreakdown(MatchedMetric[ErrorReport]):
    """Accumulates the errors of images, as defined at the top of this module.

    Attributes:
        state: float64 [K, 8, 5, 3]: by category, type (in the order of :class:`ErrorType`) and size, the false
            negatives, the false positives and the increase of the sum of IoU if they are fixed. The last row has the
            matches: their number, 0, and their sum of IoU.
    """

    columns = (NUM_ROWS, len(SIZE_NAMES), 3)

    def count_image(
        self, prediction: PanopticMap, truth: PanopticMap, histogram: ContingencyTable, matches: SegmentMatches
    ) -> Tensor:
        """See :meth:`MatchedMetric.count_image`."""
        errors = find_errors(prediction, truth, histogram, matches, self.protocol, self.labels.stuff_ids)
        cell, value = map(torch.from_numpy, count_errors(errors, matches, prediction, truth))
        counts = torch.zeros_like(self.state)
        counts.view(-1)[cell] = value
        return counts

    def compute(self) -> ErrorReport:
        """Report on all images so far."""
        return report_errors(self.state.numpy(), self.labels)


def report_errors(counts: _Floats, labels: LabelSpace) -> ErrorReport:
    """Return the error breakdown of summed counts.

    Args:
        counts: float64 [K, 8, 5, 3], as in :class:`ErrorBreakdown`.
        labels: with K categories.
    """
    errors = counts[:, :MATCHED_ROW]
    before = pq_if_fixed(counts, np.zeros_like(errors))
    types = {}
    for error_type in ErrorType:
        fixed = np.zeros_like(errors)
        fixed[:, error_type] = errors[:, error_type]
        types[error_type] = _impact(counts, before, fixed, labels)
    localization = errors[:, ErrorType.LOCALIZATION]
    outlines, near_misses = np.zeros_like(errors), np.zeros_like(errors)
    near_misses[:, ErrorType.LOCALIZATION] = localization[..., [0, 1, 0]]  # each gets IoU 1
    outlines[:, ErrorType.LOCALIZATION, :, 2] = localization[..., 2] - localization[..., 0]
    return ErrorReport(
        types,
        {name: _size_quality(counts, size, before) for size, name in enumerate(SIZE_NAMES)},
        outlines=_impact(counts, before, outlines, labels),
        near_misses=_impact(counts, before, near_misses, labels),
    )


def _impact(counts: _Floats, before: _Floats, fixed: _Floats, labels: LabelSpace) -> ErrorImpact:
    """Return the impact of the errors in ``fixed``, float64 [K, 7, 5, 3]."""
    after = pq_if_fixed(counts, fixed)
    gains = np.where(np.isnan(before), np.nan, np.nan_to_num(after, nan=1.0) - before)
    things, stuff = list(labels.thing_ids), list(labels.stuff_ids)
    by_size = {}
    for size, name in enumerate(SIZE_NAMES):
        part = np.zeros_like(fixed)
        part[:, :, size] = fixed[:, :, size]
        by_size[name] = float(group_cost(before, pq_if_fixed(counts, part)))
    return ErrorImpact(
        fn=int(fixed[..., 0].sum()),
        fp=int(fixed[..., 1].sum()),
        all=float(group_cost(before, after)),
        things=float(group_cost(before[things], after[things])),
        stuff=float(group_cost(before[stuff], after[stuff])),
        by_size=by_size,
        per_category=dict(zip((c.name for c in labels), gains.tolist(), strict=True)),
    )


def _size_quality(counts: _Floats, size: int, before: _Floats) -> SizeQuality:
    tp, iou_sum = counts[:, MATCHED_ROW, size, 0], counts[:, MATCHED_ROW, size, 2]
    fn, fp = (counts[:, :MATCHED_ROW, size, column].sum(-1) for column in (0, 1))
    # With all types fixed, localization last, every true segment of this size is a match with IoU 1.
    perfect = np.zeros_like(counts[:, :MATCHED_ROW])
    perfect[:, ErrorType.LOCALIZATION, size] = np.stack([fn, fp, fn + tp - iou_sum], -1)
    return SizeQuality(
        num_truth=int((tp + fn).sum()),
        tp=int(tp.sum()),
        iou_sum=float(iou_sum.sum()),
        fp=int(fp.sum()),
        cost=float(group_cost(before, pq_if_fixed(counts, perfect))),
    )
