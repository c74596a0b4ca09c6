"""Instance-weighted intersection over union (iIoU), the second semantic metric of the Cityscapes benchmark.

IoU counts pixels, so large objects decide it. Here every object of the truth weighs the same, whatever its size.

Every rule that changes a number, as in ``evalPixelLevelSemanticLabeling`` of cityscapesScripts:

- The prediction is a map of categories; its segments play no role.
- An object of the truth of area *a* has the weight *A/a*, where *A* is the average size of its category. So weighted,
  its pixels count as found (iTP) if they are predicted as its category and as missed (iFN) if not, void included.
- Crowds of the truth (Cityscapes: groups) are neither found nor missed. They are pixels of their category all the same:
  what is predicted there as another category is a false positive of that one.
- False positives (FP) are not weighted: pixels predicted as the category where the truth has another one and not void.
- iIoU = iTP / (iTP + FP + iFN), over all images. The mean is over those categories of things that have any of the
  three.

*A* is a constant of the benchmark, measured on its training images. It decides how much false positives cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidArgumentError, UnknownNameError
from panscape.labels import LabelSpace
from panscape.metrics.overlaps import (
    areas_of,
    categories_of,
    crowds_of,
    overlaps,
    require_categories,
    require_same_labels,
)
from panscape.metrics.tables import format_percent, format_table, nan_to_none
from panscape.ops.confusion import JointHistogram
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
"""Pixels of an average object at 1024x2048, by category, as cityscapesScripts has them."""


def average_sizes(truths: Iterable[PanopticMap], labels: LabelSpace) -> dict[str, float]:
    """Measure the average size of the objects of each category.

    Args:
        truths: maps with their crowds, if any; crowds are left out, as are segments without pixels.
        labels: the label space of ``truths``.

    Returns:
        Pixels by category name, for the categories of things that have objects.

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
    """The objects of one image's truth, and how many of their pixels have their category; all on the CPU.

    Attributes:
        truth: int64 [M], the truth's segments that are things, have pixels and are no crowds, ascending; rows (id minus
            one).
        area: int64 [M], their pixels.
        found: int64 [M], those that are predicted as the object's category.
        spurious: int64 [K], pixels by predicted category where the truth has another one.
    """

    truth: Tensor
    area: Tensor
    found: Tensor
    spurious: Tensor


def count_object_pixels(
    prediction: PanopticMap, truth: PanopticMap, labels: LabelSpace, histogram: JointHistogram | None = None
) -> ObjectPixels:
    """Count how much of each object of one image is predicted as its category.

    Args:
        prediction: of the same size as ``truth``.
        truth: with its crowds, if any.
        labels: the label space of both.
        histogram: what :func:`~panscape.metrics.overlaps.overlaps` gives for both, if it is there already.

    Raises:
        InvalidArgumentError: the maps differ in size.
    """
    histogram = overlaps(prediction, truth) if histogram is None else histogram
    a, b, shared = (part.numpy() for part in histogram)
    predicted_category = categories_of(prediction, -2)
    is_right = categories_of(truth, -1)[a] == predicted_category[b]  # void is like no other
    area = areas_of(a, shared, truth.num_segments)
    found = areas_of(a[is_right], shared[is_right], truth.num_segments)
    is_wrong = ~is_right & (a > 0) & (b > 0)
    spurious = np.zeros(len(labels), np.int64)
    np.add.at(spurious, predicted_category[b[is_wrong]], shared[is_wrong])
    rows = np.flatnonzero(_is_object(truth, labels) & (area[1:] > 0))
    return ObjectPixels(*map(torch.from_numpy, (rows, area[rows + 1], found[rows + 1], spurious)))


def _is_object(truth: PanopticMap, labels: LabelSpace) -> NDArray[np.bool_]:
    return np.isin(truth.category.cpu().numpy(), labels.thing_ids) & ~crowds_of(truth)[1:]


@dataclass(frozen=True, slots=True)
class CategoryInstanceIoU:
    """The weighted pixels of one category.

    Attributes:
        tp: weighted pixels of objects that have the category in the prediction.
        fp: number of pixels with it in the prediction and another one in the truth.
        fn: weighted pixels of objects that have another category, or void, in the prediction.
        average_size: of an object, in pixels: what the weights are relative to; nan if it is not known.
    """

    tp: float
    fp: int
    fn: float
    average_size: float

    @property
    def iou(self) -> float:
        """Weighted intersection over union in 0..1; nan without pixels."""
        union = self.tp + self.fp + self.fn
        return self.tp / union if union else math.nan


@dataclass(frozen=True, slots=True)
class InstanceIoUReport:
    """The instance-weighted IoU of a set of images; ``str()`` gives a table in percent.

    Attributes:
        mean_iou: mean over the categories of things that have pixels, in 0..1; nan without any.
        per_category: by name, things only, in the order of the label space.
    """

    mean_iou: float
    per_category: Mapping[str, CategoryInstanceIoU]

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """Return lines with the mean, then the categories that have pixels, in percent."""
        present = {name: c for name, c in self.per_category.items() if not math.isnan(c.iou)}
        rows = [["", "iIoU"], [f"mean ({len(present)})", format_percent(self.mean_iou)]]
        rows += [[name, format_percent(category.iou)] for name, category in present.items()]
        return format_table(rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts for JSON; None stands for nan."""
        categories = {name: {"iou": c.iou, **asdict(c)} for name, c in self.per_category.items()}
        nan_to_none(*categories.values())
        return {"mean_iou": None if math.isnan(self.mean_iou) else self.mean_iou, "per_category": categories}


class InstanceIoU:
    """Accumulates instance-weighted IoU over images, by the rules at the top of this module.

    Accumulators of several processes are merged with :meth:`merge`, or by adding up their :attr:`state`.

    Attributes:
        labels: the label space of predictions and truth.
        average_sizes: pixels of an average object by category name; None if they are measured from the images.
        state: float64 [K, 4]: by category, the sum of the objects' shares that were found, number of objects, their
            area, and false positives in pixels.
    """

    def __init__(self, labels: LabelSpace, average_sizes: Mapping[str, float] | None = None) -> None:
        """Start without images.

        Args:
            labels: the label space of predictions and truth.
            average_sizes: pixels of an average object by category name, for each category of things that the truth
                has. Without them: those of the benchmark for the label space called "cityscapes"; for all others they
                are the averages over the truth of the images.

        Raises:
            UnknownNameError: a size is given for what is no category of things; the nearest names are suggested.
            InvalidArgumentError: a size is not above 0.
        """
        things = [labels[category].name for category in labels.thing_ids]
        for name in average_sizes or ():
            if name not in things:
                raise UnknownNameError("category of things", name, things)
        if average_sizes is None and labels.name == "cityscapes":
            average_sizes = CITYSCAPES_AVERAGE_SIZES
        for name, size in (average_sizes or {}).items():
            if not 0 < size < math.inf:
                raise InvalidArgumentError(f"expected the average size of {name!r} in pixels above 0, got {size}")
        self.labels = labels
        self.average_sizes = None if average_sizes is None else dict(average_sizes)  # a view cannot be pickled
        self.state = torch.zeros(len(labels), 4, dtype=torch.float64)

    def update(self, prediction: PanopticMap, truth: PanopticMap, histogram: JointHistogram | None = None) -> None:
        """Take one image into account.

        Args:
            prediction: of the same size as ``truth``; only its categories count.
            truth: with its crowds, if any.
            histogram: what :func:`~panscape.metrics.overlaps.overlaps` gives for both, if it is there already.

        Raises:
            InvalidArgumentError: the maps differ in size or have a category that the label space lacks, or the truth
                has an object of a category without average size.
        """
        require_categories(self.labels, prediction, truth)
        pixels = count_object_pixels(prediction, truth, self.labels, histogram)
        category = truth.category.cpu()[pixels.truth].numpy()
        self._require_sizes(category)
        area, found = pixels.area.numpy(), pixels.found.numpy()
        columns = [np.bincount(category, weights, minlength=len(self.labels)) for weights in (found / area, None, area)]
        self.state += torch.from_numpy(np.stack([*columns, pixels.spurious.numpy()], axis=1))

    def _require_sizes(self, categories: NDArray[np.int64]) -> None:
        if self.average_sizes is None:
            return
        for name in sorted({self.labels[c].name for c in categories.tolist()} - self.average_sizes.keys()):
            raise InvalidArgumentError(
                f"expected an average size of {name!r}, of which the truth has objects, got sizes of "
                f"{', '.join(sorted(self.average_sizes))}; give one, or no sizes at all to have them measured"
            )

    def check_compatible(self, other: InstanceIoU) -> None:
        """Check that another accumulator can be merged with this one.

        Raises:
            InvalidArgumentError: it has another label space or other average sizes.
        """
        require_same_labels(self.labels, other.labels)
        if self.average_sizes != other.average_sizes:
            raise InvalidArgumentError("expected a metric with the same average sizes, got one with others")

    def merge(self, other: InstanceIoU) -> None:
        """Add the images of another accumulator to this one.

        Raises:
            InvalidArgumentError: it has another label space or other average sizes.
        """
        self.check_compatible(other)
        self.state += other.state

    def reset(self) -> None:
        """Forget all images."""
        self.state.zero_()

    def compute(self) -> InstanceIoUReport:
        """Report on all images so far."""
        per_category = {}
        for category in self.labels.thing_ids:
            name = self.labels[category].name
            share, count, area, spurious = self.state[category].tolist()
            if self.average_sizes is None:
                size = area / count if count else math.nan
            else:
                size = self.average_sizes.get(name, math.nan)
            found, missed = (size * share, size * (count - share)) if count else (0.0, 0.0)
            per_category[name] = CategoryInstanceIoU(found, int(spurious), missed, size)
        ious = [c.iou for c in per_category.values() if not math.isnan(c.iou)]
        return InstanceIoUReport(sum(ious) / len(ious) if ious else math.nan, per_category)
