"""Losses of networks that classify masks (Cheng et al., MaskFormer, arXiv 2107.06278, Section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from panscape.nn.losses import dice_loss, global_normalizers, sigmoid_focal_loss
from panscape.representations.queries.encode import QueryTargets

_PIXELS_AT_ONCE = 2**24


class QueryLosses(NamedTuple):
    """Losses of each decoder layer, not weighted, float [L] each."""

    category: Tensor
    focal: Tensor
    dice: Tensor


def query_losses(
    layers: Sequence[tuple[Tensor, Tensor]], targets: QueryTargets, matched: Tensor, no_object_weight: float
) -> QueryLosses:
    """Compare the outputs of each decoder layer with the masks that its queries are assigned to.

    Mask losses are summed over masks and divided by the number of masks; the cross entropy is the weighted mean over
    queries. Both divisors are those of :func:`~panscape.nn.losses.global_normalizers`. A void pixel is outside of every
    mask, as published.

    Args:
        layers: L pairs of category logits [B, Q, C + 1] and mask logits [B, Q, h, w], which are upsampled bilinearly.
        targets: each with a first axis B.
        matched: see :func:`~panscape.representations.queries.match.match_queries`.
        no_object_weight: weight in the cross entropy of queries without a mask.
    """
    device = targets.mask.device
    layer, image, row = (matched >= 0).nonzero(as_tuple=True)
    query = matched[layer, image, row]
    is_own = [layer == number for number in range(len(layers))]  # on the CPU: selecting waits for no device
    masks = [planes[image[own], query[own]] for (_, planes), own in zip(layers, is_own, strict=True)]
    layer, image, row, query = (index.to(device) for index in (layer, image, row, query))

    batch, num_queries, num_outcomes = layers[0][0].shape
    wanted = torch.full((len(layers), batch, num_queries), num_outcomes - 1, device=device)
    wanted[layer, image, query] = targets.category[image, row] - 1
    weight = torch.ones(num_outcomes, device=device)
    weight[-1] = no_object_weight
    category = [
        F.cross_entropy(logits.float().transpose(1, 2), outcome, weight, reduction="sum")
        for (logits, _), outcome in zip(layers, wanted, strict=True)
    ]
    counts = torch.stack([(targets.category > 0).sum().float(), weight[wanted[0]].sum()])
    num_masks, sum_of_weights = global_normalizers(counts)

    each = mask_losses(torch.cat(masks).float(), targets.mask, image, row + 1)
    focal, dice = each.new_zeros(2, len(layers)).index_add(1, layer, each) / num_masks
    return QueryLosses(torch.stack(category) / sum_of_weights, focal, dice)


def mask_losses(logits: Tensor, numbers: Tensor, image: Tensor, number: Tensor) -> Tensor:
    """Return the focal loss, averaged over pixels, and the dice loss of each mask, float [2, M].

    At the size of the input masks take much memory: few are computed at once, and again for their gradients.

    Args:
        logits: of the masks, float [M, h, w].
        numbers: the mask that each pixel belongs to, int32 [B, H, W].
        image: of each mask, int64 [M].
        number: of each mask, int64 [M].
    """
    size = numbers.shape[-2:]

    def some(logits: Tensor, image: Tensor, number: Tensor) -> Tensor:
        mask = (numbers[image] == number[:, None, None]).flatten(1).float()
        whole = F.interpolate(logits[:, None], size=size, mode="bilinear", align_corners=False).flatten(1)
        return torch.stack([sigmoid_focal_loss(whole, mask).mean(dim=1), dice_loss(whole, mask)])

    if len(logits) == 0:
        return logits.new_zeros(2, 0) + logits.sum()  # 0, with a gradient path
    masks_at_once = max(1, _PIXELS_AT_ONCE // size.numel())
    parts = zip(*(torch.split(t, masks_at_once) for t in (logits, image, number)), strict=True)
    losses = [checkpoint(some, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    return torch.cat(losses, dim=1)
