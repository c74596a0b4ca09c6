"""Mean intersection over union of categories; segments are ignored.

Pixels that are void in the ground truth are ignored. A pixel that is void in the prediction is a false negative of the
true category. Pixels of crowds belong to their category, as in the pixel-level evaluation of Cityscapes. Pixels are
pooled over all images; categories that occur neither in ground truth nor in prediction are left out of the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from panscape.labels import LabelSpace
from panscape.metrics.base import MapMetric
from panscape.metrics.overlaps import overlaps
from panscape.metrics.reports import IoUScores, MeanIoUReport, mean_iou
from panscape.ops.contingency_table import ContingencyTable
from panscape.panoptic import PanopticMap


def map_of_semantic(semantic: Tensor, labels: LabelSpace) -> PanopticMap:
    """Return a map with one segment per category, so that the metrics of maps can evaluate a semantic head.

    Args:
        semantic: category id of every pixel, integers [H, W], -1 for void, on any device.
        labels: the label space.

    Returns:
        A map on the CPU; segment c + 1 is category c and may have no pixels.

    Raises:
        InvalidMapError: a category is out of range.
    """
    return PanopticMap((semantic + 1).int().cpu(), torch.arange(len(labels)))


def count_confusion(
    prediction: PanopticMap, truth: PanopticMap, num_categories: int, histogram: ContingencyTable | None = None
) -> Tensor:
    """Return the confusion matrix of one image: the pixels of every pair of categories.

    Args:
        prediction: of the same size as ``truth``; category ids below ``num_categories``, like those of ``truth``.
        truth: its void pixels are left out.
        num_categories: K.
        histogram: the result of :func:`~panscape.metrics.overlaps.overlaps` for both maps, if already computed.

    Returns:
        int64 [K, K + 1], on the CPU: rows are the true categories, columns the predicted ones; the last column is
        predicted void.

    Raises:
        InvalidArgumentError: the maps differ in size.
    """
    histogram = overlaps(prediction, truth) if histogram is None else histogram
    columns = num_categories + 1
    table = torch.cat([torch.tensor([num_categories]), prediction.category.cpu()])
    known = histogram.truth > 0
    row = truth.category.cpu()[histogram.truth[known] - 1]
    cell = row * columns + table[histogram.prediction[known]]
    counts = torch.zeros(num_categories * columns, dtype=torch.int64).index_add_(0, cell, histogram.area[known])
    return counts.view(num_categories, columns)


@dataclass(frozen=True, slots=True)
class CategoryIoU(IoUScores):
    """The pixels of one category.

    Attributes:
        tp: number of pixels that have the category in truth and prediction.
        fp: number of pixels predicted as the category where the truth has another one.
        fn: number of true pixels of the category predicted as another one or as void.
    """

    tp: int
    fp: int
    fn: int


@dataclass(frozen=True, slots=True)
class SemanticIoUReport(MeanIoUReport[CategoryIoU]):
    """The semantic quality of a set of images.

    Attributes:
        pixel_accuracy: fraction of the true pixels with the correct predicted category, in 0..1; nan without any.
    """

    title = "IoU"

    pixel_accuracy: float


class SemanticIoU(MapMetric[SemanticIoUReport]):
    """Accumulates a confusion matrix over images, as defined at the top of this module.

    Attributes:
        state: int64 [K, K + 1] pixels; rows are true categories, columns predicted ones; the last column is void.
    """

    def __init__(self, labels: LabelSpace | str) -> None:
        """Start with no images.

        Args:
            labels: the label space of predictions and truth, or the name of a bundled one.
        """
        self.labels = labels = LabelSpace.of(labels)
        self.state = torch.zeros(len(labels), len(labels) + 1, dtype=torch.int64)

    def count_image(self, prediction: PanopticMap, truth: PanopticMap, histogram: ContingencyTable) -> Tensor:
        """See :meth:`MapMetric.count_image`."""
        return count_confusion(prediction, truth, len(self.labels), histogram)

    def compute(self) -> SemanticIoUReport:
        """Report on all images so far."""
        hits = self.state.diagonal()
        columns, rows = self.state[:, :-1].sum(0) - hits, self.state.sum(1) - hits
        per_category = {
            category.name: CategoryIoU(*counts)
            for category, *counts in zip(self.labels, hits.tolist(), columns.tolist(), rows.tolist(), strict=True)
        }
        pixels = int(self.state.sum())
        accuracy = int(hits.sum()) / pixels if pixels else math.nan
        return SemanticIoUReport(mean_iou(per_category.values()), per_category, accuracy)
