"""Mean intersection over union of categories; segments are ignored.

Pixels that are void in the ground truth are ignored. A pixel that is void in the prediction is a false negative of the
true category. Pixels of crowds belong to their category, as in the pixel-level evaluation of Cityscapes. Pixels are
pooled over all images; categories that occur neither in ground truth nor in prediction are left out of the mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from panscape.labels import LabelSpace
from panscape.metrics.overlaps import overlaps, require_categories, require_same_labels
from panscape.metrics.tables import format_percent, format_table
from panscape.ops.confusion import JointHistogram
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
    prediction: PanopticMap, truth: PanopticMap, num_categories: int, histogram: JointHistogram | None = None
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
class CategoryIoU:
    """The pixels of one category.

    Attributes:
        tp: number of pixels that have the category in truth and prediction.
        fp: number of pixels predicted as the category where the truth has another one.
        fn: number of true pixels of the category predicted as another one or as void.
    """

    tp: int
    fp: int
    fn: int

    @property
    def iou(self) -> float:
        """Intersection over union in 0..1; nan without pixels."""
        union = self.tp + self.fp + self.fn
        return self.tp / union if union else math.nan


@dataclass(frozen=True, slots=True)
class SemanticIoUReport:
    """The semantic quality of a set of images; ``str()`` gives a table in percent.

    Attributes:
        mean_iou: mean over the categories that have pixels, in 0..1; nan without any.
        pixel_accuracy: fraction of the true pixels with the correct predicted category, in 0..1; nan without any.
        per_category: by category name, in the order of the label space.
    """

    mean_iou: float
    pixel_accuracy: float
    per_category: Mapping[str, CategoryIoU]

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """Return a table in percent: the mean, then the categories that have pixels."""
        present = {name: c for name, c in self.per_category.items() if not math.isnan(c.iou)}
        rows = [["", "IoU"], [f"mean ({len(present)})", format_percent(self.mean_iou)]]
        rows += [[name, format_percent(category.iou)] for name, category in present.items()]
        return format_table(rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts for JSON; None stands for nan."""
        means = {"mean_iou": self.mean_iou, "pixel_accuracy": self.pixel_accuracy}
        return {
            **{name: None if math.isnan(value) else value for name, value in means.items()},
            "per_category": {
                name: {"iou": None if math.isnan(c.iou) else c.iou, **asdict(c)}
                for name, c in self.per_category.items()
            },
        }


class SemanticIoU:
    """Accumulates a confusion matrix over images, as defined at the top of this module.

    Accumulators of several processes are merged with :meth:`merge` or by summing their :attr:`state`.

    Attributes:
        labels: the label space of predictions and truth.
        state: int64 [K, K + 1] pixels; rows are true categories, columns predicted ones; the last column is void.
    """

    def __init__(self, labels: LabelSpace) -> None:
        """Start with no images.

        Args:
            labels: the label space of predictions and truth.
        """
        self.labels = labels
        self.state = torch.zeros(len(labels), len(labels) + 1, dtype=torch.int64)

    def update(self, prediction: PanopticMap, truth: PanopticMap, histogram: JointHistogram | None = None) -> None:
        """Add one image.

        Args:
            prediction: of the same size as ``truth``.
            truth: its void pixels are ignored.
            histogram: the result of :func:`~panscape.metrics.overlaps.overlaps` for both maps, if already computed.

        Raises:
            InvalidArgumentError: the maps differ in size or have a category that the label space lacks.
        """
        require_categories(self.labels, prediction, truth)
        self.state += count_confusion(prediction, truth, len(self.labels), histogram)

    def check_compatible(self, other: SemanticIoU) -> None:
        """Check that another accumulator can be merged with this one.

        Raises:
            InvalidArgumentError: the label spaces differ.
        """
        require_same_labels(self.labels, other.labels)

    def merge(self, other: SemanticIoU) -> None:
        """Add the images of another accumulator to this one.

        Raises:
            InvalidArgumentError: the label spaces differ.
        """
        self.check_compatible(other)
        self.state += other.state

    def reset(self) -> None:
        """Forget all images."""
        self.state.zero_()

    def compute(self) -> SemanticIoUReport:
        """Report on all images so far."""
        hits = self.state.diagonal()
        columns, rows = self.state[:, :-1].sum(0) - hits, self.state.sum(1) - hits
        per_category = {
            category.name: CategoryIoU(*counts)
            for category, *counts in zip(self.labels, hits.tolist(), columns.tolist(), rows.tolist(), strict=True)
        }
        ious = [c.iou for c in per_category.values() if not math.isnan(c.iou)]
        pixels = int(self.state.sum())
        return SemanticIoUReport(
            mean_iou=sum(ious) / len(ious) if ious else math.nan,
            pixel_accuracy=int(hits.sum()) / pixels if pixels else math.nan,
            per_category=per_category,
        )
