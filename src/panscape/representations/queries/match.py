"""Assignment of queries to the masks of the ground truth (Cheng et al., MaskFormer, arXiv 2107.06278, Section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.constraints import NonNegative, check_fields
from panscape.representations.queries.encode import QueryTargets

_ALPHA, _GAMMA = 0.25, 2


@dataclass(frozen=True, slots=True)
class QueryLossWeights:
    """Weights of the terms of the matching cost and of the loss.

    Attributes:
        category: Of the classification.
        focal: Of the focal loss of masks.
        dice: Of the dice loss of masks.

    Raises:
        InvalidArgumentError: a weight is negative or not finite.
    """

    category: NonNegative = 1.0
    focal: NonNegative = 20.0
    dice: NonNegative = 1.0

    def __post_init__(self) -> None:
        check_fields(self)


@torch.no_grad()
def matching_costs(
    category_logits: Tensor, mask_logits: Tensor, targets: QueryTargets, weights: QueryLossWeights
) -> Tensor:
    """Return the cost of assigning each query to each mask, float [B, Q, N].

    It is the weighted sum of minus the probability of the category, of the focal loss, averaged over pixels, and of the
    dice loss of the mask. The ground truth is reduced to the size of the logits by nearest neighbour, as published.

    Args:
        category_logits: float [B, Q, C + 1].
        mask_logits: float [B, Q, h, w].
        targets: each with a first axis B. The costs of unused rows have no meaning.
        weights: of the terms.
    """
    num_queries, num_masks = category_logits.shape[1], targets.category.shape[1]
    index = (targets.category - 1).clamp_min(0)[:, None].expand(-1, num_queries, -1)
    prob = category_logits.float().softmax(dim=2).gather(2, index)
    numbers = F.interpolate(targets.mask[:, None].float(), size=mask_logits.shape[-2:], mode="nearest").flatten(2)
    row = torch.arange(1, num_masks + 1, device=numbers.device)
    masks = (numbers.transpose(1, 2) == row).float()  # [B, h * w, N]
    logits = mask_logits.float().flatten(2)
    inside = logits.sigmoid()
    positive = _ALPHA * (1 - inside) ** _GAMMA * F.softplus(-logits)
    negative = (1 - _ALPHA) * inside**_GAMMA * F.softplus(logits)
    focal = ((positive - negative) @ masks + negative.sum(dim=2, keepdim=True)) / logits.shape[2]
    areas = inside.sum(dim=2, keepdim=True) + masks.sum(dim=1)[:, None]
    dice = 1 - (2 * (inside @ masks) + 1) / (areas + 1)
    return weights.focal * focal + weights.dice * dice - weights.category * prob


def match_queries(layers: Sequence[tuple[Tensor, Tensor]], targets: QueryTargets, weights: QueryLossWeights) -> Tensor:
    """Assign one query to each mask, in each image and decoder layer, with the least sum of costs (Hungarian matching).

    Args:
        layers: L pairs of category logits [B, Q, C + 1] and mask logits [B, Q, h, w].
        targets: each with a first axis B.
        weights: of the terms of the cost.

    Returns:
        The query of each mask, on the CPU, int64 [L, B, N]; -1 for unused rows, and for the masks left over if there
        are more masks than queries.
    """
    from scipy.optimize import linear_sum_assignment

    batch, rows = targets.category.shape
    matched = torch.full((len(layers), batch, rows), -1)
    num_masks = (targets.category > 0).sum(dim=1).tolist()
    used = targets._replace(category=targets.category[:, : max(num_masks)])
    # One transfer for all layers. A diverged training has costs that are not finite, which scipy refuses.
    costs = torch.stack([matching_costs(*layer, used, weights) for layer in layers]).nan_to_num().cpu().numpy()
    for layer, image in np.ndindex(len(layers), batch):
        query, row = linear_sum_assignment(costs[layer, image, :, : num_masks[image]])
        matched[layer, image, torch.from_numpy(row)] = torch.from_numpy(query)
    return matched
