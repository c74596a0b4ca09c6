"""Training targets of networks that classify masks, from an id map."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from panscape.geometry import require_fits
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap
from panscape.representations.checks import check_categories


class QueryTargets(NamedTuple):
    """Encoded and padded ground truth; stacked along a first axis for a batch.

    The masks do not overlap, so one image of their numbers holds them all.

    Attributes:
        mask: int32 [H, W], the mask that a pixel belongs to, as its row in ``category`` plus 1; 0 for none: void,
            padding, crowds, and masks beyond the largest N.
        category: category id + 1 of each mask, int64 [N]; 0 for unused rows, which come last.
    """

    mask: Tensor
    category: Tensor


def encode_queries(truth: PanopticMap, labels: LabelSpace, padded_to: tuple[int, int], max_masks: int) -> QueryTargets:
    """Encode one ground truth: one mask for each thing, and one for each category of stuff.

    Args:
        truth: ground truth on the CPU, of the input, without the padding to ``padded_to``.
        labels: label space, which defines things and stuff.
        padded_to: height and width of the network's input.
        max_masks: number of rows of the table; of more masks the largest are kept.

    Raises:
        InvalidArgumentError: the ground truth has categories that the label space lacks or is larger than
            ``padded_to``.
    """
    check_categories(truth, labels)
    require_fits(truth.size, padded_to)
    areas = truth.areas()
    is_used = areas > 0 if truth.crowd is None else (areas > 0) & ~truth.crowd
    segments = is_used.nonzero()[:, 0]
    is_thing = torch.tensor([c.is_thing for c in labels])[truth.category[segments]]
    # Segments of one key are one mask: stuff of one category, first, and each thing.
    key = torch.where(is_thing, len(labels) + segments, truth.category[segments])
    keys, mask_of = torch.unique(key, return_inverse=True)
    size = torch.zeros_like(keys).index_add_(0, mask_of, areas[segments])
    kept = size.sort(descending=True, stable=True).indices[:max_masks].sort().values
    category = torch.zeros(max_masks, dtype=torch.int64)
    category[: len(kept)] = torch.zeros_like(keys).scatter_(0, mask_of, truth.category[segments])[kept] + 1
    number = torch.zeros(len(keys), dtype=torch.int32)
    number[kept] = torch.arange(1, len(kept) + 1, dtype=torch.int32)
    table = torch.zeros(len(truth) + 1, dtype=torch.int32)
    table[1 + segments] = number[mask_of]
    return QueryTargets(table[truth.pad(*padded_to).ids.long()], category)
