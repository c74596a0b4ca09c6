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
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from panscape.labels import LabelSpace
from panscape.metrics.matching import SegmentMatches, match_segments
from panscape.metrics.overlaps import categories_of, crowds_of, overlaps, require_categories, require_same_labels
from panscape.metrics.panoptic_quality import count_matches
from panscape.metrics.protocol import Protocol, get_protocol, require_same_protocol
from panscape.metrics.tables import format_percent, format_table, nan_to_none
from panscape.ops.confusion import JointHistogram
from panscape.panoptic import PanopticMap


def stuff_iou(
    prediction: PanopticMap,
    truth: PanopticMap,
    num_categories: int,
    histogram: JointHistogram | None = None,
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
class CategoryQualityDagger:
    """The PQ-dagger of one category.

    Attributes:
        count: things: true positives and half of the false positives and false negatives; stuff: images with the
            category in the ground truth.
        iou_sum: sum of IoU over the matches or these images.
    """

    count: float
    iou_sum: float

    @property
    def pq(self) -> float:
        """PQ-dagger in 0..1; nan if ``count`` is 0."""
        return self.iou_sum / self.count if self.count else math.nan


@dataclass(frozen=True, slots=True)
class GroupQualityDagger:
    """The mean over the categories of a group whose ``count`` is not 0.

    Attributes:
        pq: PQ-dagger in 0..1; nan without any such category.
        num_categories: number of categories in the mean.
    """

    pq: float
    num_categories: int


@dataclass(frozen=True, slots=True)
class PanopticQualityDaggerReport:
    """The PQ-dagger of a set of images; ``str()`` gives a table in percent.

    Attributes:
        all: mean over all categories.
        things: mean over the things.
        stuff: mean over the stuff.
        per_category: by category name, in the order of the label space.
    """

    all: GroupQualityDagger
    things: GroupQualityDagger
    stuff: GroupQualityDagger
    per_category: Mapping[str, CategoryQualityDagger]

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """Return a table in percent: groups, then the categories whose ``count`` is not 0."""
        rows = [["", "PQ†"]]
        for name, group in (("all", self.all), ("things", self.things), ("stuff", self.stuff)):
            rows.append([f"{name} ({group.num_categories})", format_percent(group.pq)])
        rows += [[name, format_percent(category.pq)] for name, category in self.per_category.items() if category.count]
        return format_table(rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts for JSON; None stands for nan."""
        groups = {name: asdict(getattr(self, name)) for name in ("all", "things", "stuff")}
        categories = {name: {"pq": c.pq, **asdict(c)} for name, c in self.per_category.items()}
        nan_to_none(*groups.values(), *categories.values())
        return {**groups, "per_category": categories}


class PanopticQualityDagger:
    """Accumulates PQ-dagger over images, as defined at the top of this module.

    IoU is summed within an image and then over the images in the order of the updates. Accumulators of
    several processes are merged with :meth:`merge` or by summing their :attr:`state`.

    Attributes:
        labels: the label space of predictions and truth.
        protocol: the evaluation protocol.
        state: float64 [K, 2]: :attr:`CategoryQualityDagger.count` and the sum of IoU by category.
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
        self.state = torch.zeros(len(labels), 2, dtype=torch.float64)

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
        histogram = overlaps(prediction, truth) if histogram is None else histogram
        if matches is None:
            matches = match_segments(prediction, truth, histogram, self.protocol, self.labels.stuff_ids)
        found = count_matches(prediction, truth, matches, len(self.labels))
        sums = np.stack([found[:, 0] + (found[:, 1] + found[:, 2]) / 2, found[:, 3]], axis=1)
        is_there, iou = stuff_iou(prediction, truth, len(self.labels), histogram, self.protocol)
        stuff = list(self.labels.stuff_ids)
        sums[stuff] = np.stack([is_there, iou], axis=1)[stuff]
        self.state += torch.from_numpy(sums)

    def merge(self, other: PanopticQualityDagger) -> None:
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

    def compute(self) -> PanopticQualityDaggerReport:
        """Report on all images so far."""
        per_category = {
            category.name: CategoryQualityDagger(count, iou_sum)
            for category, (count, iou_sum) in zip(self.labels, self.state.tolist(), strict=True)
        }
        qualities = list(per_category.values())

        def mean(ids: Iterable[int]) -> GroupQualityDagger:
            chosen = [qualities[i].pq for i in ids if qualities[i].count]
            return GroupQualityDagger(sum(chosen) / len(chosen) if chosen else math.nan, len(chosen))

        return PanopticQualityDaggerReport(
            all=mean(range(len(qualities))),
            things=mean(self.labels.thing_ids),
            stuff=mean(self.labels.stuff_ids),
            per_category=per_category,
        )
