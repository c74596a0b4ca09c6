"""Merge queries into a panoptic map by the rules of MaskFormer, Mask2Former, OneFormer, EoMT and DETR.

1. A query's category and score are the largest of its C + 1 probabilities. Queries of "no object", and those whose
   score is not above ``score_threshold``, are dropped.
2. Mask logits are resized to the image: upsampled to the network's input, cropped to the part that was image, and
   resized to the image's size. A mask is where its probability is at least 0.5.
3. Every pixel is assigned to the query with the largest product of score and probability.
4. In their order, queries are accepted if they have pixels, and these are at least ``overlap_threshold`` of the area of
   the mask. Pixels of the others are void.
5. An accepted query is a new segment with its pixels: for "maskformer" all those assigned to it, for the other rules
   those within its mask, and none without such pixels. Stuff joins the earlier segment of its category.

Ids count the segments from 1, and 0 is void. EoMT's code counts from 0 with -1 as void; the other codes count as here.

DETR ("detr") differs from step 3 on. Every pixel is assigned to the query with the largest mask logit, whatever the
scores. Queries with at most four pixels are dropped, and all pixels are assigned anew to the others, until none is
dropped; the first time, the queries of each stuff category count as their first one. Each query that is left is a
segment. Its code assigns pixels at the network's input and enlarges the map; here masks are resized, as for all rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.ops.interpolate import finite_values
from panscape.representations.queries.assign import Assignment, assign_pixels_reference, resize_weights
from panscape.representations.queries.assign_cpu import assign_pixels, renumber

MergeRule = Literal["maskformer", "mask2former", "oneformer", "eomt", "detr"]

_MAX_SMALL = 4  # pixels of a segment that DETR drops
# Probabilities of logits beyond 16 are equal in float32. Divided by this number, those up to 80 keep their order.
_LOGIT_DIVISOR = 8

# Numbers in one band of rows of all masks on a device: 128 MB each for a few intermediate results.
_DEVICE_ELEMENTS = 2**25


class MergedQueries(NamedTuple):
    """A panoptic map of S segments.

    Attributes:
        ids: int32 [H, W]: 0 is void, and s is entry s - 1 of the others.
        category: of each segment, 0..C - 1, int64 [S].
        score: probability of this category, of the segment's first query, float32 [S].
        query: the first query of each segment, ascending, int64 [S].
    """

    ids: Tensor
    category: Tensor
    score: Tensor
    query: Tensor


def merge_queries(
    category_logits: Tensor,
    mask_logits: Tensor,
    size: tuple[int, int],
    *,
    rule: MergeRule,
    things: Iterable[int],
    score_threshold: float = 0.8,
    overlap_threshold: float = 0.8,
    inference_size: tuple[int, int] | None = None,
    padded_size: tuple[int, int] | None = None,
) -> MergedQueries:
    """Merge the queries of one image into segments, and return the query of each.

    On the CPU, masks are never upsampled as a whole. On a device, the number of times that the CPU waits for it does
    not depend on the number of queries.

    :func:`panscape.postprocess.map_from_queries` does the same for the outputs of any network, and returns a map.

    Args:
        category_logits: of Q queries, float [Q, C + 1]; the last category is "no object".
        mask_logits: float [Q, h, w], which cover the padded input.
        size: height and width of the image and of the map.
        rule: whose rule, see above.
        things: categories whose queries are separate objects; the others are stuff.
        score_threshold: queries must score above it, 0..1. The published configurations have 0.8, except MaskFormer's
            for ADE20K (0.7) and Mask2Former's for Mapillary Vistas (0).
        overlap_threshold: least share of a mask that must be assigned to its query, 0..1; not used by "detr".
        inference_size: size at which the image entered the network, before padding; None for ``size``.
        padded_size: size of the network's input; None for ``inference_size``.

    Raises:
        InvalidArgumentError: a shape, a threshold, a size or a thing is out of range, or the rule is unknown.
    """
    _check(category_logits, mask_logits, rule, score_threshold, overlap_threshold)
    geometry = ImageGeometry.of(size, inference_size, padded_size)
    is_thing = _flags(things, category_logits.shape[1] - 1, category_logits.device)
    query, category, score = select_queries(category_logits, score_threshold)
    if not len(query):
        return MergedQueries(query.new_zeros(geometry.size, dtype=torch.int32), category, score, query)
    if rule == "detr":
        query, category, score, assigned = _without_small(mask_logits, query, category, score, is_thing, geometry)
        return number_segments(assigned, query, category, score, is_thing, "maskformer", 0.0)
    assigned = _assign(mask_logits, query, score, geometry)
    return number_segments(assigned, query, category, score, is_thing, rule, overlap_threshold)


def _assign(mask_logits: Tensor, query: Tensor, score: Tensor, geometry: ImageGeometry) -> Assignment:
    """Assign every pixel to one of some queries."""
    if mask_logits.device.type == "cpu":
        planes = mask_logits.detach().contiguous()
        if planes.dtype != torch.float32:
            planes = planes.float()
        steps = resize_weights(planes.shape[1], planes.shape[2], geometry)
        code, *counts = assign_pixels(planes.numpy(), query.numpy(), score.numpy(), steps)
        return Assignment(torch.from_numpy(code), *(torch.from_numpy(part) for part in counts))
    return assign_pixels_reference(mask_logits[query], score, geometry, _DEVICE_ELEMENTS)


def _without_small(
    mask_logits: Tensor, query: Tensor, category: Tensor, score: Tensor, is_thing: Tensor, geometry: ImageGeometry
) -> tuple[Tensor, Tensor, Tensor, Assignment]:
    """Return the queries that DETR keeps, with their categories and scores, and the pixels of each."""
    planes = mask_logits / _LOGIT_DIVISOR
    # Whose pixels count as whose: the first time, those of stuff as those of its first query.
    index = torch.arange(len(query), device=query.device)
    is_same = (category[:, None] == category) & ~is_thing[category] | (index[:, None] == index)
    owner = torch.where(is_same, index, len(query)).amin(1)
    while True:
        assigned = _assign(planes, query, torch.ones_like(score), geometry)
        inside, outside = assigned.num_assigned.view(2, -1)
        area = torch.zeros_like(inside).index_add_(0, owner, inside + outside)
        is_kept = area > _MAX_SMALL
        if bool(is_kept.all()) or not bool(is_kept.any()):  # the latter in images of a few pixels
            # Masks that are below 0.5 everywhere may have pixels, too.
            return query, category, score, assigned._replace(num_inside=assigned.num_inside.clamp_min(1))
        query, category, score = query[is_kept], category[is_kept], score[is_kept]
        owner = torch.arange(len(query), device=query.device)


def select_queries(category_logits: Tensor, score_threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return index, category and score of the queries to merge, int64 [N], int64 [N] and float32 [N]."""
    score, category = finite_values(category_logits).softmax(1).max(1)
    query = ((category != category_logits.shape[1] - 1) & (score > score_threshold)).nonzero()[:, 0]
    return query, category[query], score[query]


def number_segments(
    assigned: Assignment,
    query: Tensor,
    category: Tensor,
    score: Tensor,
    is_thing: Tensor,
    rule: MergeRule,
    overlap_threshold: float,
) -> MergedQueries:
    """Accept queries and number their segments; overwrites the codes if they are on the CPU."""
    num, whole_area = len(query), rule == "maskformer"
    inside, outside = assigned.num_assigned.view(2, num)
    area = inside + outside
    # As published, shares are compared in double precision: 80 of 100 pixels are enough for 0.8.
    is_accepted = (assigned.num_inside > 0) & (area > 0)
    is_accepted &= area.double() / assigned.num_inside.clamp_min(1).double() >= overlap_threshold
    if not whole_area:
        is_accepted &= inside > 0
    index = torch.arange(num, device=query.device)
    joins = (category[:, None] == category) & ~is_thing[category] & is_accepted | torch.eye(
        num, dtype=torch.bool, device=query.device
    )
    first = torch.where(joins, index, num).amin(1)
    is_new = is_accepted & (first == index)
    number = torch.where(is_accepted, is_new.cumsum(0)[first], 0).int()
    table = torch.cat([number, number if whole_area else torch.zeros_like(number)])
    if assigned.code.device.type == "cpu":
        ids = assigned.code
        renumber(ids.numpy(), table.numpy())
    else:
        ids = table[assigned.code]
    return MergedQueries(ids, category[is_new], score[is_new], query[is_new])


def _check(
    category_logits: Tensor, mask_logits: Tensor, rule: str, score_threshold: float, overlap_threshold: float
) -> None:
    if category_logits.ndim != 2 or mask_logits.ndim != 3 or len(category_logits) != len(mask_logits):
        raise InvalidArgumentError(
            "expected category logits [Q, C + 1] and mask logits [Q, h, w] of one image, got "
            f"{list(category_logits.shape)} and {list(mask_logits.shape)}; of a batch, give one image after the other"
        )
    if category_logits.shape[1] < 2 or 0 in mask_logits.shape[1:]:
        raise InvalidArgumentError(
            "expected logits of at least one category and of no object, and masks with pixels, got "
            f"{list(category_logits.shape)} and {list(mask_logits.shape)}"
        )
    if rule not in get_args(MergeRule):
        raise InvalidArgumentError(f"expected rule as one of {', '.join(get_args(MergeRule))}, got {rule!r}")
    for name, value in (("score_threshold", score_threshold), ("overlap_threshold", overlap_threshold)):
        if not 0 <= value <= 1:
            raise InvalidArgumentError(f"expected {name} in 0..1, got {value}")


def _flags(things: Iterable[int], num_categories: int, device: torch.device) -> Tensor:
    """Return whether each category is a thing, bool [C]."""
    ids = {int(thing) for thing in things}
    strange = sorted(thing for thing in ids if not 0 <= thing < num_categories)
    if strange:
        raise InvalidArgumentError(
            f"expected things in 0..{num_categories - 1}, the categories of the logits, got {strange[0]}"
        )
    return torch.tensor([category in ids for category in range(num_categories)], device=device)
