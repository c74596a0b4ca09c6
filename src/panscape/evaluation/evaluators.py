"""Create the evaluator for evaluation options."""

from __future__ import annotations

from panscape.evaluation.options import DEFAULT_OPTIONS, EvaluationOptions
from panscape.labels import LabelSpace
from panscape.metrics.boundary_quality import BoundaryPanopticQuality
from panscape.metrics.evaluator import Evaluator
from panscape.metrics.instance_ap import InstanceAP, default_ap_protocol
from panscape.metrics.instance_iou import InstanceIoU
from panscape.metrics.object_sizes import PERCENTILES
from panscape.metrics.panoptic_quality import PanopticQuality
from panscape.metrics.protocol import PROTOCOLS, Protocol, get_protocol
from panscape.metrics.semantic_iou import SemanticIoU


def create_evaluator(
    labels: LabelSpace,
    options: EvaluationOptions = DEFAULT_OPTIONS,
    protocol: Protocol | None = None,
    *,
    has_head: bool = False,
    has_detections: bool = False,
) -> Evaluator:
    """Return an evaluator for the requested metrics, each with the usual protocol for the data.

    Beside the PQ of another protocol, standard PQ is evaluated, too.

    Args:
        labels: the label space of predictions and truth.
        options: the metrics and the protocol.
        protocol: of panoptic quality; replaces that of the options.
        has_head: whether a semantic head is also evaluated.
        has_detections: whether objects before fusion are also evaluated if average precision is.

    Raises:
        UnknownNameError: no protocol has this name.
    """
    chosen = options.protocol if protocol is None else protocol
    is_standard = get_protocol(options.protocol) == PROTOCOLS["coco"]
    ap_protocol = default_ap_protocol(labels)
    percentiles = PERCENTILES if options.ap_sizes else ()
    counts_detections = options.measures_ap and has_detections
    return Evaluator(
        labels,
        chosen,
        standard=None if is_standard else PanopticQuality(labels),
        semantic_head=SemanticIoU(labels) if has_head else None,
        instances=InstanceAP(labels, ap_protocol, percentiles=percentiles) if options.measures_ap else None,
        instances_before_fusion=InstanceAP(labels, ap_protocol, percentiles=percentiles) if counts_detections else None,
        instance_iou=InstanceIoU(labels) if options.iiou else None,
        instance_iou_head=InstanceIoU(labels) if options.iiou and has_head else None,
        boundary=BoundaryPanopticQuality(labels, protocol=chosen) if options.boundary else None,
    )
