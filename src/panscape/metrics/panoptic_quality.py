"""Panoptic quality (Kirillov et al., "Panoptic Segmentation", CVPR 2019), as defined by COCO panopticapi.

The default protocol (others are in :mod:`panscape.metrics.protocol`):

- A true and a predicted segment match if their categories are equal and their IoU is strictly above 0.5. Pixels that
  are void in the ground truth do not count towards the predicted segment's area in the union. Predicted void and crowds
  in the ground truth have no effect on the union.
- Crowd segments of the ground truth are neither matched nor missed. The crowd flag of a *predicted* segment is ignored.
- An unmatched prediction is a false positive unless more than half of it lies on void and the crowd of its category.
- If an image has several crowd segments of one category, only the last one excuses predictions, as in panopticapi.
- Categories without any true positive, false positive and false negative are left out of the means. The PQ of a group
  is the mean of its categories' PQ, not the product of the group's SQ and RQ.

Areas are counted in the maps; panopticapi takes the areas of the ground truth from its JSON file. Segments without
pixels are ignored; panopticapi counts such ground-truth segments as missed and rejects such predictions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from panscape.labels import LabelSpace
from panscape.metrics.matching import SegmentMatches, match_segments
from panscape.metrics.overlaps import require_categories, require_same_labels
from panscape.metrics.protocol import Protocol, get_protocol, require_same_protocol
from panscape.metrics.tables import format_percent, format_table, nan_to_none
from panscape.ops.confusion import JointHistogram
from panscape.panoptic import PanopticMap


@dataclass(frozen=True, slots=True)
class CategoryQuality:
    """The panoptic quality of one category.

    Attributes:
        tp: number of true positives (matched segments).
        fp: number of false positives.
        fn: number of false negatives.
        iou_sum: sum of the IoU of all matches.
    """

    tp: int
    fp: int
    fn: int
    iou_sum: float

    @property
    def num_segments(self) -> int:
        """Sum of true positives, false positives and false negatives; a category with 0 is left out of the means."""
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
    """Means over the categories of a group that have segments, or over all categories, as the protocol defines.

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
    def mean(cls, categories: Sequence[CategoryQuality], *, absent_count: bool = False) -> GroupQuality:
        """Average the categories that have segments, or with ``absent_count`` all, those without segments as 0."""
        present = [category for category in categories if category.num_segments]
        count = len(categories) if absent_count else len(present)
        if not count:
            return cls(math.nan, math.nan, math.nan, 0)
        return cls(
            sum(c.pq for c in present) / count,
            sum(c.sq for c in present) / count,
            sum(c.rq for c in present) / count,
            count,
        )


@dataclass(frozen=True, slots=True)
class PanopticQualityReport:
    """The panoptic quality of a set of images; ``str()`` gives a table in percent.

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
        """Return a table in percent: groups, then the categories that have segments."""
        rows = [["", "PQ", "SQ", "RQ", "TP", "FP", "FN"]]
        for name, group in (("all", self.all), ("things", self.things), ("stuff", self.stuff)):
            shares = [format_percent(value) for value in (group.pq, group.sq, group.rq)]
            rows.append([f"{name} ({group.num_categories})", *shares, "", "", ""])
        for name, category in self.per_category.items():
            if category.num_segments:
                shares = [format_percent(value) for value in (category.pq, category.sq, category.rq)]
                rows.append([name, *shares, str(category.tp), str(category.fp), str(category.fn)])
        return format_table(rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts for JSON; None stands for nan."""
        groups = {name: asdict(getattr(self, name)) for name in ("all", "things", "stuff")}
        categories = {name: {"pq": c.pq, "sq": c.sq, "rq": c.rq, **asdict(c)} for name, c in self.per_category.items()}
        nan_to_none(*groups.values(), *categories.values())
        return {**groups, "per_category": categories}


class PanopticQuality:
    """Accumulates panoptic quality over images, as defined at the top of this module, or by another protocol.

    IoU is summed within an image, pairs ascending by ground-truth id, and then over the images in the order of the
    updates. Accumulators of several processes are merged with :meth:`merge` or by summing their :attr:`state`.

    Attributes:
        labels: the label space of predictions and truth.
        protocol: the evaluation protocol.
        state: float64 [K, 4]: true positives, false positives, false negatives and sum of IoU by category.
    """

    def __init__(self, labels: LabelSpace, protocol: str | Protocol = "coco") -> None:
        """Start with no images.

        Args:
            labels: the label space of predictions and truth.
            protocol: a name in :data:`~panscape.metrics.protocol.PROTOCOLS`, or a custom protocol.

        Raises:
            UnknownNameError: no protocol has this name.
        """
        self.labels = labels
        self.protocol = get_protocol(protocol)
        self.state = torch.zeros(len(labels), 4, dtype=torch.float64)

    def update(
        self,
        prediction: PanopticMap,
        truth: PanopticMap,
        histogram: JointHistogram | None = None,
        matches: SegmentMatches | None = None,
    ) -> None:
        """Add one image.

        Args:
            prediction: of the same size as ``truth``.
            truth: with its crowds, if any.
            histogram: the result of :func:`~panscape.metrics.overlaps.overlaps` for both maps, if already computed.
            matches: the result of :func:`~panscape.metrics.matching.match_segments` under this protocol, if already
                computed.

        Raises:
            InvalidArgumentError: the maps differ in size or have a category that the label space lacks.
        """
        require_categories(self.labels, prediction, truth)
        if matches is None:
            matches = match_segments(prediction, truth, histogram, self.protocol, self.labels.stuff_ids)
        self.state += torch.from_numpy(count_matches(prediction, truth, matches, len(self.labels)))

    def merge(self, other: PanopticQuality) -> None:
        """Add the images of another accumulator to this one.

        Raises:
            InvalidArgumentError: the label spaces or protocols differ.
        """
        require_same_labels(self.labels, other.labels)
        require_same_protocol(self.protocol, other.protocol)
        self.state += other.state

    def reset(self) -> None:
        """Forget all images."""
        self.state.zero_()

    def compute(self) -> PanopticQualityReport:
        """Report on all images so far."""
        per_category = {
            category.name: CategoryQuality(int(tp), int(fp), int(fn), iou_sum)
            for category, (tp, fp, fn, iou_sum) in zip(self.labels, self.state.tolist(), strict=True)
        }
        qualities = list(per_category.values())

        def mean(ids: Iterable[int]) -> GroupQuality:
            return GroupQuality.mean([qualities[i] for i in ids], absent_count=self.protocol.absent_categories_count)

        return PanopticQualityReport(
            all=mean(range(len(qualities))),
            things=mean(self.labels.thing_ids),
            stuff=mean(self.labels.stuff_ids),
            per_category=per_category,
        )


def count_matches(
    prediction: PanopticMap, truth: PanopticMap, matches: SegmentMatches, num_categories: int
) -> NDArray[np.float64]:
    """Return TP, FP, FN and sum of IoU of one image by category, float64 [K, 4]."""
    of_truth, of_prediction = truth.category.cpu().numpy(), prediction.category.cpu().numpy()
    matched, _, iou, false_negatives, false_positives = (part.numpy() for part in matches)
    counts = np.zeros((num_categories, 4))
    for column, category, weights in (
        (0, of_truth[matched], None),
        (1, of_prediction[false_positives], None),
        (2, of_truth[false_negatives], None),
        (3, of_truth[matched], iou),
    ):
        counts[:, column] = np.bincount(category, weights, minlength=num_categories)
    return counts
