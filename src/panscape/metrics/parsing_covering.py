"""Parsing covering (Yang et al., "DeeperLab: Single-Shot Image Parser", arXiv 1902.05093, Section 4.2).

The area-weighted mean of the best IoU of each ground-truth segment. PQ counts segments; PC weights them by their area.

The protocol, as in the evaluation released by the authors:

- The IoU of a ground-truth segment is the maximum over the predicted segments of its category; 0 if there is none.
  There is no threshold and no matching: several segments may use the same prediction.
- Void and crowds of the ground truth, of any category, are ignored: their pixels are removed from all predictions
  before any area is counted. The crowd flag of a *predicted* segment is ignored. Predicted void covers nothing.
- The covering of a category is the mean of these IoU over all images, weighted by the areas of the ground-truth
  segments.
- Categories without area in the ground truth are left out of the means, even if they are predicted.

There are two conventions for areas. ``covering`` uses pixels, as in the formula of the paper. ``covering_normalized``
divides the areas of each image by its number of pixels, ignored ones included, as the released evaluation does by
default: large images then have the same weight as small ones. If all images have one size, both are equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from panscape.labels import LabelSpace
from panscape.metrics.base import MapMetric
from panscape.metrics.overlaps import areas_of, categories_of, crowds_of, overlaps
from panscape.metrics.reports import CategoryScores, GroupReport, GroupScores
from panscape.ops.contingency_table import ContingencyTable
from panscape.panoptic import PanopticMap


class SegmentCoverings(NamedTuple):
    """The covering of the true segments of one image; all parts are on the CPU.

    Attributes:
        truth: int64 [M], the true segments that have pixels and are not crowds, ascending; rows (id minus one).
        area: int64 [M], their areas in pixels.
        iou: float64 [M] in 0..1, the largest IoU with a predicted segment of the same category.
    """

    truth: Tensor
    area: Tensor
    iou: Tensor


def cover_segments(
    prediction: PanopticMap, truth: PanopticMap, histogram: ContingencyTable | None = None
) -> SegmentCoverings:
    """Return the covering of each true segment of one image, as defined at the top of this module.

    Args:
        prediction: of the same size as ``truth``.
        truth: with its crowds, if any.
        histogram: the result of :func:`~panscape.metrics.overlaps.overlaps` for both maps, if already computed.

    Raises:
        InvalidArgumentError: the maps differ in size.
    """
    histogram = overlaps(prediction, truth) if histogram is None else histogram
    a, b, shared = (part.numpy() for part in histogram)
    keep = (a > 0) & ~crowds_of(truth)[a]
    a, b, shared = a[keep], b[keep], shared[keep]
    truth_area, predicted_area = areas_of(a, shared, truth.num_segments), areas_of(b, shared, prediction.num_segments)
    is_same = categories_of(truth, -1)[a] == categories_of(prediction, -2)[b]  # void equals no category
    a, b, shared = a[is_same], b[is_same], shared[is_same]
    iou = np.zeros(truth.num_segments + 1)
    np.maximum.at(iou, a, shared / (truth_area[a] + predicted_area[b] - shared))
    present = truth_area.nonzero()[0]
    return SegmentCoverings(*map(torch.from_numpy, (present - 1, truth_area[present], iou[present])))


@dataclass(frozen=True, slots=True)
class CategoryCovering(CategoryScores):
    """The parsing covering of one category.

    Attributes:
        covering: weighted by pixels, in 0..1; nan without pixels in the ground truth.
        covering_normalized: weighted by fractions of the images, likewise.
        area: number of evaluated ground-truth pixels.
    """

    covering: float
    covering_normalized: float
    area: int

    @property
    def occurs(self) -> bool:
        """Whether the ground truth has pixels of the category."""
        return self.area > 0


@dataclass(frozen=True, slots=True)
class GroupCovering(GroupScores):
    """Means over the categories of a group that have pixels in the ground truth.

    Attributes:
        covering: weighted by pixels, in 0..1; nan without any such category.
        covering_normalized: weighted by fractions of the images, likewise.
    """

    covering: float
    covering_normalized: float


class ParsingCoveringReport(GroupReport[GroupCovering, CategoryCovering]):
    """The parsing covering of a set of images."""

    __slots__ = ()
    group = GroupCovering
    score_columns: ClassVar[Mapping[str, str]] = {"PC": "covering", "PC normalized": "covering_normalized"}


class ParsingCovering(MapMetric[ParsingCoveringReport]):
    """Accumulates parsing covering over images, as defined at the top of this module.

    Sums are taken within an image, segments ascending by id, and then over the images in the order of the updates.

    Attributes:
        state: float64 [K, 4]: area times IoU, and area, by category, first in pixels, then in fractions of the images.
    """

    def __init__(self, labels: LabelSpace | str) -> None:
        """Start with no images.

        Args:
            labels: the label space of predictions and truth, or the name of a bundled one.
        """
        self.labels = labels = LabelSpace.of(labels)
        self.state = torch.zeros(len(labels), 4, dtype=torch.float64)

    def count_image(self, prediction: PanopticMap, truth: PanopticMap, histogram: ContingencyTable) -> Tensor:
        """See :meth:`MapMetric.count_image`."""
        covered = cover_segments(prediction, truth, histogram)
        category = truth.category.cpu()[covered.truth].numpy()
        area = covered.area.numpy()
        num_pixels = max(truth.ids.numel(), 1)
        sums = [
            np.bincount(category, weights, minlength=len(self.labels)) for weights in (area * covered.iou.numpy(), area)
        ]
        return torch.from_numpy(np.stack([*sums, *(part / num_pixels for part in sums)], axis=1))

    def compute(self) -> ParsingCoveringReport:
        """Report on all images so far."""
        return ParsingCoveringReport.from_categories(
            (
                CategoryCovering(
                    covered / area if area else math.nan, share_covered / share if share else math.nan, int(area)
                )
                for covered, area, share_covered, share in self.state.tolist()
            ),
            self.labels,
        )
