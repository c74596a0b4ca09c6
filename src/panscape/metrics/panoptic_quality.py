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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.metrics.base import MatchedMetric
from panscape.metrics.matching import SegmentMatches
from panscape.metrics.reports import CategoryScores, GroupReport, GroupScores
from panscape.ops.contingency_table import ContingencyTable
from panscape.panoptic import PanopticMap


@dataclass(frozen=True, slots=True)
class CategoryQuality(CategoryScores):
    """The panoptic quality of one category.

    Attributes:
        tp: number of true positives (matched segments).
        fp: number of false positives.
        fn: number of false negatives.
        iou_sum: sum of the IoU of all matches.
    """

    scores = ("pq", "sq", "rq")

    tp: int
    fp: int
    fn: int
    iou_sum: float

    @property
    def occurs(self) -> bool:
        """Whether there is a true positive, false positive or false negative; else it is left out of the means."""
        return self.tp + self.fp + self.fn > 0

    @property
    def pq(self) -> float:
        """Panoptic quality in 0..1; nan without segments."""
        return self.iou_sum / (self.tp + 0.5 * self.fp + 0.5 * self.fn) if self.occurs else math.nan

    @property
    def sq(self) -> float:
        """Segmentation quality, the mean IoU of the matches, in 0..1; 0 without matches, nan without segments."""
        if not self.occurs:
            return math.nan
        return self.iou_sum / self.tp if self.tp else 0.0

    @property
    def rq(self) -> float:
        """Recognition quality, the F1 score, in 0..1; nan without segments."""
        return self.tp / (self.tp + 0.5 * self.fp + 0.5 * self.fn) if self.occurs else math.nan


@dataclass(frozen=True, slots=True)
class GroupQuality(GroupScores):
    """Means over the categories of a group that have segments, or another summary, as the protocol defines.

    Attributes:
        pq: panoptic quality in 0..1; nan without any such category.
        sq: segmentation quality, likewise.
        rq: recognition quality, likewise.
    """

    pq: float
    sq: float
    rq: float

    @classmethod
    def pool(cls, categories: Iterable[CategoryQuality]) -> Self:
        """Return the quality of all segments as if they had one category; its PQ is the product of SQ and RQ."""
        each = [category for category in categories if category.occurs]
        counts = (sum(getattr(category, name) for category in each) for name in ("tp", "fp", "fn", "iou_sum"))
        whole = CategoryQuality(*counts)
        return cls(len(each), whole.pq, whole.sq, whole.rq)


class PanopticQualityReport(GroupReport[GroupQuality, CategoryQuality]):
    """The panoptic quality of a set of images."""

    __slots__ = ()
    group = GroupQuality
    score_columns: ClassVar[Mapping[str, str]] = {"PQ": "pq", "SQ": "sq", "RQ": "rq"}
    count_columns: ClassVar[Mapping[str, str]] = {"TP": "tp", "FP": "fp", "FN": "fn"}


class PanopticQuality(MatchedMetric[PanopticQualityReport]):
    """Accumulates panoptic quality over images, as defined at the top of this module, or by another protocol.

    Attributes:
        state: float64 [K, 4]: true positives, false positives, false negatives and sum of IoU by category.
    """

    columns = (4,)

    def count_image(
        self, prediction: PanopticMap, truth: PanopticMap, histogram: ContingencyTable, matches: SegmentMatches
    ) -> Tensor:
        """See :meth:`MatchedMetric.count_image`."""
        return torch.from_numpy(count_matches(prediction, truth, matches, len(self.labels)))

    def compute(self) -> PanopticQualityReport:
        """Report on all images so far."""
        return PanopticQualityReport.from_categories(
            (CategoryQuality(int(tp), int(fp), int(fn), iou_sum) for tp, fp, fn, iou_sum in self.state.tolist()),
            self.labels,
            GroupQuality.pool
            if self.protocol.groups_pool_segments
            else partial(GroupQuality.mean, absent_count=self.protocol.absent_categories_count),
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
