"""Which metrics are computed of predictions in files, together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from panscape.kernels.joint_histogram import JointHistogram
from panscape.labels import LabelSpace
from panscape.metrics.boundary_quality import BoundaryPanopticQuality
from panscape.metrics.evaluator import EvaluationReport, Evaluator
from panscape.metrics.instance_ap import InstanceAP
from panscape.metrics.matching import SegmentMatches
from panscape.metrics.panoptic_quality import PanopticQualityReport
from panscape.metrics.rules import Rules
from panscape.panoptic import PanopticMap


@dataclass(frozen=True, slots=True)
class ScoreReports:
    """The reports of all metrics; ``str()`` gives tables in percent.

    Attributes:
        evaluation: PQ, PQ-dagger, parsing covering, mean IoU, and average precision if it was asked for.
        boundary: boundary quality; None where it was not asked for.
    """

    evaluation: EvaluationReport
    boundary: PanopticQualityReport | None = None

    def __str__(self) -> str:
        boundary = "" if self.boundary is None else f"\n\nboundary quality\n{self.boundary}"
        return f"{self.evaluation}{boundary}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts for JSON; None stands for nan."""
        boundary = {} if self.boundary is None else {"boundary": self.boundary.to_dict()}
        return {**self.evaluation.to_dict(), **boundary}


class ScoreMetrics:
    """The accumulators of all metrics, fed from one count of overlaps and one matching a picture.

    Args:
        labels: the label space of predictions and truth.
        rules: of panoptic quality.
        boundary: also compute boundary quality.
        ap: also compute the average precision of objects: by the rules of Cityscapes for its label space, else by those
            of COCO.
    """

    def __init__(self, labels: LabelSpace, rules: Rules, *, boundary: bool = False, ap: bool = False) -> None:
        instances = InstanceAP(labels, "cityscapes" if labels.name == "cityscapes" else "coco") if ap else None
        self._evaluator = Evaluator(labels, rules, instances=instances)
        self._boundary = BoundaryPanopticQuality(labels) if boundary else None

    def update(
        self, prediction: PanopticMap, truth: PanopticMap, histogram: JointHistogram, matches: SegmentMatches
    ) -> None:
        """Take one picture into account.

        Args:
            prediction: of the same size as ``truth``.
            truth: with its crowds, if any.
            histogram: of both.
            matches: of both, by the rules.
        """
        evaluator = self._evaluator
        evaluator.panoptic.update(prediction, truth, histogram, matches)
        evaluator.dagger.update(prediction, truth, histogram, matches)
        for metric in (evaluator.semantic, evaluator.covering, evaluator.instances, self._boundary):
            if metric is not None:
                metric.update(prediction, truth, histogram)

    def add(self, other: ScoreMetrics) -> None:
        """Add pictures that were judged by the same rules, or by stricter ones because files were in doubt."""
        for name, state in self._evaluator.states.items():
            state += other._evaluator.states[name]
        if self._evaluator.instances is not None and other._evaluator.instances is not None:
            self._evaluator.instances.merge(other._evaluator.instances)
        if self._boundary is not None and other._boundary is not None:
            self._boundary.merge(other._boundary)

    def compute(self) -> ScoreReports:
        """Report on all pictures so far."""
        return ScoreReports(self._evaluator.compute(), None if self._boundary is None else self._boundary.compute())
