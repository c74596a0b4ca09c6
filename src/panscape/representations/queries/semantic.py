"""Semantic segmentation from queries (MaskFormer, Section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor

from panscape.geometry import ImageGeometry
from panscape.ops.interpolate import finite_values, upsample

_QUERIES_AT_ONCE = 8  # of the size of the image


def semantic_categories(category_logits: Tensor, mask_logits: Tensor, geometry: ImageGeometry) -> Tensor:
    """Return the category with the largest sum over queries of its probability times that of the mask.

    As published, logits of masks are upsampled, and "no object" is left out. Ties go to the first category.

    Args:
        category_logits: of the queries of one image, float [Q, C + 1].
        mask_logits: float [Q, h, w], which cover the padded input.
        geometry: sizes of the image.

    Returns:
        int64 [H, W] of the image's size.
    """
    prob = finite_values(category_logits).softmax(dim=1)[:, :-1]
    scores = prob.new_zeros(prob.shape[1], geometry.size.area)
    parts = (torch.split(t, _QUERIES_AT_ONCE) for t in (prob, mask_logits))
    for some, planes in zip(*parts, strict=True):
        masks = upsample(finite_values(planes), geometry.padded_size, geometry.inference_size, align_corners=False)
        if geometry.is_resized:
            masks = upsample(masks, geometry.size, geometry.size, align_corners=False)
        scores.addmm_(some.T, masks.sigmoid().flatten(1))
    return scores.argmax(dim=0).view(geometry.size)
