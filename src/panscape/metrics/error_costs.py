"""What each kind of error costs: PQ if it alone were mended, minus PQ.

The kinds are those of :mod:`panscape.metrics.error_analysis`. A kind's cost is measured by mending all its errors,
leaving the others as they are, and counting again. Costs do not add up to what is missing to 100: one error can hide
another, and PQ is a quotient.

With which IoU a segment would be matched that nothing was predicted for, nobody knows. It gets the mean IoU of the
matches of its category (SQ), or if there are none, that of all matches, or 1: a model that finds more segments outlines
them about as well as those that it finds already. Giving them IoU 1 would mend their outlines along with them and make
misses look dearer than confusions, which keep theirs. (TIDE takes missed objects out of the truth instead, which would
leave the reward for finding them out.)

A mended category of which nothing is left (false positives were all it had) leaves the mean of its group, as in PQ; for
itself it counts with 1 then, and so does a group of which nothing is left. No cost is negative: the IoU of a mended
match is above half of any PQ. Means are over the categories that occur, also by rules that count others with 0.

Mending one kind after the other and the boundary last leaves PQ 1: the false negatives of the kinds are all there are,
so are the false positives, and in the end every match has IoU 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from panscape.labels import LabelSpace
from panscape.metrics.error_analysis import (
    MATCHED_ROW,
    NUM_ROWS,
    SIZE_NAMES,
    ErrorCounts,
    ErrorKind,
    count_errors,
    find_errors,
)
from panscape.metrics.matching import match_segments
from panscape.metrics.overlaps import overlaps, require_categories, require_same_labels
from panscape.metrics.protocol import Protocol, get_protocol, require_same_protocol
from panscape.metrics.tables import format_table
from panscape.ops.confusion import JointHistogram
from panscape.panoptic import PanopticMap

_Floats = NDArray[np.float64]


def pq_if_fixed(counts: _Floats, fixed: _Floats) -> _Floats:
    """Return the PQ of every category after some of the errors were mended.

    Args:
        counts: float64 [..., K, 8, 5, 3], as in :class:`ErrorAnalysis`.
        fixed: float64 [..., K, 7, 5, 3], the part of the errors in ``counts`` to mend.

    Returns:
        float64 [..., K] in 0..1; nan for categories without matches and errors.
    """
    tp, iou_sum = (counts[..., MATCHED_ROW, :, column].sum(-1) for column in (0, 2))
    fn, fp = (counts[..., :MATCHED_ROW, :, column].sum((-1, -2)) for column in (0, 1))
    found, gone, gain = (fixed[..., column].sum((-1, -2)) for column in (0, 1, 2))
    guessed = fixed[..., 0][..., [ErrorKind.MISSED, ErrorKind.VOID], :].sum((-1, -2))
    with np.errstate(invalid="ignore", divide="ignore"):
        overall = iou_sum.sum(-1, keepdims=True) / tp.sum(-1, keepdims=True)
        sq = np.where(tp > 0, iou_sum / tp, np.where(np.isnan(overall), 1.0, overall))
        pq = (iou_sum + gain + guessed * sq) / (tp + found + (fn - found) / 2 + (fp - gone) / 2)
    return np.asarray(pq, np.float64)


def group_cost(before: _Floats, after: _Floats) -> _Floats:
    """Return by how much the mean over categories grows.

    Args:
        before: float64 [..., K], PQ as it is; nan for categories without segments.
        after: float64 [..., K], PQ after mending; nan also for those of which nothing is left.

    Returns:
        float64 [...], nan where no category had segments.
    """
    return np.where(np.isnan(before).all(-1), np.nan, _mean(after, empty=1.0) - _mean(before, empty=0.0))


def _mean(values: _Floats, empty: float) -> _Floats:
    present = ~np.isnan(values)
    number = present.sum(-1)
    return np.where(number > 0, np.where(present, values, 0).sum(-1) / np.maximum(number, 1), empty)


@dataclass(frozen=True, slots=True)
class ErrorImpact:
    """One kind of error over a set of images; costs are differences of PQ in 0..1.

    Attributes:
        fn: number of false negatives of this kind.
        fp: number of false positives of this kind.
        all: what PQ over all categories gains if these errors are mended; nan without segments.
        things: likewise for the mean over the things.
        stuff: likewise for the stuff.
        by_size: likewise over all categories, if only the errors of one class of size are mended; by `SIZE_NAMES`.
        per_category: by name: what the category's own PQ gains; nan for those without segments.
    """

    fn: int
    fp: int
    all: float
    things: float
    stuff: float
    by_size: Mapping[str, float]
    per_category: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts for JSON; None stands for nan."""
        return {
            "fn": self.fn,
            "fp": self.fp,
            **{group: _or_none(getattr(self, group)) for group in ("all", "things", "stuff")},
            "by_size": {name: _or_none(value) for name, value in self.by_size.items()},
            "per_category": {name: _or_none(value) for name, value in self.per_category.items()},
        }


@dataclass(frozen=True, slots=True)
class SizeQuality:
    """How truth segments of one class of size fared.

    Attributes:
        num_truth: number of them.
        tp: number of those that were matched.
        iou_sum: over the matches.
        fp: number of false positives of this size.
        cost: what PQ over all categories gains if all errors of this size are mended, outlines first to last.
    """

    num_truth: int
    tp: int
    iou_sum: float
    fp: int
    cost: float


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """What errors cost; ``str()`` gives a table in points of PQ (percent).

    Attributes:
        kinds: by :class:`ErrorKind`.
        sizes: by the names of `SIZE_NAMES`.
        outlines: the part of the boundary's cost that is due to segments that were matched, with IoU < 1.
        near_misses: the part that is due to outlines so wrong that nothing was matched.
    """

    kinds: Mapping[ErrorKind, ErrorImpact]
    sizes: Mapping[str, SizeQuality]
    outlines: ErrorImpact
    near_misses: ErrorImpact

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """Return lines with the kinds, the dearest first, in points of PQ."""
        rows = [["error", "costs PQ", "things", "stuff", "FN", "FP"]]
        for kind, cost in sorted(self.kinds.items(), key=lambda item: (-np.nan_to_num(item[1].all), item[0])):
            shares = ["-" if np.isnan(v) else f"{100 * v:.2f}" for v in (cost.all, cost.things, cost.stuff)]
            rows.append([kind.title, *shares, str(cost.fn), str(cost.fp)])
        return format_table(rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts for JSON; None stands for nan."""
        return {
            "kinds": {kind.name.lower(): cost.to_dict() for kind, cost in self.kinds.items()},
            "outlines": self.outlines.to_dict(),
            "near_misses": self.near_misses.to_dict(),
            "sizes": {
                name: {"num_truth": s.num_truth, "tp": s.tp, "iou_sum": s.iou_sum, "fp": s.fp, "cost": _or_none(s.cost)}
                for name, s in self.sizes.items()
            },
        }


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


class ErrorAnalysis:
    """Accumulates the errors of images, as the top of this module says.

    Accumulators of several processes are merged with :meth:`merge`, or by adding up their :attr:`state`.

    Attributes:
        labels: the label space of predictions and truth.
        protocol: of PQ, by which there are errors.
        state: float64 [K, 8, 5, 3]: by category, kind (in the order of :class:`ErrorKind`) and size the false
            negatives, the false positives and the growth of the sum of IoU if they are mended. The last row has the
            matches: their number, 0, and their sum of IoU.
    """

    def __init__(self, labels: LabelSpace, protocol: str | Protocol = "coco") -> None:
        """Start without images.

        Args:
            labels: the label space of predictions and truth.
            protocol: a name in :data:`~panscape.metrics.protocol.PROTOCOLS`, or rules of your own.

        Raises:
            UnknownNameError: no rules have this name.
        """
        self.labels = labels
        self.protocol = get_protocol(protocol)
        self.state = torch.zeros(len(labels), NUM_ROWS, len(SIZE_NAMES), 3, dtype=torch.float64)

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
        histogram = overlaps(prediction, truth) if histogram is None else histogram
        protocol, stuff_ids = self.protocol, self.labels.stuff_ids
        matches = match_segments(prediction, truth, histogram, protocol, stuff_ids)
        errors = find_errors(prediction, truth, histogram, matches, protocol, stuff_ids)
        self.add(count_errors(errors, matches, prediction, truth))

    def add(self, counts: ErrorCounts) -> None:
        """Take one image into account that was counted before."""
        self.state.view(-1).index_add_(0, torch.from_numpy(counts.cell), torch.from_numpy(counts.value))

    def merge(self, other: ErrorAnalysis) -> None:
        """Add the images of another accumulator to this one.

        Raises:
            InvalidArgumentError: it has another label space or other rules.
        """
        require_same_labels(self.labels, other.labels)
        require_same_protocol(self.protocol, other.protocol)
        self.state += other.state

    def reset(self) -> None:
        """Forget all images."""
        self.state.zero_()

    def compute(self) -> ErrorReport:
        """Report on all images so far."""
        return report_errors(self.state.numpy(), self.labels)


def report_errors(counts: _Floats, labels: LabelSpace) -> ErrorReport:
    """Report on the sum of counts.

    Args:
        counts: float64 [K, 8, 5, 3], as in :class:`ErrorAnalysis`.
        labels: with K categories.
    """
    errors = counts[:, :MATCHED_ROW]
    before = pq_if_fixed(counts, np.zeros_like(errors))
    kinds = {}
    for kind in ErrorKind:
        fixed = np.zeros_like(errors)
        fixed[:, kind] = errors[:, kind]
        kinds[kind] = _kind_cost(counts, before, fixed, labels)
    boundary = errors[:, ErrorKind.LOCALIZATION]
    outlines, near_misses = np.zeros_like(errors), np.zeros_like(errors)
    near_misses[:, ErrorKind.LOCALIZATION] = boundary[..., [0, 1, 0]]  # each gets IoU 1
    outlines[:, ErrorKind.LOCALIZATION, :, 2] = boundary[..., 2] - boundary[..., 0]
    return ErrorReport(
        kinds,
        {name: _size_quality(counts, size, before) for size, name in enumerate(SIZE_NAMES)},
        outlines=_kind_cost(counts, before, outlines, labels),
        near_misses=_kind_cost(counts, before, near_misses, labels),
    )


def _kind_cost(counts: _Floats, before: _Floats, fixed: _Floats, labels: LabelSpace) -> ErrorImpact:
    """Return what the errors in ``fixed``, float64 [K, 7, 5, 3], cost."""
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
    # With all kinds mended and outlines last, every truth segment of this size is a match with IoU 1.
    perfect = np.zeros_like(counts[:, :MATCHED_ROW])
    perfect[:, ErrorKind.LOCALIZATION, size] = np.stack([fn, fp, fn + tp - iou_sum], -1)
    return SizeQuality(
        num_truth=int((tp + fn).sum()),
        tp=int(tp.sum()),
        iou_sum=float(iou_sum.sum()),
        fp=int(fp.sum()),
        cost=float(group_cost(before, pq_if_fixed(counts, perfect))),
    )
