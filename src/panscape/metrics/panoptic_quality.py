"""Panoptic quality (Kirillov et al., "Panoptic Segmentation", CVPR 2019), by the rules of the COCO panopticapi.

Every rule that changes a number:

- A truth and a predicted segment match if their categories are equal and their IoU is strictly above 0.5. Pixels that
  are void in the truth do not count towards the predicted segment's area in the union; predicted void and crowds in the
  truth change nothing.
- Crowd segments of the truth are neither matched nor missed. Whether a *predicted* segment is a crowd plays no role.
- An unmatched prediction is a false positive unless more than half of it lies on void and the crowd of its category.
- Of several crowd segments of one category in a picture only the last counts for that, as in panopticapi.
- Categories without any match, false positive and miss stay out of the means. The PQ of a group is the mean of its
  categories' PQ, not the product of the group's SQ and RQ.

Areas are counted in the maps, where panopticapi takes those of the truth from its JSON file. Segments without pixels do
not count; panopticapi misses such segments of the truth and refuses such predictions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.kernels.joint_histogram import JointHistogram
from panscape.labels import LabelSpace
from panscape.metrics.overlaps import overlaps, require_categories, require_same_labels
from panscape.metrics.tables import aligned, percent
from panscape.panoptic import PanopticMap


class SegmentMatches(NamedTuple):
    """How the segments of one picture fared; all parts are on the CPU and index rows of the maps (id minus one).

    Attributes:
        truth: int64 [M], matched segments of the truth, ascending.
        prediction: int64 [M], their partners.
        iou: float64 [M] in (0.5, 1].
        missed: int64, false negatives: rows of the truth.
        spurious: int64, false positives: rows of the prediction.
    """

    truth: Tensor
    prediction: Tensor
    iou: Tensor
    missed: Tensor
    spurious: Tensor


def match_segments(
    prediction: PanopticMap, truth: PanopticMap, histogram: JointHistogram | None = None
) -> SegmentMatches:
    """Match the segments of one picture by the rules at the top of this module.

    Args:
        prediction: of the same size as ``truth``.
        truth: with its crowds, if any.
        histogram: what :func:`~panscape.metrics.overlaps.overlaps` gives for both, if it is there already.

    Raises:
        InvalidArgumentError: the maps differ in size.
    """
    histogram = overlaps(prediction, truth) if histogram is None else histogram
    truth_id, predicted_id, area = (part.numpy() for part in histogram)
    num_truth, num_predicted = truth.num_segments, prediction.num_segments
    # Position 0 is void; its category equals no other, not even that of the other void.
    truth_category = np.concatenate([[-1], truth.category.cpu().numpy()])
    predicted_category = np.concatenate([[-2], prediction.category.cpu().numpy()])
    truth_area, predicted_area = np.zeros(num_truth + 1, np.int64), np.zeros(num_predicted + 1, np.int64)
    np.add.at(truth_area, truth_id, area)
    np.add.at(predicted_area, predicted_id, area)
    is_crowd = np.zeros(num_truth + 1, dtype=bool)
    if truth.crowd is not None:
        is_crowd[1:] = truth.crowd.cpu().numpy()

    on_void = np.zeros(num_predicted + 1, dtype=np.int64)
    on_void[predicted_id[truth_id == 0]] = area[truth_id == 0]
    is_same = truth_category[truth_id] == predicted_category[predicted_id]

    possible = is_same & ~is_crowd[truth_id]
    a, b, shared = truth_id[possible], predicted_id[possible], area[possible]
    iou = shared / (truth_area[a] + predicted_area[b] - shared - on_void[b])
    a, b, iou = a[iou > 0.5], b[iou > 0.5], iou[iou > 0.5]

    is_missed = (truth_area > 0) & ~is_crowd
    is_missed[a] = False
    excused = on_void.copy()
    on_crowd = is_same & _is_remembered(is_crowd & (truth_area > 0), truth_category)[truth_id]
    excused[predicted_id[on_crowd]] += area[on_crowd]  # one crowd a category, hence each prediction at most once
    is_spurious = (predicted_area > 0) & (excused / np.maximum(predicted_area, 1) <= 0.5)
    is_spurious[b] = False
    is_missed[0] = is_spurious[0] = False
    rows = (a - 1, b - 1, iou, is_missed.nonzero()[0] - 1, is_spurious.nonzero()[0] - 1)
    return SegmentMatches(*map(torch.from_numpy, rows))


def _is_remembered(is_crowd: NDArray[np.bool_], category: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Keep only the last crowd of every category."""
    last = {int(category[i]): i for i in is_crowd.nonzero()[0]}
    remembered = np.zeros_like(is_crowd)
    remembered[list(last.values())] = True
    return remembered


@dataclass(frozen=True, slots=True)
class CategoryQuality:
    """The panoptic quality of one category.

    Attributes:
        tp: number of matched segments.
        fp: number of false positives.
        fn: number of missed segments.
        iou_sum: over all matches.
    """

    tp: int
    fp: int
    fn: int
    iou_sum: float

    @property
    def num_segments(self) -> int:
        """Number of matched, spurious and missed segments; the category counts towards means when there is one."""
        return self.tp + self.fp + self.fn

    @property
    def pq(self) -> float:
        """Panoptic quality in 0..1; nan without segments."""
        return self.iou_sum / (self.tp + 0.5 * self.fp + 0.5 * self.fn) if self.num_segments else math.nan

    @property
    def sq(self) -> float:
        """Segmentation quality, the mean IoU of the matches, in 0..1; 0 without matches, nan without segments."""
        if not self.num_segments:
            return math.nan
        return self.iou_sum / self.tp if self.tp else 0.0

    @property
    def rq(self) -> float:
        """Recognition quality, the F1 score, in 0..1; nan without segments."""
        return self.tp / (self.tp + 0.5 * self.fp + 0.5 * self.fn) if self.num_segments else math.nan


@dataclass(frozen=True, slots=True)
class GroupQuality:
    """Means over the categories of a group that have segments.

    Attributes:
        pq: panoptic quality in 0..1; nan without any such category.
        sq: segmentation quality, likewise.
        rq: recognition quality, likewise.
        num_categories: number of categories in the means.
    """

    pq: float
    sq: float
    rq: float
    num_categories: int

    @classmethod
    def mean(cls, categories: Sequence[CategoryQuality]) -> GroupQuality:
        """Average the categories that have segments."""
        present = [category for category in categories if category.num_segments]
        if not present:
            return cls(math.nan, math.nan, math.nan, 0)
        count = len(present)
        return cls(
            sum(c.pq for c in present) / count,
            sum(c.sq for c in present) / count,
            sum(c.rq for c in present) / count,
            count,
        )


@dataclass(frozen=True, slots=True)
class PanopticQualityReport:
    """The panoptic quality of a set of pictures; ``str()`` gives a table in percent.

    Attributes:
        all: means over all categories.
        things: means over the things.
        stuff: means over the stuff.
        per_category: by category name, in the order of the label space.
    """

    all: GroupQuality
    things: GroupQuality
    stuff: GroupQuality
    per_category: Mapping[str, CategoryQuality]

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """Return lines that list groups, then the categories that have segments, in percent."""
        rows = [["", "PQ", "SQ", "RQ", "TP", "FP", "FN"]]
        for name, group in (("all", self.all), ("things", self.things), ("stuff", self.stuff)):
            shares = [percent(value) for value in (group.pq, group.sq, group.rq)]
            rows.append([f"{name} ({group.num_categories})", *shares, "", "", ""])
        for name, category in self.per_category.items():
            if category.num_segments:
                shares = [percent(value) for value in (category.pq, category.sq, category.rq)]
                rows.append([name, *shares, str(category.tp), str(category.fp), str(category.fn)])
        return aligned(rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts for JSON; None stands for nan."""
        groups = {name: asdict(getattr(self, name)) for name in ("all", "things", "stuff")}
        categories = {name: {"pq": c.pq, "sq": c.sq, "rq": c.rq, **asdict(c)} for name, c in self.per_category.items()}
        for entry in (*groups.values(), *categories.values()):
            entry.update({key: None for key, value in entry.items() if math.isnan(value)})
        return {**groups, "per_category": categories}


class PanopticQuality:
    """Accumulates panoptic quality over pictures, by the rules at the top of this module.

    Sums of IoU are added up within a picture, pairs ascending by truth id, and then over the pictures in the order of
    the updates. Accumulators of several processes are merged with :meth:`merge`, or by adding up their :attr:`state`.

    Attributes:
        labels: the label space of predictions and truth.
        state: float64 [K, 4]: matches, false positives, misses and sum of IoU by category.
    """

    def __init__(self, labels: LabelSpace) -> None:
        """Start without pictures.

        Args:
            labels: the label space of predictions and truth.
        """
        self.labels = labels
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
        matches = match_segments(prediction, truth, histogram)
        of_truth, of_prediction = truth.category.cpu(), prediction.category.cpu()
        columns = (
            (of_truth[matches.truth], None),
            (of_prediction[matches.spurious], None),
            (of_truth[matches.missed], None),
            (of_truth[matches.truth], matches.iou.numpy()),
        )
        for column, (category, weights) in enumerate(columns):
            counts = np.bincount(category.numpy(), weights, minlength=len(self.labels))
            self.state[:, column] += torch.from_numpy(counts)

    def merge(self, other: PanopticQuality) -> None:
        """Add the pictures of another accumulator to this one.

        Raises:
            InvalidArgumentError: it has another label space.
        """
        require_same_labels(self.labels, other.labels)
        self.state += other.state

    def reset(self) -> None:
        """Forget all pictures."""
        self.state.zero_()

    def compute(self) -> PanopticQualityReport:
        """Report on all pictures so far."""
        per_category = {
            category.name: CategoryQuality(int(tp), int(fp), int(fn), iou_sum)
            for category, (tp, fp, fn, iou_sum) in zip(self.labels, self.state.tolist(), strict=True)
        }
        qualities = list(per_category.values())
        return PanopticQualityReport(
            all=GroupQuality.mean(qualities),
            things=GroupQuality.mean([qualities[i] for i in self.labels.thing_ids]),
            stuff=GroupQuality.mean([qualities[i] for i in self.labels.stuff_ids]),
            per_category=per_category,
        )
