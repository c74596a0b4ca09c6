"""Semantic segmentation from queries (MaskFormer, Section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor

from panscape.geometry import ImageGeometry
from panscape.ops.interpolate import finite_values
from panscape.representations.queries.assign import resized_bands

_ELEMENTS_AT_ONCE = 2**24  # of masks at the size of the image


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
    bands = resized_bands(mask_logits, geometry, _ELEMENTS_AT_ONCE)
    return torch.cat([torch.einsum("qc,qhw->chw", prob, band.sigmoid()).argmax(dim=0) for band in bands])
