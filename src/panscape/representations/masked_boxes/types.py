"""Outputs of networks that detect boxes at anchors and fill them with masks."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class MaskedBoxOutputs(NamedTuple):
    """Network outputs for a padded input [H, W].

    An image with fewer than D masks has empty boxes at the end, whose other values have no meaning. Boxes are xyxy in
    pixels of the input. In training, when the network receives the targets, boxes of masks are sampled by
    :meth:`MaskedBoxRepresentation.sample_mask_boxes`; else they are detections.

    Attributes:
        semantic: category logits, float [B, K, h, w], at any stride.
        detector: logits of all anchors as :func:`~panscape.ops.yolo_boxes.flatten_logits` returns them, float
            [B, N, 5 + C]: x, y, width, height, objectness, and the detector's categories.
        mask_boxes: the boxes of masks, float [B, D, 4].
        mask_category: thing of each mask, an index into ``labels.thing_ids``, int64 [B, D].
        mask_score: objectness times the category's probability, float [B, D].
        mask_objectness: objectness, float [B, D].
        masks: logits of the cells of each box, float [B, D, M, M].
    """

    semantic: Tensor
    detector: Tensor
    mask_boxes: Tensor
    mask_category: Tensor
    mask_score: Tensor
    mask_objectness: Tensor
    masks: Tensor
