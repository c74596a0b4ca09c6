"""Masks of boxes as combinations of prototypes, which all boxes of an image share.

Bolya et al., "YOLACT: Real-time Instance Segmentation" (ICCV 2019), Section 3. Ours: the probability of the box's
category is one more prototype, as in YOLO-based panoptic segmentation (``panscape.nn.mask_heads``); and
planes are pooled to the cells of each box by RoIAlign before the sigmoid, instead of cropped after it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from panscape.nn.region_pooling import align_regions

_SAMPLES = 2  # values along each side of a cell


def prototype_masks(
    prototypes: Tensor,
    semantic: Tensor,
    coefficients: Tensor,
    boxes: Tensor,
    category: Tensor,
    *,
    stride: int,
    num_cells: int,
) -> Tensor:
    """Return the masks of boxes as logits of their cells, float32 [B, D, M, M].

    Combination and pooling are linear, so a single plane is pooled for each box.

    Args:
        prototypes: float [B, P, h, w].
        semantic: category logits of the same size, float [B, K, h, w]; they receive gradients.
        coefficients: of the prototypes, then of the probability of the category, from -1 to 1, float [B, D, P + 1].
        boxes: xyxy in pixels of the input, float [B, D, 4].
        category: channel of each box's category in ``semantic``, int64 [B, D].
        stride: of the prototypes.
        num_cells: M.
    """
    batch, num, _ = boxes.shape
    height, width = prototypes.shape[-2:]
    planes = coefficients[..., :-1] @ prototypes.flatten(2)
    prob = 2 * semantic.float().softmax(dim=1).flatten(2) - 1
    image = torch.arange(batch, device=prob.device)[:, None]
    planes = planes.float() + coefficients[..., -1:].float() * prob[image, category]
    # One image of one channel for each box.
    whole = planes.reshape(batch * num, 1, height, width)
    own = torch.arange(batch * num, device=prob.device)
    cells = align_regions(whole, stride, boxes.flatten(0, 1), own, num_cells, _SAMPLES)
    return cells.reshape(batch, num, num_cells, num_cells)
