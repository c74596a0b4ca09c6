"""How good predictions are: accumulators that take a predicted and a true map at a time and report in the end."""

from panscape.metrics.evaluator import EvaluationReport, Evaluator
from panscape.metrics.overlaps import overlaps
from panscape.metrics.panoptic_quality import (
    CategoryQuality,
    GroupQuality,
    PanopticQuality,
    PanopticQualityReport,
    SegmentMatches,
    match_segments,
)
from panscape.metrics.parsing_covering import (
    CategoryCovering,
    GroupCovering,
    ParsingCovering,
    ParsingCoveringReport,
    SegmentCoverings,
    cover_segments,
)
from panscape.metrics.semantic_iou import CategoryIoU, SemanticIoU, SemanticIoUReport, count_confusion

__all__ = [
    "CategoryCovering",
    "CategoryIoU",
    "CategoryQuality",
    "EvaluationReport",
    "Evaluator",
    "GroupCovering",
    "GroupQuality",
    "PanopticQuality",
    "PanopticQualityReport",
    "ParsingCovering",
    "ParsingCoveringReport",
    "SegmentCoverings",
    "SegmentMatches",
    "SemanticIoU",
    "SemanticIoUReport",
    "count_confusion",
    "cover_segments",
    "match_segments",
    "overlaps",
]
