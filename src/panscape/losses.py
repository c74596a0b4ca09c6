"""Losses: functions on tensors, defined for every input, the empty and the all-void ones too."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError


def hardest_cross_entropy(logits: Tensor, category: Tensor, weight: Tensor, fraction: float) -> Tensor:
    """Weighted cross entropy averaged over the hardest pixels (DeepLab's hard-pixel mining).

    Pixels without category cost nothing but count: the mean is taken over ``int(fraction * N)`` of all ``N`` pixels of
    the batch, as the published Panoptic-DeepLab and Panoptic SwiftNet code does.

    Args:
        logits: float [B, K, H, W].
        category: int64 [B, H, W], category id + 1; 0 is void.
        weight: float [B, H, W].
        fraction: share of pixels in the mean, in (0, 1]; at least one pixel is taken.
    """
    # cross_entropy counts categories from 0, so void becomes -1 here and nowhere else.
    cost = F.cross_entropy(logits, category - 1, ignore_index=-1, reduction="none") * weight
    cost = cost.flatten()
    if fraction >= 1:
        return cost.mean()
    return torch.topk(cost, max(1, int(fraction * cost.numel())), sorted=False).values.mean()


def weighted_squared_error(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Squared error averaged with weights; 0, with a gradient path, where all weights are 0.

    Args:
        prediction: float [B, H, W].
        target: of the same shape.
        weight: of the same shape, not negative.
    """
    return ((prediction - target).square() * weight).sum() / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)


def weighted_absolute_error(
    prediction: Tensor, target: Tensor, weight: Tensor, divisor: Literal["weights", "pixels"] = "weights"
) -> Tensor:
    """Sum over channels of the absolute error, averaged over pixels; 0, with a gradient path, where all weights are 0.

    Args:
        prediction: float [B, C, H, W].
        target: of the same shape.
        weight: float [B, H, W], not negative.
        divisor: "weights" divides by the sum of the weights (one per pixel, not per channel: the published code);
            "pixels" divides by the number of pixels (Panoptic SwiftNet, Equation 1).

    Raises:
        InvalidArgumentError: another divisor.
    """
    if divisor not in ("weights", "pixels"):
        raise InvalidArgumentError(f'expected divisor "weights" or "pixels", got {divisor!r}')
    total = ((prediction - target).abs().sum(dim=1) * weight).sum()
    if divisor == "pixels":
        return total / weight.numel()
    return total / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
