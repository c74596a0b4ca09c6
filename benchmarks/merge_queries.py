"""Time the merging of queries: panscape, and the algorithms of two image processors of transformers 5.24.

Input: class and mask logits of 100 queries for 133 categories, the masks at stride 4 of a street-like scene of 1024 x
2048 pixels; queries without an object are "no object". Both algorithms are written here in torch as the processors run
them. EoMT's follows the authors' codes: masks are upsampled to the image's size, and merged one by one; its map is
compared with ours pixel by pixel. Mask2Former's first resizes all masks to 384 x 384, and differs from the authors'.
Times are CPU time of the process with one thread, the minimum over several rounds in which the implementations
alternate.

Run ``python benchmarks/merge_queries.py``; it prints a Markdown table. ``--memory`` prints the peak memory of each
implementation in addition to its inputs instead, each measured in a separate process (Linux).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from center_scenes import SIZE, STRIDE, street_map
from compare_decoding import compare
from torch import Tensor
from torch.nn import functional as F

from panscape.representations.queries import MergedQueries, merge_queries

NUM_QUERIES, NUM_CATEGORIES, NUM_THINGS = 100, 133, 80
SCORE, OVERLAP = 0.8, 0.8
COLUMNS = {
    "mask2former": "Mask2Former's processor",
    "eomt": "EoMT's processor",
    "fused": "panscape",
}


class Logits(NamedTuple):
    """Logits of one image."""

    category: Tensor
    masks: Tensor


def outputs_for(num_objects: int) -> Logits:
    """Return noisy logits for a street-like scene: a query for each segment, the others with no object."""
    g = torch.Generator().manual_seed(0)
    truth = street_map(num_things=num_objects)
    masks = F.avg_pool2d(truth.masks()[:NUM_QUERIES].float()[None], STRIDE)[0] * 16 - 8
    masks = torch.cat([masks, torch.full((NUM_QUERIES - len(masks), *masks.shape[1:]), -8.0)])
    masks += torch.randn(masks.shape, generator=g) / 2
    is_thing = truth.category[:NUM_QUERIES] >= 11
    category = torch.where(is_thing, truth.category[:NUM_QUERIES], truth.category[:NUM_QUERIES] + NUM_THINGS)
    category = torch.cat([category, torch.full((NUM_QUERIES - len(category),), NUM_CATEGORIES)])
    logits = torch.zeros(NUM_QUERIES, NUM_CATEGORIES + 1)
    logits[torch.arange(NUM_QUERIES), category] = 8 + 4 * torch.rand(NUM_QUERIES, generator=g)
    return Logits(logits, masks)


def as_eomt(given: Logits) -> MergedQueries:
    """Merge as EoMT's processor; ids from 1 as ours."""
    prob = F.interpolate(given.masks[None], SIZE, mode="bilinear", align_corners=False)[0]
    score, category = given.category.softmax(1).max(1)
    keep = ((category != NUM_CATEGORIES) & (score > SCORE)).nonzero()[:, 0]
    prob, score, category = prob[keep].sigmoid(), score[keep], category[keep]
    winner = (prob * score[:, None, None]).argmax(0)
    ids = torch.zeros(SIZE, dtype=torch.int32)
    rows: list[int] = []
    stuff: dict[int, int] = {}
    for k, label in enumerate(category.tolist()):
        own, mask = winner == k, prob[k] >= 0.5
        painted = own & mask
        if not own.any() or not mask.any() or not painted.any() or own.sum() / mask.sum() < OVERLAP:
            continue
        if label not in stuff:
            rows.append(k)
        number = stuff.get(label, len(rows))
        ids[painted] = number
        if label >= NUM_THINGS:
            stuff[label] = number
    return MergedQueries(ids, category[rows], score[rows], keep[rows])


def as_mask2former(given: Logits) -> Tensor:
    """Merge as Mask2Former's processor; only the ids."""
    prob = F.interpolate(given.masks[None], (384, 384), mode="bilinear", align_corners=False)[0].sigmoid()
    score, category = given.category.softmax(1).max(1)
    keep = (category != NUM_CATEGORIES) & (score > SCORE)
    prob, score, category = prob[keep], score[keep], category[keep]
    prob = F.interpolate(prob[None], SIZE, mode="bilinear", align_corners=False)[0]
    prob *= score[:, None, None]
    winner = prob.argmax(0)
    ids = torch.zeros(SIZE, dtype=torch.int32)
    number = 0
    stuff: dict[int, int] = {}
    for k, label in enumerate(category.tolist()):
        own, mask = winner == k, prob[k] >= 0.5
        if own.sum() > 0 and mask.sum() > 0 and own.sum() / mask.sum() > OVERLAP:
            number = stuff.get(label, number + 1)
            ids[own] = number
            if label >= NUM_THINGS:
                stuff[label] = number
    return ids


def fused(given: Logits) -> MergedQueries:
    """Merge with our function."""
    return merge_queries(
        given.category,
        given.masks,
        SIZE,
        rule="eomt",
        things=range(NUM_THINGS),
        score_threshold=SCORE,
        overlap_threshold=OVERLAP,
    )


def ways(given: Logits) -> dict[str, Callable[[], object]]:
    """Return the compared implementations by name."""
    return {
        "mask2former": lambda: as_mask2former(given),
        "eomt": lambda: as_eomt(given),
        "fused": lambda: fused(given),
    }


def check(given: Logits) -> tuple[int, str]:
    """Compare the maps; return the number of segments and of pixels that differ from EoMT's."""
    ours, theirs = fused(given), as_eomt(given)
    assert ours.query.equal(theirs.query)
    assert ours.category.equal(theirs.category)
    return len(ours.query), str(int((ours.ids != theirs.ids).sum()))


if __name__ == "__main__":
    compare(
        __doc__,
        __file__,
        outputs_for=outputs_for,
        ways=ways,
        check=check,
        columns=COLUMNS,
        slow=("mask2former", "eomt"),
        speedup=("eomt", "fused"),
        objects=(10, 40, 89),
    )
