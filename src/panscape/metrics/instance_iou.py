"""Instance-weighted intersection over union (iIoU), the second semantic metric of the Cityscapes benchmark.

IoU counts pixels, so large objects dominate it. Here every ground-truth object has the same weight, whatever its size.

The protocol, as in ``evalPixelLevelSemanticLabeling`` of cityscapesScripts:

- Only the categories of the prediction are used; its segments are ignored.
- A ground-truth object of area *a* has the weight *A/a*, where *A* is the average size of its category. Its weighted
  pixels are true positives (iTP) if they are predicted as its category, else false negatives (iFN), void included.
- Crowds of the ground truth (Cityscapes: groups) are neither true positives nor false negatives. Their pixels still
  belong to their category: a prediction of another category there is a false positive of that other category.
- False positives (FP) are not weighted: pixels predicted as the category where the ground truth has another category,
  not void.
- iIoU = iTP / (iTP + FP + iFN), over all images. The mean is over the thing categories that have any of the three.

*A* is a constant of the benchmark, measured on its training images. It determines the weight of false positives.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidArgumentError, UnknownNameError
from panscape.labels import LabelSpace
from panscape.metrics.base import MapMetric
from panscape.metrics.overlaps import areas_of, categories_of, crowds_of, overlaps, require_categories
from panscape.metrics.reports import IoUScores, MeanIoUReport, mean_iou
from panscape.ops.contingency_table import ContingencyTable
from panscape.panoptic import PanopticMap

CITYSCAPES_AVERAGE_SIZES: Mapping[str, float] = MappingProxyType(
    {
        "person": 3462.4756337644,
        "rider": 3930.4788056518,
        "car": 12794.0202738185,
        "truck": 27855.1264367816,
        "bus": 35732.1511111111,
        "train": 67583.7075812274,
        "motorcycle": 6298.7200839748,
        "bicycle": 4672.3249222261,
    }
)
"""Average object size in pixels at 1024x2048, by category, as in cityscapesScripts."""


def average_sizes(truths: Iterable[PanopticMap], labels: LabelSpace) -> dict[str, float]:
    """Measure the average size of the objects of each category.

    Args:
        truths: maps with their crowds, if any; crowds and segments without pixels are ignored.
        labels: the label space of ``truths``.

    Returns:
        Pixels by category name, for the thing categories that have objects.

    Raises:
        InvalidArgumentError: a map has a category that the label space lacks.
    """
    count, area = np.zeros(len(labels)), np.zeros(len(labels))
    for truth in truths:
        require_categories(labels, truth, truth)
        areas = truth.areas().cpu().numpy()
        rows = np.flatnonzero(_is_object(truth, labels) & (areas > 0))
        category = truth.category.cpu().numpy()[rows]
        count += np.bincount(category, minlength=len(labels))
        area += np.bincount(category, areas[rows], minlength=len(labels))
    return {labels[c].name: float(area[c] / count[c]) for c in labels.thing_ids if count[c]}


class ObjectPixels(NamedTuple):
    """The true objects of one image and their correctly predicted pixels; all parts are on the CPU.

    Attributes:
        truth: int64 [M], the true segments that are things, have pixels and are not crowds, ascending; rows (id minus
            one).
        area: int64 [M], their areas in pixels.
        found: int64 [M], their pixels that are predicted as the category of the object.
        false_positives: int64 [K], pixels by predicted category, where the truth has another category.
    """

    truth: Tensor
    area: Tensor
    found: Tensor
    false_positives: Tensor


def count_object_pixels(
    prediction: PanopticMap, truth: PanopticMap, labels: LabelSpace, histogram: ContingencyTable | None = None
) -> ObjectPixels:
    """Count the pixels of each object of one image that are predicted as its category.

    Args:
        prediction: of the same size as ``truth``.
        truth: with its crowds, if any.
        labels: the label space of both.
        histogram: the result of :func:`~panscape.metrics.overlaps.overlaps` for both maps, if already computed.

    Raises:
        InvalidArgumentError: the maps differ in size.
    """
    histogram = overlaps(prediction, truth) if histogram is None else histogram
    a, b, shared = (part.numpy() for part in histogram)
    predicted_category = categories_of(prediction, -2)
    is_right = categories_of(truth, -1)[a] == predicted_category[b]  # void equals no category
    area = areas_of(a, shared, truth.num_segments)
    found = areas_of(a[is_right], shared[is_right], truth.num_segments)
    is_wrong = ~is_right & (a > 0) & (b > 0)
    false_positives = np.zeros(len(labels), np.int64)
    np.add.at(false_positives, predicted_category[b[is_wrong]], shared[is_wrong])
    rows = np.flatnonzero(_is_object(truth, labels) & (area[1:] > 0))
    return ObjectPixels(*map(torch.from_numpy, (rows, area[rows + 1], found[rows + 1], false_positives)))


def _is_object(truth: PanopticMap, labels: LabelSpace) -> NDArray[np.bool_]:
    return np.isin(truth.category.cpu().numpy(), labels.thing_ids) & ~crowds_of(truth)[1:]


@dataclass(frozen=True, slots=True)
class CategoryInstanceIoU(IoUScores):
    """The weighted pixels of one category.

    Attributes:
        tp: weighted pixels of objects, predicted as the category.
        fp: number of pixels predicted as the category where the truth has another one.
        fn: weighted pixels of objects, predicted as another category or void.
        average_size: average size of an object in pixels, the *A* of the weights; nan if unknown.
    """

    tp: float
    fp: int
    fn: float
    average_size: float


class InstanceIoUReport(MeanIoUReport[CategoryInstanceIoU]):
    """The instance-weighted IoU of a set of images; the categories are the things."""

    __slots__ = ()
    title = "iIoU"


class InstanceIoU(MapMetric[InstanceIoUReport]):
    """Accumulates instance-weighted IoU over images, as defined at the top of this module.

    Attributes:
        average_sizes: average object size in pixels by category name; None if measured from the images.
        state: float64 [K, 4]: by category, the sum of the found fractions of objects, number of objects, their area,
            and false positives in pixels.
    """

    options = ("average_sizes",)

    def __init__(self, labels: LabelSpace | str, average_sizes: Mapping[str, float] | None = None) -> None:
        """Start with no images.

        Args:
            labels: the label space of predictions and truth, or the name of a bundled one.
            average_sizes: average object size in pixels by category name, for each thing category of the ground truth.
                By default those of the benchmark for the label space "cityscapes", else the averages over the ground
                truth of the images.

        Raises:
            UnknownNameError: a size is given for a name that is not a thing category; the nearest names are suggested.
            InvalidArgumentError: a size is not positive.
        """
        labels = LabelSpace.of(labels)
        things = [labels[category].name for category in labels.thing_ids]
        for name in average_sizes or ():
            if name not in things:
                raise UnknownNameError("thing category", name, things)
        if average_sizes is None and labels.name == "cityscapes":
            average_sizes = CITYSCAPES_AVERAGE_SIZES
        for name, size in (average_sizes or {}).items():
            if not 0 < size < math.inf:
                raise InvalidArgumentError(f"expected the average size of {name!r} in pixels above 0, got {size}")
        self.labels = labels
        self.average_sizes = None if average_sizes is None else dict(average_sizes)  # a view cannot be pickled
        self.state = torch.zeros(len(labels), 4, dtype=torch.float64)

    def count_image(self, prediction: PanopticMap, truth: PanopticMap, histogram: ContingencyTable) -> Tensor:
        """See :meth:`MapMetric.count_image`.

        Raises:
            InvalidArgumentError: the truth has an object of a category without an average size.
        """
        pixels = count_object_pixels(prediction, truth, self.labels, histogram)
        category = truth.category.cpu()[pixels.truth].numpy()
        self._require_sizes(category)
        area, found = pixels.area.numpy(), pixels.found.numpy()
        columns = [np.bincount(category, weights, minlength=len(self.labels)) for weights in (found / area, None, area)]
        return torch.from_numpy(np.stack([*columns, pixels.false_positives.numpy()], axis=1))

    def _require_sizes(self, categories: NDArray[np.int64]) -> None:
        if self.average_sizes is None:
            return
        for name in sorted({self.labels[c].name for c in categories.tolist()} - self.average_sizes.keys()):
            raise InvalidArgumentError(
                f"expected an average size for {name!r}, which has objects in the ground truth, got sizes for "
                f"{', '.join(sorted(self.average_sizes))}; add it, or pass no sizes to measure them"
            )

    def compute(self) -> InstanceIoUReport:
        """Report on all images so far."""
        per_category = {}
        for category in self.labels.thing_ids:
            name = self.labels[category].name
            share, count, area, false_positives = self.state[category].tolist()
            if self.average_sizes is None:
                size = area / count if count else math.nan
            else:
                size = self.average_sizes.get(name, math.nan)
            found, false_negatives = (size * share, size * (count - share)) if count else (0.0, 0.0)
            per_category[name] = CategoryInstanceIoU(found, int(false_positives), false_negatives, size)
        return InstanceIoUReport(mean_iou(per_category.values()), per_category)
