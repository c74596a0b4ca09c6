"""Queries with the certainty of the ground truth, to measure how much categories and masks cost."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from panscape.representations.queries.encode import QueryTargets
from panscape.representations.queries.types import QueryOutputs
from panscape.representations.regions.oracles import SURE

QUERY_ORACLES = ("categories", "masks")
"""The parts that :meth:`QueryRepresentation.decode_with_truth` can replace."""


def perfect_categories(logits: Tensor, targets: QueryTargets, matched: Tensor) -> Tensor:
    """Return category logits that are certain: of matched queries those of their masks, of others "no object".

    Args:
        logits: of one image, float [1, Q, C + 1].
        targets: a batch of one.
        matched: the query of each mask, -1 for none, int64 [N].
    """
    category = torch.full_like(logits[0, :, 0], logits.shape[2] - 1, dtype=torch.int64)
    category[matched[matched >= 0]] = targets.category[0, matched >= 0] - 1
    return torch.where(F.one_hot(category, logits.shape[2]) > 0, SURE, -SURE)[None]


def perfect_masks(
    outputs: QueryOutputs, targets: QueryTargets, matched: Tensor, padded_size: tuple[int, int]
) -> Tensor:
    """Return mask logits at the size of the input, certain for matched queries and upsampled for the others.

    Args:
        outputs: of one image.
        targets: a batch of one.
        matched: the query of each mask, -1 for none, int64 [N].
        padded_size: height and width of the padded input.

    Returns:
        float [1, Q, H, W].
    """
    masks = F.interpolate(outputs.mask_logits.float(), size=padded_size, mode="bilinear", align_corners=False)
    rows = (matched >= 0).nonzero()
    masks[0, matched[rows[:, 0]]] = torch.where(targets.mask == rows[:, :, None] + 1, SURE, -SURE)
    return masks
