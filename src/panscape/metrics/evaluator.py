"""All metrics in one pass over each picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.metrics.instance_ap import InstanceAP, InstanceAPReport
from panscape.metrics.matching import match_segments
from panscape.metrics.overlaps import overlaps, require_same_labels
from panscape.metrics.panoptic_quality import PanopticQuality, PanopticQualityReport
from panscape.metrics.panoptic_quality_dagger import PanopticQualityDagger, PanopticQualityDaggerReport
from panscape.metrics.parsing_covering import ParsingCovering, ParsingCoveringReport
from panscape.metrics.rules import Rules, require_same_rules
from panscape.metrics.semantic_iou import SemanticIoU, SemanticIoUReport
from panscape.metrics.tables import aligned, percent
from panscape.panoptic import PanopticMap


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """What an :class:`Evaluator` found; ``str()`` gives tables in percent.

    Attributes:
        panoptic: PQ, SQ and RQ.
        semantic: mean IoU.
        dagger: PQ-dagger.
        covering: parsing covering.
        instances: average precision of objects; None where it was not asked for.
    """

    panoptic: PanopticQualityReport
    semantic: SemanticIoUReport
    dagger: PanopticQualityDaggerReport
    covering: ParsingCoveringReport
    instances: InstanceAPReport | None = None

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """Return tables in percent: groups, then the categories that occur, then average precision if there is any."""
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
        return "\n\n".join(tables)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts for JSON; None stands for nan."""
        parts = {
            "panoptic": self.panoptic.to_dict(),
            "semantic": self.semantic.to_dict(),
            "dagger": self.dagger.to_dict(),
            "covering": self.covering.to_dict(),
        }
        return parts if self.instances is None else {**parts, "instances": self.instances.to_dict()}


class Evaluator:
    """Accumulates PQ, PQ-dagger, parsing covering and mean IoU from one count of overlaps and one matching a picture.

    Attributes:
        panoptic: the accumulator of PQ.
        semantic: the accumulator of IoU.
        dagger: the accumulator of PQ-dagger.
        covering: the accumulator of parsing covering.
        instances: the accumulator of average precision, or None.
    """

    def __init__(self, labels: LabelSpace, rules: str | Rules = "coco", *, instances: InstanceAP | None = None) -> None:
        """Start without pictures.

        Args:
            labels: the label space of predictions and truth.
            rules: of PQ and PQ-dagger: a name in :data:`~panscape.metrics.rules.RULES`, or rules of your own.
            instances: measures average precision, too; for predictions with scores, and memory grows with their number.

        Raises:
            UnknownNameError: no rules have this name.
            InvalidArgumentError: ``instances`` has another label space.
        """
        if instances is not None and instances.labels != labels:
            raise InvalidArgumentError(
                f"expected average precision over the label space {labels.name!r}, got {instances.labels.name!r}; make "
                "both with the same labels"
            )
        self.panoptic = PanopticQuality(labels, rules)
        self.semantic = SemanticIoU(labels)
        self.dagger = PanopticQualityDagger(labels, rules)
        self.covering = ParsingCovering(labels)
        self.instances = instances

    @property
    def states(self) -> dict[str, Tensor]:
        """The states of the accumulators by name; those of all processes add up. Average precision has none."""
        names = ("panoptic", "semantic", "dagger", "covering")
        return {name: getattr(self, name).state for name in names}

    def update(self, prediction: PanopticMap, truth: PanopticMap) -> None:
        """Take one picture into account.

        Args:
            prediction: of the same size as ``truth``.
            truth: with its crowds, if any.

        Raises:
            InvalidArgumentError: the maps differ in size or have a category that the label space lacks, or the
                prediction has no scores and average precision is measured. Nothing is counted then.
        """
        histogram = overlaps(prediction, truth)
        labels, rules = self.panoptic.labels, self.panoptic.rules
        if self.instances is not None:  # the first, as no other asks for scores
            self.instances.update(prediction, truth, histogram)
        self.semantic.update(prediction, truth, histogram)  # before the matching, as it checks the categories
        matches = match_segments(prediction, truth, histogram, rules, labels.stuff_ids)
        self.panoptic.update(prediction, truth, histogram, matches)
        self.dagger.update(prediction, truth, histogram, matches)
        self.covering.update(prediction, truth, histogram)

    def merge(self, other: Evaluator) -> None:
        """Add the pictures of another evaluator to this one.

        Raises:
            InvalidArgumentError: it has another label space or other rules, or one of both lacks average precision or
                has other options of it. Nothing is added then.
        """
        if (self.instances is None) != (other.instances is None):
            raise InvalidArgumentError(
                "expected evaluators that both measure average precision or both do not; give each its own InstanceAP"
            )
        require_same_labels(self.panoptic.labels, other.panoptic.labels)
        require_same_rules(self.panoptic.rules, other.panoptic.rules)
        if self.instances is not None and other.instances is not None:
            self.instances.merge(other.instances)  # the first, as the others cannot refuse any more
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
            None if self.instances is None else self.instances.compute(),
        )
