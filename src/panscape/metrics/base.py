"""The bases of all metrics: which can be merged, what is summed over images, and how an image is added."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.metrics.matching import SegmentMatches, match_segments
from panscape.metrics.overlaps import overlaps, require_categories
from panscape.metrics.protocol import Protocol, get_protocol
from panscape.ops.contingency_table import ContingencyTable
from panscape.panoptic import PanopticMap

ReportT = TypeVar("ReportT", covariant=True)


class Metric(ABC, Generic[ReportT]):
    """Accumulates images and reports on all of them.

    Attributes:
        options: names of the attributes that must be equal in two metrics to merge them.
        labels: the label space of predictions and truth, or the name of a bundled one.
    """

    options: ClassVar[tuple[str, ...]] = ()
    labels: LabelSpace

    def check_compatible(self, other: Self) -> None:
        """Check that the images of another metric can be added to those of this one.

        Raises:
            InvalidArgumentError: the classes, the label spaces or the options differ.
        """
        if type(self) is not type(other):
            raise InvalidArgumentError(
                f"expected a {type(self).__name__}, got a {type(other).__name__}; merge metrics of one class only"
            )
        if self.labels != other.labels:
            raise InvalidArgumentError(
                f"expected a metric over the label space {self.labels.name!r} ({len(self.labels)} categories), got one "
                f"over {other.labels.name!r} ({len(other.labels)} categories); merge metrics of one label space only"
            )
        unequal = [name for name in self.options if getattr(self, name) != getattr(other, name)]
        if unequal:
            mine, others = (", ".join(f"{name}={getattr(m, name)!r}" for name in unequal) for m in (self, other))
            raise InvalidArgumentError(
                f"expected a metric with {mine}, got one with {others}; merge metrics with equal options only"
            )

    @abstractmethod
    def update(self, *image: Any, **options: Any) -> None:
        """Add one image."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Add the images of another metric after those of this one.

        Raises:
            InvalidArgumentError: the label spaces or the options differ. This metric is unchanged then.
        """

    @abstractmethod
    def reset(self) -> None:
        """Forget all images."""

    @abstractmethod
    def compute(self) -> ReportT:
        """Report on all images so far."""


class SummedMetric(Metric[ReportT]):
    """A metric whose state is one tensor that is summed over images.

    Metrics of several processes are merged with :meth:`merge` or by summing their states.

    Attributes:
        state: the sums, by category; the class documents its columns.
    """

    state: Tensor

    def merge(self, other: Self) -> None:
        """See :meth:`Metric.merge`; the states may be on different devices."""
        self.check_compatible(other)
        self.state += other.state.to(self.state.device)

    def reset(self) -> None:
        """Forget all images."""
        self.state.zero_()


class MapMetric(SummedMetric[ReportT]):
    """A summed metric that needs only the overlaps of the predicted and true segments."""

    def update(self, prediction: PanopticMap, truth: PanopticMap, histogram: ContingencyTable | None = None) -> None:
        """Add one image.

        Args:
            prediction: of the same size as ``truth``.
            truth: with its crowds, if any.
            histogram: the result of :func:`~panscape.metrics.overlaps.overlaps` for both maps, if already computed.

        Raises:
            InvalidArgumentError: the maps differ in size or have a category that the label space lacks.
        """
        require_categories(self.labels, prediction, truth)
        histogram = overlaps(prediction, truth) if histogram is None else histogram
        self.state += self.count_image(prediction, truth, histogram)

    @abstractmethod
    def count_image(self, prediction: PanopticMap, truth: PanopticMap, histogram: ContingencyTable) -> Tensor:
        """Return the state of one image."""


class MatchedMetric(SummedMetric[ReportT]):
    """A summed metric of matched segments, under an evaluation protocol.

    Sums of IoU are taken within an image, pairs ascending by ground-truth id, and then over the images in the order of
    the updates.

    Attributes:
        columns: shape of the state of one category.
        protocol: the evaluation protocol.
        state: float64 [K, *columns].
    """

    options: ClassVar[tuple[str, ...]] = ("protocol",)
    columns: ClassVar[tuple[int, ...]]

    def __init__(self, labels: LabelSpace | str, protocol: str | Protocol = "coco") -> None:
        """Start with no images.

        Args:
            labels: the label space of predictions and truth, or the name of a bundled one.
            protocol: a name in :data:`~panscape.metrics.protocol.PROTOCOLS`, or a custom protocol.

        Raises:
            UnknownNameError: no protocol has this name.
        """
        self.labels = labels = LabelSpace.of(labels)
        self.protocol = get_protocol(protocol)
        self.state = torch.zeros(len(labels), *self.columns, dtype=torch.float64)

    def update(
        self,
        prediction: PanopticMap,
        truth: PanopticMap,
        histogram: ContingencyTable | None = None,
        matches: SegmentMatches | None = None,
    ) -> None:
        """Add one image.

        Args:
            prediction: of the same size as ``truth``.
            truth: with its crowds, if any.
            histogram: the result of :func:`~panscape.metrics.overlaps.overlaps` for both maps, if already computed.
            matches: the result of :meth:`match`, if already computed.

        Raises:
            InvalidArgumentError: the maps differ in size or have a category that the label space lacks.
        """
        require_categories(self.labels, prediction, truth)
        histogram = overlaps(prediction, truth) if histogram is None else histogram
        matches = self.match(prediction, truth, histogram) if matches is None else matches
        self.state += self.count_image(prediction, truth, histogram, matches)

    def match(self, prediction: PanopticMap, truth: PanopticMap, histogram: ContingencyTable) -> SegmentMatches:
        """Match the segments of one image with :func:`~panscape.metrics.matching.match_segments`."""
        return match_segments(prediction, truth, histogram, self.protocol, self.labels.stuff_ids)

    @abstractmethod
    def count_image(
        self, prediction: PanopticMap, truth: PanopticMap, histogram: ContingencyTable, matches: SegmentMatches
    ) -> Tensor:
        """Return the state of one image."""
