"""Metrics: accumulators that are updated with the predicted and the true map of each image and compute a report."""

from panscape.metrics.boundary_quality import BoundaryPanopticQuality, boundary_distance, match_boundaries
from panscape.metrics.error_breakdown import ErrorBreakdown, ErrorImpact, ErrorReport, SizeQuality
from panscape.metrics.error_types import NEAR_IOU, NO_ERROR, SIZE_NAMES, ErrorType, SegmentErrors, find_errors
from panscape.metrics.evaluator import EvaluationReport, Evaluator
from panscape.metrics.gpu_evaluator import GpuEvaluator
from panscape.metrics.instance_ap import CategoryAP, InstanceAP, InstanceAPReport, SizeAP
from panscape.metrics.instance_ap_cityscapes import cityscapes_precision
from panscape.metrics.instance_ap_coco import CocoCurves, coco_curves
from panscape.metrics.instance_iou import (
    CITYSCAPES_AVERAGE_SIZES,
    CategoryInstanceIoU,
    InstanceIoU,
    InstanceIoUReport,
    ObjectPixels,
    average_sizes,
    count_object_pixels,
)
from panscape.metrics.matching import SegmentMatches, match_segments
from panscape.metrics.object_sizes import COCO_SIZES, PERCENTILES, object_areas, size_percentiles
from panscape.metrics.overlaps import overlaps
from panscape.metrics.panoptic_quality import (
    CategoryQuality,
    GroupQuality,
    PanopticQuality,
    PanopticQualityReport,
)
from panscape.metrics.panoptic_quality_dagger import (
    CategoryQualityDagger,
    GroupQualityDagger,
    PanopticQualityDagger,
    PanopticQualityDaggerReport,
    stuff_iou,
)
from panscape.metrics.parsing_covering import (
    CategoryCovering,
    GroupCovering,
    ParsingCovering,
    ParsingCoveringReport,
    SegmentCoverings,
    cover_segments,
)
from panscape.metrics.protocol import PROTOCOLS, Protocol
from panscape.metrics.semantic_iou import CategoryIoU, SemanticIoU, SemanticIoUReport, count_confusion, map_of_semantic
from panscape.metrics.summary_row import SUMMARY_COLUMNS, summary_row
from panscape.metrics.thing_overlaps import ThingOverlaps, mask_overlaps, thing_overlaps

__all__ = [
    "CITYSCAPES_AVERAGE_SIZES",
    "COCO_SIZES",
    "NEAR_IOU",
    "NO_ERROR",
    "PERCENTILES",
    "PROTOCOLS",
    "SIZE_NAMES",
    "SUMMARY_COLUMNS",
    "BoundaryPanopticQuality",
    "CategoryAP",
    "CategoryCovering",
    "CategoryInstanceIoU",
    "CategoryIoU",
    "CategoryQuality",
    "CategoryQualityDagger",
    "CocoCurves",
    "ErrorBreakdown",
    "ErrorImpact",
    "ErrorReport",
    "ErrorType",
    "EvaluationReport",
    "Evaluator",
    "GpuEvaluator",
    "GroupCovering",
    "GroupQuality",
    "GroupQualityDagger",
    "InstanceAP",
    "InstanceAPReport",
    "InstanceIoU",
    "InstanceIoUReport",
    "ObjectPixels",
    "PanopticQuality",
    "PanopticQualityDagger",
    "PanopticQualityDaggerReport",
    "PanopticQualityReport",
    "ParsingCovering",
    "ParsingCoveringReport",
    "Protocol",
    "SegmentCoverings",
    "SegmentErrors",
    "SegmentMatches",
    "SemanticIoU",
    "SemanticIoUReport",
    "SizeAP",
    "SizeQuality",
    "ThingOverlaps",
    "average_sizes",
    "boundary_distance",
    "cityscapes_precision",
    "coco_curves",
    "count_confusion",
    "count_object_pixels",
    "cover_segments",
    "find_errors",
    "map_of_semantic",
    "mask_overlaps",
    "match_boundaries",
    "match_segments",
    "object_areas",
    "overlaps",
    "size_percentiles",
    "stuff_iou",
    "summary_row",
    "thing_overlaps",
]
