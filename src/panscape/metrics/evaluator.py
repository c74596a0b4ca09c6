"""All metrics in one pass over each picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.evaluation_options import DEFAULT_OPTIONS, EvaluationOptions
from panscape.labels import LabelSpace
from panscape.metrics.boundary_quality import BoundaryPanopticQuality
from panscape.metrics.instance_ap import InstanceAP, InstanceAPReport, usual_ap_rules
from panscape.metrics.instance_iou import InstanceIoU, InstanceIoUReport
from panscape.metrics.matching import match_segments
from panscape.metrics.object_sizes import PERCENTILES
from panscape.metrics.overlaps import overlaps, require_same_labels
from panscape.metrics.panoptic_quality import PanopticQuality, PanopticQualityReport
from panscape.metrics.panoptic_quality_dagger import PanopticQualityDagger, PanopticQualityDaggerReport
from panscape.metrics.parsing_covering import ParsingCovering, ParsingCoveringReport
from panscape.metrics.rules import Rules, get_rules, require_same_rules
from panscape.metrics.semantic_iou import SemanticIoU, SemanticIoUReport
from panscape.metrics.tables import aligned, percent
from panscape.panoptic import PanopticMap

_ASKED = {
    "instances": ("average precision", "InstanceAP"),
    "instance_iou": ("instance-weighted IoU", "InstanceIoU"),
    "boundary": ("boundary quality", "BoundaryPanopticQuality"),
}
"""What is measured only if it is asked for, in the order in which it is reported, and who measures it."""


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """What an :class:`Evaluator` found; ``str()`` gives tables in percent.

    Attributes:
        panoptic: PQ, SQ and RQ.
        semantic: mean IoU.
        dagger: PQ-dagger.
        covering: parsing covering.
        instances: average precision of objects; None where it was not asked for.
        instance_iou: instance-weighted IoU, likewise.
        boundary: boundary quality, likewise.
    """

    panoptic: PanopticQualityReport
    semantic: SemanticIoUReport
    dagger: PanopticQualityDaggerReport
    covering: ParsingCoveringReport
    instances: InstanceAPReport | None = None
    instance_iou: InstanceIoUReport | None = None
    boundary: PanopticQualityReport | None = None

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """Return tables in percent: groups, then the categories that occur, then what else was asked for."""
        groups = [["", "PQ", "SQ", "RQ", "PQ†", "PC", "mIoU"]]
        for name in ("all", "things", "stuff"):
            quality = getattr(self.panoptic, name)
            shares = [quality.pq, quality.sq, quality.rq, getattr(self.dagger, name).pq]
            row = [percent(share) for share in (*shares, getattr(self.covering, name).covering)]
            mean_iou = percent(self.semantic.mean_iou) if name == "all" else ""
            groups.append([f"{name} ({quality.num_categories})", *row, mean_iou])
        categories = [["", "PQ", "SQ", "RQ", "TP", "FP", "FN", "PQ†", "PC", "IoU"]]
        for name, category in self.panoptic.per_category.items():
            iou = self.semantic.per_category[name].iou
            if category.num_segments or not math.isnan(iou):
                shares = [percent(share) for share in (category.pq, category.sq, category.rq)]
                counts = [str(count) for count in (category.tp, category.fp, category.fn)]
                others = (self.dagger.per_category[name].pq, self.covering.per_category[name].covering, iou)
                categories.append([name, *shares, *counts, *map(percent, others)])
        tables = [aligned(groups), aligned(categories)]
        if self.instances is not None:
            tables.append(self.instances.table())
        if self.instance_iou is not None:
            tables.append(self.instance_iou.table())
        if self.boundary is not None:
            tables.append(f"boundary quality\n{self.boundary.table()}")
        return "\n\n".join(tables)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts for JSON; None stands for nan."""
        parts = {
            "panoptic": self.panoptic.to_dict(),
            "semantic": self.semantic.to_dict(),
            "dagger": self.dagger.to_dict(),
            "covering": self.covering.to_dict(),
        }
        asked = {name: getattr(self, name) for name in _ASKED}
        return {**parts, **{name: report.to_dict() for name, report in asked.items() if report is not None}}


class Evaluator:
    """Accumulates PQ, PQ-dagger, parsing covering and mean IoU from one count of overlaps and one matching a picture.

    Attributes:
        panoptic: the accumulator of PQ.
        semantic: the accumulator of IoU.
        dagger: the accumulator of PQ-dagger.
        covering: the accumulator of parsing covering.
        instances: the accumulator of average precision, or None.
        instance_iou: the accumulator of instance-weighted IoU, or None.
        boundary: the accumulator of boundary quality, or None.
    """

    def __init__(
        self,
        labels: LabelSpace,
        rules: str | Rules = "coco",
        *,
        instances: InstanceAP | None = None,
        instance_iou: InstanceIoU | None = None,
        boundary: BoundaryPanopticQuality | None = None,
    ) -> None:
        """Start without pictures.

        Args:
            labels: the label space of predictions and truth.
            rules: of PQ and PQ-dagger: a name in :data:`~panscape.metrics.rules.RULES`, or rules of your own.
            instances: measures average precision, too; for predictions with scores, and memory grows with their number.
            instance_iou: measures instance-weighted IoU, too.
            boundary: measures boundary quality, too, which takes longer; by the same rules.

        Raises:
            UnknownNameError: no rules have this name.
            InvalidArgumentError: a metric has another label space, or that of boundaries other rules.
        """
        for metric, (what, _) in zip((instances, instance_iou, boundary), _ASKED.values(), strict=True):
            if metric is not None and metric.labels != labels:
                raise InvalidArgumentError(
                    f"expected {what} over the label space {labels.name!r}, got {metric.labels.name!r}; make both with "
                    "the same labels"
                )
        if boundary is not None:
            require_same_rules(get_rules(rules), boundary.rules)
        self.panoptic = PanopticQuality(labels, rules)
        self.semantic = SemanticIoU(labels)
        self.dagger = PanopticQualityDagger(labels, rules)
        self.covering = ParsingCovering(labels)
        self.instances = instances
        self.instance_iou = instance_iou
        self.boundary = boundary

    @property
    def states(self) -> dict[str, Tensor]:
        """The states of the accumulators by name; those of all processes add up. Average precision has none."""
        names = ("panoptic", "semantic", "dagger", "covering", "instance_iou", "boundary")
        metrics = {name: getattr(self, name) for name in names}
        return {name: metric.state for name, metric in metrics.items() if metric is not None}

    def update(self, prediction: PanopticMap, truth: PanopticMap) -> None:
        """Take one picture into account.

        Args:
            prediction: of the same size as ``truth``.
            truth: with its crowds, if any.

        Raises:
            InvalidArgumentError: the maps differ in size or have a category that the label space lacks, or the
                prediction has no scores and average precision is measured, or the truth has objects of a category
                without average size and instance-weighted IoU is measured. Nothing is counted then.
        """
        histogram = overlaps(prediction, truth)
        labels, rules = self.panoptic.labels, self.panoptic.rules
        # What asks for more than the others comes first.
        if self.instances is not None:
            self.instances.require_scores(prediction)
        for metric in (self.instance_iou, self.instances, self.boundary):
            if metric is not None:
                metric.update(prediction, truth, histogram)
        self.semantic.update(prediction, truth, histogram)  # before the matching, as it checks the categories
        matches = match_segments(prediction, truth, histogram, rules, labels.stuff_ids)
        self.panoptic.update(prediction, truth, histogram, matches)
        self.dagger.update(prediction, truth, histogram, matches)
        self.covering.update(prediction, truth, histogram)

    def merge(self, other: Evaluator) -> None:
        """Add the pictures of another evaluator to this one.

        Raises:
            InvalidArgumentError: it has another label space or other rules, or one of both lacks what the other
                measures besides or has other options of it. Nothing is added then.
        """
        require_same_labels(self.panoptic.labels, other.panoptic.labels)
        require_same_rules(self.panoptic.rules, other.panoptic.rules)
        pairs = [(getattr(self, name), getattr(other, name)) for name in _ASKED]
        for (mine, others), (what, kind) in zip(pairs, _ASKED.values(), strict=True):
            if (mine is None) != (others is None):
                raise InvalidArgumentError(
                    f"expected evaluators that both measure {what} or both do not; give each its own {kind}"
                )
            if mine is not None:
                mine.require_like(others)
        for mine, others in pairs:
            if mine is not None:
                mine.merge(others)
        self.panoptic.merge(other.panoptic)
        self.semantic.merge(other.semantic)
        self.dagger.merge(other.dagger)
        self.covering.merge(other.covering)

    def reset(self) -> None:
        """Forget all pictures."""
        for state in self.states.values():
            state.zero_()
        if self.instances is not None:
            self.instances.reset()

    def compute(self) -> EvaluationReport:
        """Report on all pictures so far."""
        return EvaluationReport(
            self.panoptic.compute(),
            self.semantic.compute(),
            self.dagger.compute(),
            self.covering.compute(),
            *(None if metric is None else metric.compute() for metric in (getattr(self, name) for name in _ASKED)),
        )


def create_evaluator(
    labels: LabelSpace,
    options: EvaluationOptions = DEFAULT_OPTIONS,
    rules: Rules | None = None,
) -> Evaluator:
    """Return an evaluator that measures what a command was asked for, each by the rules that are usual for the data.

    Args:
        labels: the label space of predictions and truth.
        options: what is measured, and by whose rules.
        rules: of panoptic quality, in place of those of the options.

    Raises:
        UnknownNameError: no rules have this name.
        InvalidArgumentError: ``ap_sizes`` for the label space of Cityscapes.
    """
    chosen = options.rules if rules is None else rules
    ap_rules = usual_ap_rules(labels)
    if options.ap_sizes and ap_rules != "coco":
        raise InvalidArgumentError(
            f"expected --ap-sizes for other data than {labels.name}, whose rules of average precision know no sizes; "
            "leave it out, or measure by the rules of COCO with InstanceAP(labels, percentiles=PERCENTILES)"
        )
    percentiles = PERCENTILES if options.ap_sizes else ()
    return Evaluator(
        labels,
        chosen,
        instances=InstanceAP(labels, ap_rules, percentiles=percentiles) if options.measures_ap else None,
        instance_iou=InstanceIoU(labels) if options.iiou else None,
        boundary=BoundaryPanopticQuality(labels, rules=chosen) if options.boundary else None,
    )
