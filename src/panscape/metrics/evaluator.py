"""All metrics in one pass over each image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.metrics.base import Metric, SummedMetric
from panscape.metrics.boundary_quality import BoundaryPanopticQuality
from panscape.metrics.instance_ap import InstanceAP, InstanceAPReport
from panscape.metrics.instance_iou import InstanceIoU, InstanceIoUReport
from panscape.metrics.matching import SegmentMatches
from panscape.metrics.overlaps import overlaps
from panscape.metrics.panoptic_quality import PanopticQuality, PanopticQualityReport
from panscape.metrics.panoptic_quality_dagger import PanopticQualityDagger, PanopticQualityDaggerReport
from panscape.metrics.parsing_covering import ParsingCovering, ParsingCoveringReport
from panscape.metrics.protocol import Protocol, get_protocol
from panscape.metrics.reports import Report
from panscape.metrics.semantic_iou import SemanticIoU, SemanticIoUReport, map_of_semantic
from panscape.metrics.summary_row import summary_row
from panscape.metrics.tables import format_percent, format_table
from panscape.ops.contingency_table import ContingencyTable
from panscape.ops.cropped_masks import Detections
from panscape.panoptic import PanopticMap

_OPTIONAL = {
    "standard": ("standard panoptic quality", "PanopticQuality"),
    "semantic_head": ("the mean IoU of a semantic head", "SemanticIoU"),
    "instances": ("average precision", "InstanceAP"),
    "instances_before_fusion": ("average precision before fusion", "InstanceAP"),
    "instance_iou": ("instance-weighted IoU", "InstanceIoU"),
    "instance_iou_head": ("the instance-weighted IoU of a semantic head", "InstanceIoU"),
    "boundary": ("boundary quality", "BoundaryPanopticQuality"),
}
"""Optional metrics in the order of the report, with their descriptions and classes."""


@dataclass(frozen=True, slots=True)
class EvaluationReport(Report):
    """The report of an :class:`Evaluator`; ``str()`` returns tables in percent.

    The tables are groups, categories, optional metrics, and with average precision one row of what papers report.

    Attributes:
        panoptic: PQ, SQ and RQ.
        semantic: mean IoU of the maps.
        dagger: PQ-dagger.
        covering: parsing covering.
        standard: PQ, SQ and RQ by the protocol "coco", beside those of another one; None if not requested.
        semantic_head: mean IoU of the prediction of the semantic head alone, which papers report; None without a
            semantic head, as for maps in files.
        instances: average precision of the objects of the maps; None if not requested.
        instances_before_fusion: average precision of the detected objects before fusion into maps, which papers on such
            systems report; None if not requested, and for other systems.
        instance_iou: instance-weighted IoU of the maps; None if not requested.
        instance_iou_head: instance-weighted IoU of the semantic head, which papers report; None if not requested or
            without a semantic head.
        boundary: boundary PQ; None if not requested.
    """

    panoptic: PanopticQualityReport
    semantic: SemanticIoUReport
    dagger: PanopticQualityDaggerReport
    covering: ParsingCoveringReport
    standard: PanopticQualityReport | None = None
    semantic_head: SemanticIoUReport | None = None
    instances: InstanceAPReport | None = None
    instances_before_fusion: InstanceAPReport | None = None
    instance_iou: InstanceIoUReport | None = None
    instance_iou_head: InstanceIoUReport | None = None
    boundary: PanopticQualityReport | None = None

    def __str__(self) -> str:
        head = self.semantic_head
        iou_of = [""] if head is None else ["map ", "head "]
        semantics = [self.semantic] if head is None else [self.semantic, head]
        groups = [["", "PQ", "SQ", "RQ", "PQ†", "PC", *(f"{part}mIoU" for part in iou_of)]]
        for name in ("all", "things", "stuff"):
            quality = getattr(self.panoptic, name)
            shares = [quality.pq, quality.sq, quality.rq, getattr(self.dagger, name).pq]
            row = [format_percent(share) for share in (*shares, getattr(self.covering, name).covering)]
            means = [format_percent(one.mean_iou) if name == "all" else "" for one in semantics]
            groups.append([f"{name} ({quality.num_categories})", *row, *means])
        categories = [["", "PQ", "SQ", "RQ", "TP", "FP", "FN", "PQ†", "PC", *(f"{part}IoU" for part in iou_of)]]
        for name, category in self.panoptic.per_category.items():
            ious = [one.per_category[name].iou for one in semantics]
            if category.occurs or not all(map(math.isnan, ious)):
                shares = [format_percent(share) for share in (category.pq, category.sq, category.rq)]
                counts = [str(count) for count in (category.tp, category.fp, category.fn)]
                others = (self.dagger.per_category[name].pq, self.covering.per_category[name].covering, *ious)
                categories.append([name, *shares, *counts, *map(format_percent, others)])
        tables = [format_table(groups), format_table(categories)]
        if self.standard is not None:
            tables.append(f"standard PQ, protocol coco\n{self.standard}")
        tables += _titled(
            ("objects of the map", self.instances), ("objects before fusion", self.instances_before_fusion)
        )
        tables += _titled(("iIoU of the map", self.instance_iou), ("iIoU of the semantic head", self.instance_iou_head))
        if self.boundary is not None:
            tables.append(f"boundary quality\n{self.boundary}")
        if self.instances is not None:
            tables.append(self._row_table())
        return "\n\n".join(tables)

    def _row_table(self) -> str:
        objects = "of the map" if self.instances_before_fusion is None else "before fusion"
        semantics = "map" if self.semantic_head is None else "semantic head"
        row = summary_row(self.to_dict())
        table = format_table([[*row], [format_percent(value) for value in row.values()]])
        return f"in one row: AP of objects {objects}, mIoU of the {semantics}\n{table}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts for JSON, without metrics that are None; None stands for nan."""
        return {name: part for name, part in Report.to_dict(self).items() if part is not None}


def _titled(*reports: tuple[str, InstanceAPReport | InstanceIoUReport | None]) -> list[str]:
    """Return the tables of the reports that are not None, with titles if there are several."""
    there = [(title, report) for title, report in reports if report is not None]
    return [str(report) if len(there) == 1 else f"{title}\n{report}" for title, report in there]


class Evaluator(Metric[EvaluationReport]):
    """Accumulates PQ, PQ-dagger, parsing covering and mean IoU from one overlap table and one matching per image.

    Attributes:
        panoptic: the accumulator of PQ.
        semantic: the accumulator of the IoU of maps.
        dagger: the accumulator of PQ-dagger.
        covering: the accumulator of parsing covering.
        standard: the accumulator of PQ by the protocol "coco", or None.
        semantic_head: the accumulator of the IoU of a semantic head, or None.
        instances: the accumulator of average precision of the objects of maps, or None.
        instances_before_fusion: the accumulator of average precision of objects before fusion, or None.
        instance_iou: the accumulator of the instance-weighted IoU of maps, or None.
        instance_iou_head: the accumulator of the instance-weighted IoU of a semantic head, or None.
        boundary: the accumulator of boundary PQ, or None.
    """

    def __init__(
        self,
        labels: LabelSpace | str,
        protocol: str | Protocol = "coco",
        *,
        standard: PanopticQuality | None = None,
        semantic_head: SemanticIoU | None = None,
        instances: InstanceAP | None = None,
        instances_before_fusion: InstanceAP | None = None,
        instance_iou: InstanceIoU | None = None,
        instance_iou_head: InstanceIoU | None = None,
        boundary: BoundaryPanopticQuality | None = None,
    ) -> None:
        """Start with no images.

        Args:
            labels: the label space of predictions and truth, or the name of a bundled one.
            protocol: of PQ and PQ-dagger: a name in :data:`~panscape.metrics.protocol.PROTOCOLS`, or a custom protocol.
            standard: optional PQ by the protocol "coco", to be reported beside that of another protocol.
            semantic_head: optional metric of a semantic head.
            instances: optional average precision; requires predictions with scores, and memory grows with their number.
            instances_before_fusion: optional average precision of objects before fusion.
            instance_iou: optional instance-weighted IoU.
            instance_iou_head: optional instance-weighted IoU of a semantic head.
            boundary: optional boundary PQ, with the same protocol; takes longer.

        Raises:
            UnknownNameError: no protocol has this name.
            InvalidArgumentError: a metric has another label space, or ``boundary`` has another protocol.
        """
        labels = LabelSpace.of(labels)
        heads = (semantic_head, instances, instances_before_fusion, instance_iou, instance_iou_head)
        asked = (standard, *heads, boundary)
        for metric, (what, _) in zip(asked, _OPTIONAL.values(), strict=True):
            if metric is not None and metric.labels != labels:
                raise InvalidArgumentError(
                    f"expected {what} over the label space {labels.name!r}, got {metric.labels.name!r}; create both "
                    "with the same labels"
                )
        if boundary is not None and boundary.protocol != get_protocol(protocol):
            raise InvalidArgumentError(
                f"expected boundary quality with {get_protocol(protocol)}, got {boundary.protocol}; create both with "
                "the same protocol"
            )
        self.labels = labels
        self.panoptic = PanopticQuality(labels, protocol)
        self.semantic = SemanticIoU(labels)
        self.dagger = PanopticQualityDagger(labels, protocol)
        self.covering = ParsingCovering(labels)
        self.standard = standard
        self.semantic_head = semantic_head
        self.instances = instances
        self.instances_before_fusion = instances_before_fusion
        self.instance_iou = instance_iou
        self.instance_iou_head = instance_iou_head
        self.boundary = boundary

    @property
    def metrics(self) -> dict[str, Metric[Any]]:
        """The metrics by name, in the order of the report."""
        names = ("panoptic", "semantic", "dagger", "covering", *_OPTIONAL)
        return {name: metric for name in names if (metric := getattr(self, name)) is not None}

    @property
    def states(self) -> dict[str, Tensor]:
        """The states of the metrics by name; states of processes can be summed. Average precision has none."""
        return {name: metric.state for name, metric in self.metrics.items() if isinstance(metric, SummedMetric)}

    def update(
        self,
        prediction: PanopticMap,
        truth: PanopticMap,
        *,
        semantic: Tensor | None = None,
        detections: Detections | None = None,
        histogram: ContingencyTable | None = None,
        matches: SegmentMatches | None = None,
    ) -> None:
        """Add one image.

        Args:
            prediction: of the same size as ``truth``.
            truth: with its crowds, if any.
            semantic: prediction of a semantic head alone, category ids [H, W], for its metrics.
            detections: objects before fusion, for their metric.
            histogram: the :func:`~panscape.metrics.overlaps.overlaps` of both maps, if already computed.
            matches: the result of :func:`~panscape.metrics.matching.match_segments` under the protocol, if computed.

        Raises:
            InvalidArgumentError: the maps differ in size or have a category that the label space lacks, or the
                prediction has no scores and average precision is measured, or the truth has objects of a category
                without an average size and instance-weighted IoU is measured, or an input of a metric is missing. The
                state is unchanged then.
        """
        histogram = overlaps(prediction, truth) if histogram is None else histogram
        of_head = (self.semantic_head, self.instance_iou_head)
        if semantic is None and any(of_head):
            raise InvalidArgumentError("expected the prediction of the semantic head, as its IoU is measured, got none")
        if detections is None and self.instances_before_fusion is not None:
            raise InvalidArgumentError(
                "expected objects before fusion, as their average precision is measured, got none"
            )
        labels = self.labels
        # Metrics with additional requirements come first, so that their errors leave the others unchanged.
        if self.instances is not None:
            self.instances.require_scores(prediction)
        for metric in (self.instance_iou, self.instances, self.boundary):
            if metric is not None:
                metric.update(prediction, truth, histogram)
        if self.instances_before_fusion is not None and detections is not None:
            self.instances_before_fusion.update_masks(*detections, truth)
        if semantic is not None and any(of_head):
            head = map_of_semantic(semantic, labels)
            histogram_of_head = overlaps(head, truth)
            for measure in of_head:
                if measure is not None:
                    measure.update(head, truth, histogram_of_head)
        self.semantic.update(prediction, truth, histogram)  # before the matching, as it checks the categories
        matches = self.panoptic.match(prediction, truth, histogram) if matches is None else matches
        self.panoptic.update(prediction, truth, histogram, matches)
        self.dagger.update(prediction, truth, histogram, matches)
        self.covering.update(prediction, truth, histogram)
        if self.standard is not None:
            self.standard.update(prediction, truth, histogram)

    def check_compatible(self, other: Evaluator) -> None:
        """See :meth:`Metric.check_compatible`; both must have the same optional metrics, with equal options."""
        self.panoptic.check_compatible(other.panoptic)
        for name, (what, kind) in _OPTIONAL.items():
            mine, others = getattr(self, name), getattr(other, name)
            if (mine is None) != (others is None):
                raise InvalidArgumentError(
                    f"expected evaluators that both measure {what} or both do not; pass each its own {kind}"
                )
            if mine is not None:
                mine.check_compatible(others)

    def merge(self, other: Evaluator, *, same_protocol: bool = True) -> None:
        """See :meth:`Metric.merge`.

        Args:
            other: with the same optional metrics.
            same_protocol: raise if the protocols differ. False adds an image that was counted under another protocol.
        """
        if same_protocol:
            self.check_compatible(other)
        states = other.states
        for name, state in self.states.items():
            state += states[name].to(state.device)
        for name, metric in self.metrics.items():
            if not isinstance(metric, SummedMetric):
                metric.merge(other.metrics[name])

    def reset(self) -> None:
        """Forget all images."""
        for metric in self.metrics.values():
            metric.reset()

    def compute(self) -> EvaluationReport:
        """Report on all images so far."""
        return EvaluationReport(**{name: metric.compute() for name, metric in self.metrics.items()})
