"""Which metrics are computed of predictions in files, together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from panscape.kernels.joint_histogram import JointHistogram
from panscape.labels import LabelSpace
from panscape.metrics.boundary_quality import BoundaryPanopticQuality
from panscape.metrics.matching import SegmentMatches
from panscape.metrics.panoptic_quality import PanopticQuality
from panscape.metrics.panoptic_quality_dagger import PanopticQualityDagger
from panscape.metrics.parsing_covering import ParsingCovering
from panscape.metrics.rules import Rules
from panscape.metrics.semantic_iou import SemanticIoU
from panscape.panoptic import PanopticMap


@dataclass(frozen=True, slots=True)
class ScoreReports:
    """The reports of all metrics; ``str()`` gives their tables.

    Attributes:
        by_metric: "panoptic", "dagger", "covering", "semantic" and, if asked for, "boundary".
    """

    by_metric: Mapping[str, Any]

    def __getitem__(self, metric: str) -> Any:
        return self.by_metric[metric]

    def __str__(self) -> str:
        titles = {"boundary": "boundary quality\n"}
        return "\n\n".join(f"{titles.get(name, '')}{report}" for name, report in self.by_metric.items())

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts for JSON; None stands for nan."""
        return {metric: report.to_dict() for metric, report in self.by_metric.items()}


class ScoreMetrics:
    """The accumulators of all metrics, fed from one count of overlaps a picture.

    Args:
        labels: the label space of predictions and truth.
        rules: of panoptic quality.
        boundary: also compute boundary quality.
    """

    def __init__(self, labels: LabelSpace, rules: Rules, *, boundary: bool = False) -> None:
        self._matched: dict[str, PanopticQuality | PanopticQualityDagger] = {
            "panoptic": PanopticQuality(labels, rules),
            "dagger": PanopticQualityDagger(labels, rules),
        }
        self._others: dict[str, ParsingCovering | SemanticIoU | BoundaryPanopticQuality] = {
            "covering": ParsingCovering(labels),
            "semantic": SemanticIoU(labels),
        }
        if boundary:
            self._others["boundary"] = BoundaryPanopticQuality(labels)

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
        for matched in self._matched.values():
            matched.update(prediction, truth, histogram, matches)
        for other in self._others.values():
            other.update(prediction, truth, histogram)

    def add(self, other: ScoreMetrics) -> None:
        """Add pictures that were judged by the same rules, or by stricter ones because files were in doubt."""
        for name, metric in (self._matched | self._others).items():
            metric.state += (other._matched | other._others)[name].state

    def compute(self) -> ScoreReports:
        """Report on all pictures so far."""
        return ScoreReports({name: metric.compute() for name, metric in (self._matched | self._others).items()})
