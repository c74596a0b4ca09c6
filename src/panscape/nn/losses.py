"""Losses: functions on tensors, defined for every input, also for empty and all-void ones."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any, Literal, cast

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError


def safe_divide(total: Tensor, divisor: Tensor) -> Tensor:
    """Divide a weighted sum by the sum of its weights; where that is 0, the result and its gradient are exactly 0.

    Clamping the divisor to the smallest positive number gives 0 as well, but its gradient is infinity times 0, which
    is NaN.

    Args:
        total: 0, with a gradient path, where ``divisor`` is 0.
        divisor: of the same shape, not negative.
    """
    return total / torch.where(divisor > 0, divisor, 1.0)


def ohem_cross_entropy(logits: Tensor, category: Tensor, weight: Tensor, fraction: float) -> Tensor:
    """Weighted cross entropy averaged over the hardest pixels (OHEM; DeepLab's hard-pixel mining).

    Void pixels have a loss of 0 but are counted: the mean is taken over ``int(fraction * N)`` of all ``N`` pixels of
    the batch, as in the published code of Panoptic-DeepLab and Panoptic SwiftNet.

    Args:
        logits: float [B, K, H, W].
        category: int64 [B, H, W], category id + 1; 0 is void.
        weight: float [B, H, W].
        fraction: share of pixels in the mean, in (0, 1]; at least one pixel is used.
    """
    # cross_entropy numbers categories from 0, so void becomes -1 here and nowhere else.
    cost = F.cross_entropy(logits, category - 1, ignore_index=-1, reduction="none") * weight
    cost = cost.flatten()
    if fraction >= 1:
        return cost.mean()
    return torch.topk(cost, max(1, int(fraction * cost.numel())), sorted=False).values.mean()


def weighted_mse_loss(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean squared error; 0 with a gradient path if all weights are 0.

    Args:
        prediction: float [B, H, W].
        target: of the same shape.
        weight: of the same shape, not negative.
    """
    return safe_divide(((prediction - target).square() * weight).sum(), weight.sum())


def weighted_l1_loss(
    prediction: Tensor, target: Tensor, weight: Tensor, divisor: Literal["weights", "pixels"] = "weights"
) -> Tensor:
    """Absolute error summed over channels, weighted mean over pixels; 0 with a gradient path if all weights are 0.

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
    return safe_divide(total, weight.sum())


def ohem_cross_entropy_per_image(
    logits: Tensor, category: Tensor, fraction: float, category_weights: Sequence[float] = ()
) -> Tensor:
    """Cross entropy over the hardest pixels of each image, averaged over images (Wu et al., arXiv 1605.06885).

    Void pixels do not count. Of the ``n`` other pixels, the ``ceil(fraction * n)`` with the largest cross entropy,
    multiplied by their category's weight, are averaged. An all-void image has a loss of 0 with a gradient path.

    Args:
        logits: float [B, K, H, W].
        category: int64 [B, H, W], category id + 1; 0 is void.
        fraction: share of pixels in the mean, in (0, 1].
        category_weights: above 0, one for each category; if empty, all are 1.
    """
    weight = logits.new_tensor(category_weights) if category_weights else None
    costs = F.cross_entropy(logits, category - 1, weight, ignore_index=-1, reduction="none").flatten(1)
    means = []
    for cost, num in zip(costs, (category > 0).flatten(1).sum(1).tolist(), strict=True):
        # Void pixels have a loss of 0, the minimum: they are selected only where the other losses are 0 as well.
        hardest = torch.topk(cost, ceil(fraction * num), sorted=False).values
        means.append(hardest.sum() / max(len(hardest), 1))
    return torch.stack(means).mean()


def sigmoid_focal_loss(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Elementwise focal loss (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, Equation 5).

    Args:
        logits: float, of any shape.
        target: 0 or 1, float of the same shape.
        alpha: weight of target 1; target 0 has one minus that.
        gamma: focusing exponent, which reduces the weight of well classified elements.
    """
    from torchvision import ops

    focal: Any = ops.sigmoid_focal_loss
    return cast(Tensor, focal(logits, target, alpha=alpha, gamma=gamma, reduction="none"))


def dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Dice loss ``1 - (2 I + 1) / (P + M + 1)`` (Milletari et al., V-Net, 3DV 2016; with the smoothing of MaskFormer).

    Args:
        logits: float [N, P], over the P pixels of each mask; ``P`` is the sum of their probabilities.
        mask: 0 or 1, float of the same shape; ``M`` is their sum, and ``I`` that of probabilities inside the mask.

    Returns:
        float [N].
    """
    prob = logits.sigmoid()
    return 1 - (2 * (prob * mask).sum(dim=1) + 1) / (prob.sum(dim=1) + mask.sum(dim=1) + 1)


def ltrb_iou_loss(prediction: Tensor, target: Tensor, kind: Literal["iou", "giou"]) -> Tensor:
    """IoU loss of boxes given by the distances from a common point to their sides (left, top, right, bottom).

    "iou" is ``-ln((I + 1) / (U + 1))`` of intersection and union in square pixels (UnitBox, Yu et al., MM 2016, with
    the smoothing of FCOS's published code, which keeps the loss of empty boxes finite); "giou" is one minus the
    generalized IoU (Rezatofighi et al., CVPR 2019).

    Args:
        prediction: distances to the left, top, right and bottom side in pixels, not negative, float [N, 4].
        target: of the same shape.
        kind: "iou" or "giou".

    Returns:
        float [N].

    Raises:
        InvalidArgumentError: another kind.
    """
    if kind not in ("iou", "giou"):
        raise InvalidArgumentError(f'expected kind "iou" or "giou", got {kind!r}')
    if kind == "giou":
        from torchvision import ops

        giou: Any = ops.generalized_box_iou_loss
        signs = prediction.new_tensor([-1, -1, 1, 1])  # the boxes around a point at 0
        return cast(Tensor, giou(prediction * signs, target * signs, reduction="none"))
    common = torch.minimum(prediction, target)
    intersection, area, other = (
        (box[:, 0] + box[:, 2]) * (box[:, 1] + box[:, 3]) for box in (common, prediction, target)
    )
    return torch.log(area + other - intersection + 1) - torch.log(intersection + 1)


def global_normalizers(counts: Tensor) -> Tensor:
    """Average the counts by which losses are divided over all processes, so that losses do not depend on sharding.

    Distributed training averages the gradients of its processes. A loss divided by this process's count would weigh
    each object by the number of other objects in its process. Divided by the mean count of all processes, the averaged
    gradient is that of one process with the whole batch. All processes must call this equally often.

    Args:
        counts: counts of this process, [N].

    Returns:
        float32 [N]: the sums over processes, at least 1, divided by the number of processes.
    """
    total, num_processes = counts.double(), 1
    if distributed.is_available() and distributed.is_initialized():
        num_processes = distributed.get_world_size()
        distributed.all_reduce(total)
    return (total.clamp_min(1) / num_processes).float()
