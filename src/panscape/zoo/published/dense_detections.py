"""Tensor names in the authors' checkpoint of dense detections, and its input normalisation and norms."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from panscape.models.dense_detections import DenseDetections
from panscape.nn.frozen_batch_norm import frozen_norms


def dense_detections_key(found: Mapping[str, Tensor]) -> Callable[[str], str]:
    """Return the function that maps our names to those of the authors of dense detections.

    Newer versions of torchvision use other names for layers of the FPN; files with either style are supported.
    """
    unit = ".0" if any(name.startswith("backbone.fpn.inner_blocks.0.0.") for name in found) else ""
    pyramid = {"laterals": "inner_blocks", "outputs": "layer_blocks"}
    coarser = ("p6", "p7")
    head = {
        "location_tower": "bbox_tower",
        "semantic_tower": "cls_tower",
        "semantic": "cls_logits",
        "box_category": "box_cls_logits",
        "box": "bbox_pred",
    }

    def key(name: str) -> str:
        top, part, *rest = name.split(".")
        if top == "backbone":
            return ".".join(["backbone.body", part, *rest])
        if top == "head":
            leaf = ["scale"] if part == "scales" else []
            return ".".join(["panoptic_head", head.get(part, part), *rest, *leaf])
        index, leaf_name = rest
        if part in pyramid:
            return f"backbone.fpn.{pyramid[part]}.{index}{unit}.{leaf_name}"
        block = coarser[int(index)] if int(index) < len(coarser) else f"p{6 + int(index)}"
        return f"backbone.fpn.extra_blocks.{block}.{leaf_name}"

    return key


def use_released_normalization(model: DenseDetections) -> None:
    """Set the input normalisation and the epsilon of frozen norms to those of the released network.

    Its configuration uses Caffe's normalisation, and the torchvision of its time added nothing to the variances.
    """
    model.set_input_normalization("caffe")
    for norm in frozen_norms(model.backbone):
        norm.eps = 0.0  # type: ignore[assignment]
    model.respecify(compat="released")
