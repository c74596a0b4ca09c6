"""All metrics in one pass over each picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from panscape.labels import LabelSpace
from panscape.metrics.overlaps import overlaps
from panscape.metrics.panoptic_quality import PanopticQuality, PanopticQualityReport
from panscape.metrics.semantic_iou import SemanticIoU, SemanticIoUReport
from panscape.panoptic import PanopticMap


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """What an :class:`Evaluator` found; ``str()`` gives tables in percent.

    Attributes:
        panoptic: PQ, SQ and RQ.
        semantic: mean IoU.
    """

    panoptic: PanopticQualityReport
    semantic: SemanticIoUReport

    def __str__(self) -> str:
        return f"{self.panoptic}\n\n{self.semantic}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts for JSON; None stands for nan."""
        return {"panoptic": self.panoptic.to_dict(), "semantic": self.semantic.to_dict()}


class Evaluator:
    """Accumulates panoptic quality and semantic IoU from one count of overlaps a picture.

    Attributes:
        panoptic: the accumulator of PQ.
        semantic: the accumulator of IoU.
    """

    def __init__(self, labels: LabelSpace) -> None:
        """Start without pictures.

        Args:
            labels: the label space of predictions and truth.
        """
        self.panoptic = PanopticQuality(labels)
        self.semantic = SemanticIoU(labels)

    def update(self, prediction: PanopticMap, truth: PanopticMap) -> None:
        """Take one picture into account.

        Args:
            prediction: of the same size as ``truth``.
            truth: with its crowds, if any.

        Raises:
            InvalidArgumentError: the maps differ in size or have a category that the label space lacks.
        """
        histogram = overlaps(prediction, truth)
        self.panoptic.update(prediction, truth, histogram)
        self.semantic.update(prediction, truth, histogram)

    def merge(self, other: Evaluator) -> None:
        """Add the pictures of another evaluator to this one.

        Raises:
            InvalidArgumentError: it has another label space.
        """
        self.panoptic.merge(other.panoptic)
        self.semantic.merge(other.semantic)

    def reset(self) -> None:
        """Forget all pictures."""
        self.panoptic.reset()
        self.semantic.reset()

    def compute(self) -> EvaluationReport:
        """Report on all pictures so far."""
        return EvaluationReport(self.panoptic.compute(), self.semantic.compute())
