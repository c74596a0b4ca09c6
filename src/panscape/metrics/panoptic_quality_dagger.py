"""PQ-dagger (Porzi et al., "Seamless Scene Segmentation", CVPR 2019): panoptic quality without a threshold for stuff.

Stuff has one segment per image; its PQ is 0 at an IoU of 0.5 and jumps above it. PQ-dagger therefore:

- uses PQ for things, with the same protocol.
- merges all segments of one stuff category in an image. Each image whose ground truth has the category counts with the
  IoU of both, however small, or with 0 if the category is not predicted. Predictions of the category in images without
  it in the ground truth are ignored. PQ-dagger of the category is the mean over the images that count.
- removes void in the ground truth from the union, as PQ does. Crowds of stuff, which no dataset has, follow the
  protocol: they are pixels of the category only if the protocol treats them as segments.
- leaves stuff categories without ground truth, and things without true positive, false positive and false negative, out
  of the means.

For stuff, only the fields of a protocol about crowds and unions apply.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.metrics.base import MatchedMetric
from panscape.metrics.matching import SegmentMatches
from panscape.metrics.overlaps import categories_of, crowds_of, overlaps
from panscape.metrics.panoptic_quality import count_matches
from panscape.metrics.protocol import Protocol, get_protocol
from panscape.metrics.reports import CategoryScores, GroupReport, GroupScores
from panscape.ops.contingency_table import ContingencyTable
from panscape.panoptic import PanopticMap


def stuff_iou(
    prediction: PanopticMap,
    truth: PanopticMap,
    num_categories: int,
    histogram: ContingencyTable | None = None,
    protocol: str | Protocol = "coco",
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return the IoU of all true and all predicted pixels of each category in an image.

    Args:
        prediction: of the same size as ``truth``; category ids below ``num_categories``, like those of ``truth``.
        truth: with its crowds, if any.
        num_categories: K.
        histogram: the result of :func:`~panscape.metrics.overlaps.overlaps` for both maps, if already computed.
        protocol: a name in :data:`~panscape.metrics.protocol.PROTOCOLS`, or a custom protocol.

    Returns:
        Whether the ground truth has the category, and its IoU in 0..1, 0 if it does not: bool [K] and float64 [K].

    Raises:
        InvalidArgumentError: the maps differ in size.
        UnknownNameError: no protocol has this name.
    """
    protocol = get_protocol(protocol)
    histogram = overlaps(prediction, truth) if histogram is None else histogram
    truth_id, predicted_id, area = (part.numpy() for part in histogram)
    void, crowd = num_categories, num_categories + 1
    of_truth, of_prediction = categories_of(truth, void), categories_of(prediction, void)
    if protocol.crowd != "segment":
        of_truth[crowds_of(truth)] = void if protocol.crowd == "void" else crowd
    rows, columns = of_truth[truth_id], of_prediction[predicted_id]

    def count(category: NDArray[np.int64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        areas = area[chosen].astype(np.float64)
        counts = np.bincount(category[chosen], areas, minlength=num_categories + 2)[:num_categories]
        return counts.astype(np.float64, copy=False)

    everything = np.ones(len(area), dtype=bool)
    truth_area, shared = count(rows, everything), count(rows, rows == columns)
    union = truth_area + count(columns, rows != void) - shared
    if protocol.predicted_void_leaves_union:
        union -= count(rows, columns == void)
    return truth_area > 0, shared / np.maximum(union, 1)


@dataclass(frozen=True, slots=True)
class CategoryQualityDagger(CategoryScores):
    """The PQ-dagger of one category.

    Attributes:
        count: things: true positives and half of the false positives and false negatives; stuff: images with the
            category in the ground truth.
        iou_sum: sum of IoU over the matches or these images.
    """

    scores = ("pq",)

    count: float
    iou_sum: float

    @property
    def occurs(self) -> bool:
        """Whether ``count`` is not 0."""
        return self.count > 0

    @property
    def pq(self) -> float:
        """PQ-dagger in 0..1; nan if ``count`` is 0."""
        return self.iou_sum / self.count if self.count else math.nan


@dataclass(frozen=True, slots=True)
class GroupQualityDagger(GroupScores):
    """The mean over the categories of a group whose ``count`` is not 0.

    Attributes:
        pq: PQ-dagger in 0..1; nan without any such category.
    """

    pq: float


class PanopticQualityDaggerReport(GroupReport[GroupQualityDagger, CategoryQualityDagger]):
    """The PQ-dagger of a set of images."""

    __slots__ = ()
    group = GroupQualityDagger
    score_columns: ClassVar[Mapping[str, str]] = {"PQ†": "pq"}


class PanopticQualityDagger(MatchedMetric[PanopticQualityDaggerReport]):
    """Accumulates PQ-dagger over images, as defined at the top of this module.

    Attributes:
        state: float64 [K, 2]: :attr:`CategoryQualityDagger.count` and the sum of IoU by category.
    """

    columns = (2,)

    def count_image(
        self, prediction: PanopticMap, truth: PanopticMap, histogram: ContingencyTable, matches: SegmentMatches
    ) -> Tensor:
        """See :meth:`MatchedMetric.count_image`."""
        found = count_matches(prediction, truth, matches, len(self.labels))
        sums = np.stack([found[:, 0] + (found[:, 1] + found[:, 2]) / 2, found[:, 3]], axis=1)
        is_there, iou = stuff_iou(prediction, truth, len(self.labels), histogram, self.protocol)
        stuff = list(self.labels.stuff_ids)
        sums[stuff] = np.stack([is_there, iou], axis=1)[stuff]
        return torch.from_numpy(sums)

    def compute(self) -> PanopticQualityDaggerReport:
        """Report on all images so far."""
        categories = (CategoryQualityDagger(count, iou_sum) for count, iou_sum in self.state.tolist())
        return PanopticQualityDaggerReport.from_categories(categories, self.labels)
