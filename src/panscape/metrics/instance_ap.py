"""Average precision of objects (AP), from panoptic maps or from masks that may overlap.

The protocol of COCO is in :mod:`panscape.metrics.instance_ap_coco`, that of Cityscapes in
:mod:`panscape.metrics.instance_ap_cityscapes`. The objects of a map do not overlap, and those with a low score are not
in it. The AP of the same network's detections before fusion is usually higher; papers on systems that detect objects
report that AP (:meth:`InstanceAP.update_masks`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.metrics.base import Metric
from panscape.metrics.instance_ap_cityscapes import CITYSCAPES_THRESHOLDS, SMALLEST_OBJECT, cityscapes_precision
from panscape.metrics.instance_ap_coco import COCO_THRESHOLDS, MAX_PREDICTIONS, CocoCurves, coco_curves
from panscape.metrics.object_sizes import COCO_SIZES, LARGEST_AREA, require_percentiles, size_percentiles
from panscape.metrics.reports import Report
from panscape.metrics.tables import format_percent, format_table
from panscape.metrics.thing_overlaps import ThingOverlaps, mask_overlaps, pooled, thing_overlaps
from panscape.ops.contingency_table import ContingencyTable
from panscape.ops.cropped_masks import CroppedMasks
from panscape.panoptic import PanopticMap

APProtocol = Literal["coco", "cityscapes"]
ScoreSource = Literal["given", "one"]


@dataclass(frozen=True, slots=True)
class CategoryAP:
    """The average precision of one category of things.

    Attributes:
        ap: mean over IoU thresholds from 0.50 to 0.95, in 0..1; nan without objects.
        ap50: at IoU 0.50.
        ap75: at IoU 0.75.
        num_objects: in the ground truth, without crowds; for Cityscapes also without objects below 100 pixels.
        num_predictions: number of predicted segments.
    """

    ap: float
    ap50: float
    ap75: float
    num_objects: int
    num_predictions: int


@dataclass(frozen=True, slots=True)
class SizeAP:
    """The average precision of objects within a range of sizes.

    Attributes:
        smallest: smallest area in pixels.
        largest: largest area in pixels; 1e10 without a limit.
        ap: mean over thresholds and categories, in 0..1; nan without objects.
        recall: maximum recall with 100 predictions, mean over thresholds and categories.
        num_objects: number of objects of these sizes in the ground truth.
    """

    smallest: float
    largest: float
    ap: float
    recall: float
    num_objects: int


@dataclass(frozen=True, slots=True)
class InstanceAPReport(Report):
    """The average precision of a set of images; ``str()`` returns tables in percent.

    Attributes:
        protocol: "coco" or "cityscapes".
        ap: mean over categories and IoU thresholds from 0.50 to 0.95, in 0..1; nan without objects.
        ap50: at IoU 0.50.
        ap75: at IoU 0.75.
        recall: COCO's AR: maximum recall with 1, 10 and 100 predictions per image and category, mean over thresholds
            and categories. Empty for Cityscapes.
        by_size: by name of the size range, percentiles last if requested. For Cityscapes, whose protocol has no sizes,
            only percentiles, by the protocol of COCO.
        per_category: by thing category, in the order of the label space.
        curves: precision at every recall; the size ranges are all sizes, then ``by_size``. None for Cityscapes.
    """

    protocol: str
    ap: float
    ap50: float
    ap75: float
    recall: Mapping[int, float]
    by_size: Mapping[str, SizeAP]
    per_category: Mapping[str, CategoryAP]
    curves: CocoCurves | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        present = {name: category for name, category in self.per_category.items() if category.num_objects}
        rows = [[f"{self.protocol} protocol", "AP", "AP50", "AP75", "objects", "predictions"]]
        total = sum(category.num_objects for category in present.values())
        predicted = sum(category.num_predictions for category in present.values())
        means = [format_percent(value) for value in (self.ap, self.ap50, self.ap75)]
        rows.append([f"objects ({len(present)})", *means, str(total), str(predicted)])
        for name, category in present.items():
            shares = [format_percent(value) for value in (category.ap, category.ap50, category.ap75)]
            rows.append([name, *shares, str(category.num_objects), str(category.num_predictions)])
        blocks = [format_table(rows)]
        if self.by_size:
            title = "size" if self.protocol == "coco" else "size (coco protocol)"
            sizes = [[title, "AP", "AR", "objects", "pixels"]]
            for name, size in self.by_size.items():
                end = f"to {size.largest:.0f}" if size.largest < LARGEST_AREA else "on"
                extent = f"{size.smallest:.0f} {end}"
                sizes.append(
                    [name, format_percent(size.ap), format_percent(size.recall), str(size.num_objects), extent]
                )
            blocks.append(format_table(sizes))
        if self.recall:
            counts = [["predictions per image and category", "AR"]]
            counts += [[f"at most {count}", format_percent(value)] for count, value in self.recall.items()]
            blocks.append(format_table(counts))
        return "\n\n".join(blocks)


class InstanceAP(Metric[InstanceAPReport]):
    """Accumulates the objects of images for average precision, by the protocol of COCO or Cityscapes.

    Other metrics are sums; precision needs all predictions of the set at once. Memory grows with the number of segments
    (about 100 bytes each), not with the number of pixels. There is no tensor to sum over processes. Accumulators are
    merged instead; their order only affects the ranking of equal scores. They can be pickled, so
    ``torch.distributed.all_gather_object`` can gather them. One accumulator per image, merged in the order of the
    images, gives the same report however the images are distributed over processes.

    Attributes:
        labels: the label space of predictions and truth, or the name of a bundled one.
        protocol: "coco" or "cityscapes".
        sizes: size ranges by name, for which AP is also reported: smallest and largest area in pixels, both inclusive.
        percentiles: of the areas of all objects, between which AP is also reported; () for none.
        score: "given" or "one".
        images: the objects of each image so far.
    """

    options = ("protocol", "sizes", "percentiles", "score")

    def __init__(
        self,
        labels: LabelSpace | str,
        protocol: APProtocol = "coco",
        *,
        sizes: Mapping[str, tuple[float, float]] | None = None,
        percentiles: Sequence[float] = (),
        score: ScoreSource = "given",
    ) -> None:
        """Start with no images.

        Args:
            labels: the label space of predictions and truth; only things are evaluated.
            protocol: "coco" or "cityscapes".
            sizes: ranges of areas in pixels; None for COCO's small, medium and large. Must be None for Cityscapes.
            percentiles: also report AP between these percentiles of the areas of the true objects, computed over all
                images (:func:`~panscape.metrics.object_sizes.size_percentiles`); those of All Scales' Figure 5 are
                :data:`~panscape.metrics.object_sizes.PERCENTILES`. By the protocol of COCO also for Cityscapes.
            score: "given" uses the scores of the predictions; "one" gives all segments the same score, so that they are
                ranked by the order of images and segments.

        Raises:
            InvalidArgumentError: an option has another value, a size range is empty or used with Cityscapes, or
                percentiles do not ascend from 0 to 100.
        """
        if protocol not in get_args(APProtocol):
            raise InvalidArgumentError(f'expected protocol "coco" or "cityscapes", got {protocol!r}')
        if score not in get_args(ScoreSource):
            raise InvalidArgumentError(f'expected score "given" or "one", got {score!r}')
        if sizes is not None and protocol != "coco":
            raise InvalidArgumentError('expected sizes with protocol="coco" only; the Cityscapes protocol has no sizes')
        self.labels = labels = LabelSpace.of(labels)
        self.protocol: APProtocol = protocol
        self.sizes = _checked(COCO_SIZES if sizes is None else sizes) if protocol == "coco" else {}
        self.percentiles = require_percentiles(percentiles) if percentiles else ()
        self.score: ScoreSource = score
        self.images: list[ThingOverlaps] = []

    def update(self, prediction: PanopticMap, truth: PanopticMap, histogram: ContingencyTable | None = None) -> None:
        """Add one image.

        Args:
            prediction: of the same size as ``truth``, with scores unless ``score`` is "one".
            truth: with its crowds, if any.
            histogram: the result of :func:`~panscape.metrics.overlaps.overlaps` for both maps, if already computed.

        Raises:
            InvalidArgumentError: the maps differ in size or have a category that the label space lacks, or the
                prediction has no scores.
        """
        self.require_scores(prediction)
        if self.score == "one":
            prediction = PanopticMap(prediction.ids, prediction.category)
        self.images.append(thing_overlaps(prediction, truth, self.labels, histogram))

    def update_masks(self, masks: CroppedMasks, category: Tensor, score: Tensor, truth: PanopticMap) -> None:
        """Add one image whose predicted objects are masks that may overlap.

        Args:
            masks: of P objects; empty masks are ignored.
            category: thing category of each mask, integers [P].
            score: of each mask, float [P]; ignored if ``score`` of the metric is "one".
            truth: with its crowds, if any; of the image size of the masks.

        Raises:
            InvalidArgumentError: there is not one category and score for each mask, a mask leaves the image, or a
                category is not a thing of the label space.
        """
        score = torch.ones_like(score) if self.score == "one" else score
        self.images.append(mask_overlaps(masks, category, score, truth, self.labels))

    def require_scores(self, prediction: PanopticMap) -> None:
        """Check that a prediction has the scores that this metric requires.

        Raises:
            InvalidArgumentError: it has none.
        """
        if self.score == "given" and prediction.score is None and prediction.num_segments:
            raise InvalidArgumentError(
                f"expected a prediction with a score for each of its {prediction.num_segments} segments, as average "
                'precision ranks them, got none; give scores, or use InstanceAP(..., score="one") to rank all equally'
            )

    def merge(self, other: InstanceAP) -> None:
        """See :meth:`Metric.merge`."""
        self.check_compatible(other)
        self.images += other.images

    def reset(self) -> None:
        """Forget all images."""
        self.images = []

    def object_areas(self) -> Tensor:
        """Return the areas of the true objects so far, int64, the input of ``size_percentiles``."""
        areas = [image.true_area[~image.is_crowd] for image in self.images]
        return torch.from_numpy(np.concatenate([np.zeros(0, dtype=np.int64), *areas]))

    def compute(self, sizes: Mapping[str, tuple[float, float]] | None = None) -> InstanceAPReport:
        """Report on all images so far.

        Args:
            sizes: size ranges that replace those of the metric and its percentiles, for example measured on the same
                images.

        Raises:
            InvalidArgumentError: a range is empty or used with Cityscapes.
        """
        things = pooled(self.images)
        if self.protocol == "cityscapes":
            if sizes is not None:
                raise InvalidArgumentError(
                    'expected sizes with protocol="coco" only; the Cityscapes protocol has no sizes'
                )
            report, percentiles = _cityscapes_report(things, self.labels), self._all_sizes()
            if not percentiles:
                return report
            return replace(report, by_size=_coco_report(things, self.labels, percentiles).by_size)
        return _coco_report(things, self.labels, self._all_sizes() if sizes is None else _checked(sizes))

    def _all_sizes(self) -> dict[str, tuple[float, float]]:
        areas = self.object_areas()
        if not self.percentiles or not len(areas):
            return self.sizes
        return {**self.sizes, **size_percentiles(areas, self.percentiles)}


def default_ap_protocol(labels: LabelSpace) -> APProtocol:
    """Return the default protocol of a label space: "cityscapes" for Cityscapes, else "coco"."""
    return "cityscapes" if labels.name == "cityscapes" else "coco"


def _coco_report(
    things: ThingOverlaps, labels: LabelSpace, sizes: Mapping[str, tuple[float, float]]
) -> InstanceAPReport:
    curves = coco_curves(things, labels.thing_ids, [(0, LARGEST_AREA), *sizes.values()])
    precision = curves.precision[..., 0, -1]  # [T, 101, K] at all sizes
    counts = _counts(things.predicted_category, labels)
    at = [_threshold(COCO_THRESHOLDS, iou) for iou in (0.5, 0.75)]
    return InstanceAPReport(
        protocol="coco",
        ap=_mean(precision),
        ap50=_mean(precision[at[0]]),
        ap75=_mean(precision[at[1]]),
        recall={most: _mean(curves.recall[..., 0, m]) for m, most in enumerate(MAX_PREDICTIONS)},
        by_size={
            name: SizeAP(
                *limits,
                ap=_mean(curves.precision[..., a, -1]),
                recall=_mean(curves.recall[..., a, -1]),
                num_objects=int(curves.num_objects[:, a].sum()),
            )
            for a, (name, limits) in enumerate(sizes.items(), start=1)
        },
        per_category={
            labels[category].name: CategoryAP(
                ap=_mean(precision[..., k]),
                ap50=_mean(precision[at[0], :, k]),
                ap75=_mean(precision[at[1], :, k]),
                num_objects=int(curves.num_objects[k, 0]),
                num_predictions=int(counts[category]),
            )
            for k, category in enumerate(labels.thing_ids)
        },
        curves=curves,
    )


def _cityscapes_report(things: ThingOverlaps, labels: LabelSpace) -> InstanceAPReport:
    precision = cityscapes_precision(things, labels.thing_ids)
    predicted = _counts(things.predicted_category, labels)
    is_object = ~things.is_crowd & (things.true_area >= SMALLEST_OBJECT)
    objects = _counts(things.true_category[is_object], labels)
    at = [_threshold(CITYSCAPES_THRESHOLDS, iou) for iou in (0.5, 0.75)]
    return InstanceAPReport(
        protocol="cityscapes",
        ap=_mean(precision),
        ap50=_mean(precision[:, at[0]]),
        ap75=_mean(precision[:, at[1]]),
        recall={},
        by_size={},
        per_category={
            labels[category].name: CategoryAP(
                ap=_mean(precision[k]),
                ap50=float(precision[k, at[0]]),
                ap75=float(precision[k, at[1]]),
                num_objects=int(objects[category]),
                num_predictions=int(predicted[category]),
            )
            for k, category in enumerate(labels.thing_ids)
        },
    )


def _counts(category: NDArray[np.int64], labels: LabelSpace) -> NDArray[np.int64]:
    return np.bincount(category, minlength=len(labels))


def _threshold(thresholds: NDArray[np.float64], iou: float) -> int:
    return int(np.abs(thresholds - iou).argmin())


def _mean(values: NDArray[np.float64]) -> float:
    """Return the mean without nan; nan if there is none."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else math.nan


def _checked(sizes: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    for name, (low, high) in sizes.items():
        if not 0 <= low <= high:
            raise InvalidArgumentError(
                f"expected the smallest and the largest area in pixels for the size {name!r}, got {low} and {high}"
            )
    return {name: (low, min(high, LARGEST_AREA)) for name, (low, high) in sizes.items()}  # JSON has no infinity
